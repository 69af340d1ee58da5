"""A fuzzer of the reader of files: files of every kind, damaged at random, are opened under limits.

    python -m tests.harness.formats.fuzz_reader --runs 50000

Run i depends on i alone. It prints how many files were opened and refused, of each kind, every run that was neither,
and the most memory that a process took. Exit code 1 if a run was neither opened nor refused in one line.
"""

import argparse
import io
import json
import struct
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as save_safetensors

from assay.generators.vae import VAENetwork

from ...family_files import FAMILIES
from ...nvlabs import dump, dumps, instance, named, plain, record, save
from .limited import OPENERS, SECONDS, child, limit, outcome

Rng = np.random.Generator
BATCH = 500
"""Runs of one process."""


def tensors() -> dict[str, torch.Tensor]:
    weight = torch.arange(12.0).reshape(3, 4)
    return {"a.weight": weight, "a.bias": torch.ones(3), "b.half": weight.t().half(), "b.count": torch.tensor(5)}


def written(write: Callable[[Path], Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "file")
        return (Path(folder) / "file").read_bytes()


def array_file(save_arrays: Callable[..., None]) -> bytes:
    buffer = io.BytesIO()
    names = {"names": np.array(["x", "y"]), "split": np.array(["base", "novel"])}
    save_arrays(buffer, features=np.ones((4, 3), np.float32), labels=np.array([0, 0, 1, 1]), **names)
    return buffer.getvalue()


def trained() -> bytes:
    told = {"family": "vae", "channels": 1, "size": 8, "latent_dim": 2, "bits": 8}
    return save_safetensors(VAENetwork(1, 8, 2).state_dict(), {"assay": json.dumps(told)})


def one_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((4, 3)))
    return buffer.getvalue()


def pictures() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.txt", "text" * 100)
        archive.writestr("b/1.txt", "other" * 100)
    return buffer.getvalue()


CONFIG = {"model": {"params": {"image_size": 64, "betas": [1e-4, 0.02], "unet_config": {"params": {"heads": 8}}}}}
YAML = "model:\n  params:\n    image_size: 64\n    rates: [1e-4, 0.02]\n    list: &a [1, 2]\n    same: 1\nname: 'x'\n"
MODEL = {"epoch": 3, "sizes": (1, 2), "kept": {1.5, "x"}, "config": instance("app.Config", depth=3)}
KINDS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "nvlabs pickle": (
        "checkpoint",
        lambda: dumps({"G_ema": record("Generator", tensors(), {"z_dim": 4}, {"count"}), "x": np.ones(3)}, 4),
    ),
    "pickle, protocol 2": (
        "checkpoint",
        lambda: dumps({"G": plain("app.Generator", tensors(), {"count"}), **MODEL}, 2),
    ),
    "pickle, protocol 5": ("checkpoint", lambda: written(lambda p: dump(p, {"G": np.arange(6.0), **MODEL}, 5))),
    "torch": ("checkpoint", lambda: written(lambda p: save(p, {"a": tensors(), "c": {named("app.B"): {1, 2}}}))),
    "torch, legacy": ("checkpoint", lambda: written(lambda p: save(p, {"a": tensors(), **MODEL}, legacy=True))),
    "safetensors": (
        "checkpoint",
        lambda: save_safetensors({n: t.contiguous() for n, t in tensors().items()}, {"a": "b"}),
    ),
    "safetensors of a family": ("load", trained),
    "npz": ("arrays", lambda: array_file(np.savez)),
    "npz, compressed": ("arrays", lambda: array_file(np.savez_compressed)),
    "npz of features": ("features", lambda: array_file(np.savez)),
    "npy": ("arrays", one_array),
    "json": ("json", lambda: json.dumps(CONFIG).encode()),
    "yaml": ("settings", YAML.encode),
    "zip": ("zip", pictures),
}
"""Kinds of files: the opener, and what writes one."""
OFTEN = 10
"""So many times as often come these as the checkpoints of families, which take as much longer to open."""
TURNS = [*OFTEN * list(KINDS), *FAMILIES]
"""The kinds in turn."""

