"""Files are written whole, by any number of writers on any number of hosts; nobody removes what another one writes."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.harness.core import files as module
from assay.harness.core.files import WRITTEN, replace, require_plain, require_writable, temporary_beside, writing
from assay.harness.core.locks import claim
from assay.harness.formats.download import temporary_folder

UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc"]
CONTAINERS = bool(shutil.which("unshare")) and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0


def on_host(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)


def left_by(path: Path) -> Path:
    """What is left of a writer that was killed: a file that nobody holds."""
    left = temporary_beside(path)
    left.write_bytes(b"half")
    return left


@pytest.mark.parametrize("name", ["", ".", "..", "../../escaped", "/root", "a/b", "a/", "a\0"])
def test_a_name_that_leads_to_another_folder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be a plain name, without folders in it; choose the folder with out=DIR"):
        require_plain(name)
    require_plain("run 1.é")


@pytest.mark.parametrize("name", WRITTEN)
def test_a_results_folder_whose_parts_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    require_writable(folder)
    (folder / name).symlink_to(outside)
    with pytest.raises(ValueError, match=f"{name} is a link out of .* remove the link"):
        require_writable(folder)
    (folder / name).unlink()
    (folder / "within").mkdir()
    (folder / name).symlink_to("within")
    require_writable(folder)


def test_content_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.json"
    for content in (b"one", b"another", b""):
        replace(path, content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_it_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    synced, renamed = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("fsync"), synced(file)))
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("replace"), renamed(old, new)))
    replace(tmp_path / "file", b"content")
    assert done == ["fsync", "replace"]


def test_a_failed_write_leaves_the_old_content_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError("no space left on device")

    replace(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        replace(tmp_path / "file", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_every_temporary_name_is_another_one(tmp_path: Path) -> None:
    names = {temporary_beside(tmp_path / "a.b.c") for _ in range(50)}
    assert len(names) == 50
    assert all(module.WRITER.fullmatch(name.name.removeprefix(".a.b.c.")) for name in names)


def test_a_link_in_the_place_of_a_temporary_file_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    monkeypatch.setattr(module, "temporary_beside", lambda path: tmp_path / "link")
    with pytest.raises(FileExistsError):
        replace(tmp_path / "file", b"content")
    assert (tmp_path / "link").read_bytes() == b"mine"


def test_the_same_process_number_on_two_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One writes from beginning to end while the other one is at work; the process number is the same."""
    path, renamed = tmp_path / "file", os.replace

    def interrupted(old: Path, new: Path) -> None:
        monkeypatch.setattr(os, "replace", renamed)
        on_host(monkeypatch, "two")
        replace(path, b"of two")
        assert path.read_bytes() == b"of two"
        on_host(monkeypatch, "one")
        renamed(old, new)

    on_host(monkeypatch, "one")
    monkeypatch.setattr(os, "replace", interrupted)
    replace(path, b"of one")
    assert path.read_bytes() == b"of one"
    assert list(tmp_path.iterdir()) == [path]


def test_only_what_nobody_holds_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks tell of this host alone: what is on another one may be in use."""
    path = tmp_path / "file"
    on_host(monkeypatch, "two")
    elsewhere = left_by(path)
    on_host(monkeypatch, "one")
    dead, of_another_file = left_by(path), left_by(tmp_path / "file2")
    with writing(tmp_path / "in use") as file:
        module._sweep.cache_clear()
        replace(path, b"content")
        (used,) = tmp_path.glob(".in use.*")
        assert set(tmp_path.iterdir()) == {path, elsewhere, used}
        file.write(b"whole")
    assert (tmp_path / "in use").read_bytes() == b"whole"
    assert not dead.exists()
    assert not of_another_file.exists()


def test_what_is_older_than_a_day_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    on_host(monkeypatch, "two")
    old, young = (left_by(path) for _ in range(2))
    for left, age in ((old, 25), (young, 23)):
        os.utime(left, (time.time() - 3600 * age,) * 2)
    on_host(monkeypatch, "one")
    replace(path, b"content")
    assert set(tmp_path.iterdir()) == {path, young}


def test_age_is_counted_by_the_clock_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That of this machine may be days ahead."""
    on_host(monkeypatch, "two")
    elsewhere = left_by(tmp_path / "file")
    on_host(monkeypatch, "one")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10 * module.DAY)
    replace(tmp_path / "file", b"content")
    assert elsewhere.exists()


@pytest.mark.parametrize("name", [".file.tmp", ".file.12.tmp", ".file.notes.1.2.tmp", ".file.0.0.0.tmp", "file.tmp"])
def test_names_that_are_not_ours_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    os.utime(tmp_path / name, (0, 0))
    replace(tmp_path / "file", b"content")
    assert (tmp_path / name).read_bytes() == b"mine"


def test_a_sweep_bears_that_others_sweep_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    left = left_by(path)
    opened = os.open

    def vanished(path: Path, *flags: int) -> int:
        left.unlink(missing_ok=True)
        return opened(path, *flags)

    monkeypatch.setattr(os, "open", vanished)
    replace(path, b"content")
    assert path.read_bytes() == b"content"


def test_a_file_that_was_swept_before_it_was_locked_is_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claimed: list[Path] = []

    def late(opened: int, path: Path) -> bool:
        if not claimed:
            path.unlink()
        claimed.append(path)
        return claim(opened, path)

    monkeypatch.setattr(module, "claim", late)
    replace(tmp_path / "file", b"content")
    assert len(set(claimed)) == 2
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"content"]


def test_folders_of_the_dead_are_deleted_and_of_others_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_host(monkeypatch, "two")
    elsewhere = left_by(tmp_path / "unfinished")
    on_host(monkeypatch, "one")
    dead = temporary_beside(tmp_path / "unfinished")
    dead.mkdir()
    (dead / "part").write_bytes(b"half")
    with temporary_folder(tmp_path) as one:
        with temporary_folder(tmp_path) as two:
            assert one != two
            (one / "part").write_bytes(b"half")
        assert one.is_dir()
        assert not two.exists()
    assert list(tmp_path.iterdir()) == [elsewhere]


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    """As a limit of the size of files, which says as little as a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match=re.escape(str(tmp_path / "file"))):
            replace(tmp_path / "file", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


WRITER = """
import os, sys
from pathlib import Path
from assay.harness.core import files
from assay.harness.core.files import replace

number = PROCESS
os.getpid = lambda: number
path, name = Path(sys.argv[1]), sys.argv[2].encode()
for i in range(150):
    files._sweep.cache_clear()  # everybody looks all the time for what the others left
    replace(path, name * (50_000 + i))
    content = path.read_bytes()
    assert len(content) >= 50_000 and content == content[:1] * len(content), "a part, or a mixture"
"""


@pytest.mark.parametrize("process", ["os.getpid()", "1"])
def test_writers_in_several_processes_at_once(tmp_path: Path, process: str) -> None:
    """Also where all of them are process 1 of a container of their own, and do not know of each other."""
    path = tmp_path / "folder" / "file"
    code = WRITER.replace("PROCESS", process)
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), name]) for name in "abcd"]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    assert list(path.parent.iterdir()) == [path]
    assert len(path.read_bytes()) == 50_149


@pytest.mark.skipif(not CONTAINERS, reason="this system lets nobody make a PID namespace")
def test_writers_that_are_all_process_1(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    code = WRITER.replace("PROCESS", "os.getpid()") + "assert os.getpid() == 1"
    call = [*UNSHARE, sys.executable, "-c", code, str(path)]
    writers = [subprocess.Popen([*call, name]) for name in "abcd"]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    assert list(path.parent.iterdir()) == [path]
