"""Kills workers and commands at random moments, and compares what the next command leaves with an untroubled run.

    python -m tests.benchmarks.kills --workers 20 --drivers 10

Prints a line for each run; exits with 1 where a byte of records or tables differs, a process outlives its command, or
`assay status` tells what is not so.
"""

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from assay.harness.engines.plan import Job, Plan, status

from ..harness.engines.slow_runs import METRICS, carried_out, environment, line, written

PAUSE = "0.1"
ASKED = ("-m", "seed=0,1", "n=3000", f"metric=[{','.join(METRICS)}]")
PER_RUN = 7
PATIENCE = 150.0
"""Seconds until the processes of a killed command must be gone: two helpers of Ray need over a minute to notice."""


def at_work(out: Path) -> list[Job]:
    """Workers that are at arrays or jobs."""
    found = [*Plan(out / "run", "arrays").jobs(), *Plan(out / "run").jobs()]
    return [job for job in found if job.is_alive]


def started(engine: str, out: Path, cache: Path) -> "subprocess.Popen[bytes]":
    log = (out.parent / f"{out.name}.log").open("ab")
    environs = environment(cache, ASSAY_TEST_PAUSE=PAUSE)
    return subprocess.Popen(line(engine, out, *ASKED), stdout=log, stderr=log, env=environs, start_new_session=True)


def members(session: int) -> Iterator[int]:
    """Processes that belong to a command, or that it has left behind."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            yield int(folder.name)


def again(engine: str, out: Path, cache: Path, reference: dict[str, bytes]) -> str:
    """What is wrong after the next command, which must put all in order; empty where nothing is."""
    done = carried_out(engine, out, cache, *ASKED, ASSAY_TEST_PAUSE=PAUSE)
    if done.returncode:
        return f"exit {done.returncode}: {done.stderr[-2000:]}"
    there = written(out)
    differing = sorted(name for name in reference.keys() | there.keys() if reference.get(name) != there.get(name))
    if differing:
        return f"differing: {', '.join(differing)}"
    found = status(out / "run").counts
    return "" if found["done"] == sum(found.values()) == len(METRICS) * 2 else f"status: {found}"


def kill_workers(engine: str, top: Path, reference: dict[str, bytes], kills: int, rng: random.Random) -> Iterator[str]:
    """Runs in which workers at work are killed, until so many were."""
    done, run = 0, 0
    while done < kills:
        run += 1
        out = top / f"{engine}-{run}"
        command, here = started(engine, out, out / "cache"), 0
        while command.poll() is None:
            time.sleep(rng.uniform(0.2, 1.5))
            if here < min(PER_RUN, kills - done) and (workers := at_work(out)):
                chosen = rng.choice(workers)
                try:
                    os.kill(chosen.process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                here += 1
        done += here
        left = at_work(out)
        wrong = again(engine, out, out / "cache", reference)
        yield f"{engine}: {here} workers killed, exit {command.returncode}; next: {wrong or 'same bytes'}" + (
            f"; still at work: {left}" if left else ""
        )


def kill_drivers(engine: str, top: Path, reference: dict[str, bytes], kills: int, rng: random.Random) -> Iterator[str]:
    """Runs whose command is killed, as far as it has got with arrays or jobs."""
    for run in range(kills):
        out = top / f"{engine}-command-{run}"
        command = started(engine, out, out / "cache")
        while command.poll() is None and not at_work(out):
            time.sleep(0.1)
        time.sleep(rng.uniform(0, 4))
        command.kill()
        command.wait()
        gone_after, begin = 0.0, time.monotonic()
        while list(members(command.pid)) and gone_after < PATIENCE:
            time.sleep(0.1)
            gone_after = time.monotonic() - begin
        left = list(members(command.pid))
        running = status(out / "run").counts["running"]
        wrong = again(engine, out, out / "cache", reference)
        told = f"{engine}: command killed (exit {command.returncode}), its processes gone after {gone_after:.1f} s"
        told += f"; still there: {left}" if left else ""
        told += f"; status says {running} running" if running else ""
        yield f"{told}; next: {wrong or 'same bytes'}"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--engines", nargs="+", default=["processes", "ray"])
    parser.add_argument("--workers", type=int, default=20, help="workers to kill, of each engine")
    parser.add_argument("--drivers", type=int, default=10, help="commands to kill, shared by the engines")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    rng, wrong = random.Random(asked.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        first = carried_out("local", top / "reference", top / "cache", *ASKED)
        if first.returncode:
            sys.exit(first.stderr)
        reference = written(top / "reference")
        print(f"reference: {len(reference)} files", flush=True)
        for i, engine in enumerate(asked.engines):
            share = asked.drivers // len(asked.engines) + (i < asked.drivers % len(asked.engines))
            runs = (
                kill_workers(engine, top, reference, asked.workers, rng),
                kill_drivers(engine, top, reference, share, rng),
            )
            for told in itertools.chain(*runs):
                wrong += not told.endswith("same bytes") or " still " in told or " says " in told
                print(told, flush=True)
    print("all the same" if not wrong else f"{wrong} runs went wrong", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