NUMBERS = (b"0", b"-1", b"4294967296", b"9223372036854775808", b"1e999", b"NaN", b"99999999999999999999999999")
WORDS = (b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\0\0\0\0\x40")
OPCODES = b"()]}0125NRbtuseahjqrlodcX\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x96"


def flip(raw: bytearray, at: int, rng: Rng) -> None:
    raw[at] = rng.integers(256)


def instruct(raw: bytearray, at: int, rng: Rng) -> None:
    raw[at] = OPCODES[rng.integers(len(OPCODES))]


def enlarge(raw: bytearray, at: int, rng: Rng) -> None:
    word = WORDS[rng.integers(len(WORDS))]
    raw[at : at + len(word)] = word


def renumber(raw: bytearray, at: int, rng: Rng) -> None:
    """Another number in place of the first digits after a place."""
    digits = [i for i in range(at, min(at + 200, len(raw))) if 48 <= raw[i] < 58]
    if digits:
        raw[digits[0] : digits[0] + 1] = NUMBERS[rng.integers(len(NUMBERS))]


def repeat(raw: bytearray, at: int, rng: Rng) -> None:
    """A short piece, up to 30,000 times."""
    piece = bytes(raw[at : at + int(rng.integers(1, 12))])
    raw[at:at] = piece * int(10 ** rng.uniform(0, 4.5))


def remove(raw: bytearray, at: int, rng: Rng) -> None:
    del raw[at : at + int(rng.integers(1, 40))]


def move(raw: bytearray, at: int, rng: Rng) -> None:
    begin = int(rng.integers(len(raw)))
    raw[at:at] = raw[begin : begin + int(rng.integers(1, 200))]


def cut(raw: bytearray, at: int, rng: Rng) -> None:
    del raw[at:]


CHANGES = (flip, flip, instruct, instruct, enlarge, renumber, repeat, remove, move, cut)


def changed(raw: bytes, rng: Rng) -> bytes:
    """One to four changes at random places."""
    found = bytearray(raw)
    for _ in range(rng.integers(1, 5)):
        if found:
            CHANGES[rng.integers(len(CHANGES))](found, int(rng.integers(len(found))), rng)
    return bytes(found)


def changed_inside(raw: bytes, rng: Rng) -> bytes:
    """The header of a safetensors file, or one file of a zip archive, changed, and all around it made to fit."""
    if raw[:2] == b"PK":
        buffer = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(buffer, "w") as new:
            names = old.namelist()
            (pickled, *_) = [i for i, name in enumerate(names) if name.endswith("data.pkl")] or [0]
            chosen = rng.integers(len(names)) if rng.random() < 0.5 else pickled  # most others are numbers
            for i, entry in enumerate(old.infolist()):
                content = old.read(entry)
                new.writestr(entry.filename, changed(content, rng) if i == chosen else content, entry.compress_type)
        return buffer.getvalue()
    length = int.from_bytes(raw[:8], "little")
    header = changed(raw[8 : 8 + length], rng)
    return struct.pack("<Q", len(header)) + header + raw[8 + length :]


def mutant(run: int, whole: dict[str, bytes]) -> tuple[str, bytes]:
    """The kind of a run, and the damaged file."""
    rng = np.random.default_rng(run)
    kind = TURNS[run % len(TURNS)]
    raw = whole[kind]
    inside = raw[:2] == b"PK" or "safetensors" in kind
    return kind, changed_inside(raw, rng) if inside and rng.random() < 0.7 else changed(raw, rng)


def opened(first: int, last: int) -> Iterator[tuple[int, str, str]]:
    """Number, kind and outcome of some runs, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: Path(folder) / "file" for kind in KINDS}
        whole = {kind: make() for kind, (_, make) in KINDS.items()}
        for number, (kind, family) in enumerate(FAMILIES.items()):
            (beside := Path(folder) / str(number)).mkdir()
            paths[kind] = Path(family.write(beside))
            whole[kind], OPENERS[kind] = paths[kind].read_bytes(), family.open
        for run in range(first, last):
            kind, raw = mutant(run, whole)
            paths[kind].write_bytes(raw)
            yield run, kind, outcome(KINDS[kind][0] if kind in KINDS else kind, paths[kind])


def fuzz(first: int, last: int, seconds: float) -> tuple[Counter[tuple[str, str]], list[str], int]:
    """How many runs of each kind were "opened" and "refused"; those that were neither; and the most memory, in bytes.

    seconds: after so many, by the clock, no more runs are begun.
    """
    counts: Counter[tuple[str, str]] = Counter()
    faults: list[str] = []
    peak, end = 0, time.monotonic() + seconds
    while first < last and time.monotonic() < end:
        lines, ended = child("fuzz_reader", "--child", str(first), str(min(first + BATCH, last)), seconds=seconds + 60)
        for line in lines:
            run, kind, came, memory = json.loads(line)
            first, peak = run + 1, max(peak, memory)
            fault = came.startswith(("escaped", "hung", "died"))
            counts[kind, "fault" if fault else "opened" if came == "opened" else "refused"] += 1
            faults += [f"run {run}, {kind}: {came}"] if fault else []
        if ended == "hung" and time.monotonic() >= end:  # time is over; a run that takes too long ends by itself
            break
        if ended:
            kind = TURNS[first % len(TURNS)]
            counts[kind, "fault"] += 1
            faults.append(f"run {first}, {kind}: {ended}")
            first += 1
    return counts, faults, peak


def peak_memory() -> int:
    """Most bytes that this process has had; `ru_maxrss` begins with those of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first run")
    parser.add_argument("--seconds", type=float, default=600, help="after so many no more runs are begun")
    parser.add_argument("--child", type=int, nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        limit()
        for run, kind, came in opened(*chosen.child):
            print(json.dumps([run, kind, came, peak_memory()]), flush=True)
        return 0
    counts, faults, peak = fuzz(chosen.first, chosen.first + chosen.runs, chosen.seconds)
    for kind in (*KINDS, *FAMILIES):
        print(f"{kind}: {counts[kind, 'opened']:,} opened, {counts[kind, 'refused']:,} refused")
    print(*faults, sep="\n")
    print(
        f"{sum(counts.values()):,} runs, {len(faults)} faults, at most {peak / 2**20:.0f} MiB, limit {SECONDS} s each"
    )
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
