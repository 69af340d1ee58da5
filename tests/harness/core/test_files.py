"""Files are written whole, by any number of writers on any number of hosts; nobody removes what another one writes."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.harness.core import files as module
from assay.harness.core.files import replace, temporary_beside
from assay.harness.formats.download import temporary_folder


def on_host(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)


@pytest.fixture
def gone() -> int:
    """The number of a process that has ended."""
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return int(done.stdout)


def left_by(monkeypatch: pytest.MonkeyPatch, path: Path, process: int) -> Path:
    """What a process leaves that is killed while it writes."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: process)
        left = temporary_beside(path)
    left.write_bytes(b"half")
    return left


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


def test_only_the_dead_of_this_host_are_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int) -> None:
    """A process number that is free here may be at work elsewhere."""
    path = tmp_path / "file"
    on_host(monkeypatch, "two")
    elsewhere = left_by(monkeypatch, path, gone)
    on_host(monkeypatch, "one")
    dead, alive, own = (left_by(monkeypatch, path, process) for process in (gone, os.getppid(), os.getpid()))
    of_another_file = left_by(monkeypatch, tmp_path / "file2", gone)
    replace(path, b"content")
    assert set(tmp_path.iterdir()) == {path, elsewhere, alive, own}
    assert not dead.exists()
    assert not of_another_file.exists()


def test_what_is_older_than_a_day_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int) -> None:
    path = tmp_path / "file"
    on_host(monkeypatch, "two")
    old, young = (left_by(monkeypatch, path, gone) for _ in range(2))
    for left, age in ((old, 25), (young, 23)):
        os.utime(left, (time.time() - 3600 * age,) * 2)
    on_host(monkeypatch, "one")
    replace(path, b"content")
    assert set(tmp_path.iterdir()) == {path, young}


@pytest.mark.parametrize("name", [".file.tmp", ".file.12.tmp", ".file.notes.1.2.tmp", ".file.0.0.0.tmp", "file.tmp"])
def test_names_that_are_not_ours_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    os.utime(tmp_path / name, (0, 0))
    replace(tmp_path / "file", b"content")
    assert (tmp_path / name).read_bytes() == b"mine"


def test_a_sweep_bears_that_others_sweep_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int) -> None:
    path = tmp_path / "file"
    on_host(monkeypatch, "two")
    left = left_by(monkeypatch, path, gone)
    on_host(monkeypatch, "one")
    stat = Path.stat

    def vanished(self: Path, **options: bool) -> os.stat_result:
        if self == left:
            left.unlink(missing_ok=True)
        return stat(self, **options)

    monkeypatch.setattr(Path, "stat", vanished)
    replace(path, b"content")
    assert path.read_bytes() == b"content"


def test_folders_of_the_dead_are_deleted_and_of_others_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: int
) -> None:
    on_host(monkeypatch, "two")
    elsewhere = left_by(monkeypatch, tmp_path / "unfinished", gone)
    on_host(monkeypatch, "one")
    dead = left_by(monkeypatch, tmp_path / "unfinished", gone)
    dead.unlink()
    dead.mkdir()
    (dead / "part").write_bytes(b"half")
    with temporary_folder(tmp_path) as one, temporary_folder(tmp_path) as two:
        assert one != two
        assert all(folder.is_dir() for folder in (one, two))
        (one / "part").write_bytes(b"half")
    assert list(tmp_path.iterdir()) == [elsewhere]


WRITER = """
import sys
from pathlib import Path
from assay.harness.core.files import replace

path, name = Path(sys.argv[1]), sys.argv[2].encode()
for i in range(150):
    replace(path, name * (50_000 + i))
    content = path.read_bytes()
    assert len(content) >= 50_000 and content == content[:1] * len(content), "a part, or a mixture"
"""


def test_writers_in_several_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "abcd"]
    assert [writer.wait(120) for writer in writers] == [0] * 4
    assert list(path.parent.iterdir()) == [path]
    assert len(path.read_bytes()) == 50_149
