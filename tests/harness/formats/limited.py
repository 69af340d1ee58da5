"""Opens files in a process of its own with limits, as a test of whatever they may do to it.

What comes of a file is "opened", or the line with which it was refused. Anything else is a fault of the reader, and
begins with "escaped" (an exception that is no refusal, or one of several lines), "hung" (too much processor time) or
"died" (a crash, or too much memory).
"""

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import assay
from assay.harness.core import registry
from assay.harness.core.folders import Archive
from assay.harness.formats.arrays import read_arrays
from assay.harness.formats.checkpoint import read_checkpoint, tensors_of
from assay.harness.formats.feature_files import read_feature_set
from assay.harness.formats.inert import Inert
from assay.harness.formats.settings import read_json, read_settings

ROOT = Path(__file__).parents[3]
SECONDS, ROOM = 20, 4 * 2**30
"""Most processor time of one file, and most address space of the process; torch alone takes about 1 GiB of that."""
REFUSALS = (ValueError, OSError, LookupError)


def checkpoint(path: Path) -> None:
    """What `assay.load` looks at before a family opens a file, and the tensors of every module near the top."""
    found = read_checkpoint(path)
    json.dumps(found.card)
    for entry in registry.GENERATORS.values():
        if entry.recognise:
            entry.recognise(found.content)
    parts = found.content.values() if isinstance(found.content, dict) else [found.content]
    for part in parts:
        if isinstance(part, Inert):
            with suppress(ValueError):  # most records are no modules
                tensors_of(part)


def arrays(path: Path) -> None:
    found = read_arrays(path, "array")
    for name in found:
        np.asarray(found[name]).tobytes()


def zipped(path: Path) -> None:
    archive = Archive(path)
    for name in archive.names:
        archive.open(name).read()


OPENERS: dict[str, Callable[[Path], Any]] = {
    "checkpoint": checkpoint,
    "load": assay.load,
    "arrays": arrays,
    "features": read_feature_set,
    "json": read_json,
    "settings": read_settings,
    "zip": zipped,
}
"""The readers of files, by name."""


def outcome(opener: str, path: Path) -> str:
    """What comes of a file in this process, of which a timer ends what takes too long."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        OPENERS[opener](path)
        return "opened"
    except REFUSALS as error:
        line = str(error)
        return line if line.strip() and "\n" not in line else f"escaped: {type(error).__name__} {line[:300]!r}"
    except BaseException as error:
        return f"escaped: {type(error).__name__} {str(error)[:300]!r}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def limit() -> None:
    """Take the limits, for the rest of this process; and make known which families there are."""
    registry.discover()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))


def child(module: str, *arguments: str, seconds: float) -> tuple[list[str], str]:
    """The lines that a module of the tests prints in a process of its own, and how it ended: "", "hung" or "died"."""
    command = [sys.executable, "-m", f"tests.harness.formats.{module}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            said, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            said, _ = process.communicate()
            return said.splitlines(), "hung"
    if process.returncode in (-signal.SIGPROF, -signal.SIGXCPU):
        return said.splitlines(), "hung"
    return said.splitlines(), f"died (exit {process.returncode})" if process.returncode else ""


def outcomes(files: Sequence[tuple[str, Path]], seconds: float = 600) -> list[str]:
    """What comes of files, each with the name of its opener."""
    found: list[str] = []
    while len(found) < len(files):
        rest = [part for opener, path in files[len(found) :] for part in (opener, str(path))]
        lines, end = child("limited", *rest, seconds=seconds)
        found += [json.loads(line) for line in lines]
        if end:
            found.append(end)
    return found


if __name__ == "__main__":
    limit()
    for opener, name in zip(sys.argv[1::2], sys.argv[2::2], strict=True):
        print(json.dumps(outcome(opener, Path(name))), flush=True)
