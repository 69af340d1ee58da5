"""One process at a time has a claim, and it is free as soon as its process is gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.harness.core.claims import claimed

HOLD = """
import sys, time
from pathlib import Path
from assay.harness.core.claims import claimed
with claimed(Path(sys.argv[1]), sys.argv[2]):
    print("has it", flush=True)
    time.sleep(60)
"""


def holder(file: Path, name: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(file), name], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "has it\n"
    return process


def test_it_is_waited_for_until_its_process_is_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / ".claims"
    other = holder(file, "a")
    try:
        with claimed(file, "b", "waiting for b"):
            pass  # another name is free
        pid = os.fork()
        if pid == 0:  # kills the holder in a moment; while the claim is waited for nothing else can
            time.sleep(0.2)
            os.kill(other.pid, signal.SIGKILL)
            os._exit(0)
        with claimed(file, "a", "waiting for a"):
            assert other.wait(5) == -signal.SIGKILL
        os.waitpid(pid, 0)
    finally:
        other.kill()
        other.communicate()
    said = capsys.readouterr().err
    assert "waiting for a" in said
    assert "waiting for b" not in said


def test_claims_of_one_process_do_not_end_each_other(tmp_path: Path) -> None:
    """To close a file gives up all locks that a process has on it, so the inner claim must leave it open."""
    file = tmp_path / ".claims"
    with claimed(file, "outer"):
        with claimed(file, "inner"):
            pass
        probe = "import sys; from pathlib import Path; from assay.harness.core.claims import claimed\n"
        probe += "with claimed(Path(sys.argv[1]), 'outer', 'it is taken'): pass"
        other = subprocess.Popen([sys.executable, "-c", probe, str(file)], stderr=subprocess.PIPE, text=True)
        assert other.stderr is not None
        assert other.stderr.readline() == "it is taken\n"
    assert other.wait(10) == 0
    other.stderr.close()


def test_where_nothing_can_be_written_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with claimed(tmp_path / "file" / "no folder" / ".claims", "a"):
        pass
