"""Tar archives: links are followed, names stay inside, and damage is told."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from assay.harness.formats.containers.open import container_of, open_container
from assay.harness.formats.containers.tar import tar_spans


def packed(path: Path, entries: Sequence[tuple[str, bytes, str]], form: int = tarfile.GNU_FORMAT) -> Path:
    """Entries of a name, a type, and the content of a file or the target of a link."""
    with tarfile.open(path, "w", format=form) as archive:
        for name, kind, content in entries:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(content)
            else:
                entry.linkname = content
            archive.addfile(entry, io.BytesIO(content.encode()) if kind == tarfile.REGTYPE else None)
    return path


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_files_are_found_where_they_are(tmp_path: Path, form: int) -> None:
    long = "/".join(["a" * 60] * 3) + ".txt" if form != tarfile.USTAR_FORMAT else "short.txt"
    path = packed(tmp_path / "a.tar", [("./b/x", FILE, "one"), (long, FILE, "two"), ("empty", FILE, "")], form)
    content = path.read_bytes()
    found = {name: content[offset : offset + length] for name, offset, length in tar_spans(path)}
    assert found == {"b/x": b"one", long: b"two", "empty": b""}
    files = open_container(path)
    assert list(files.names) == sorted(found)
    assert files.open("b/x").read() == b"one"


def test_links_are_followed(tmp_path: Path) -> None:
    entries = [
        ("real/a", FILE, "one"), ("real/deep/b", FILE, "two"), ("link", LINK, "real"), ("x/up", LINK, "../real/a"),
        ("hard", HARD, "real/a"), ("twice", LINK, "x/up"), ("gone", LINK, "nowhere"), ("round", LINK, "round"),
        (".hidden", FILE, "no"), ("._mac", FILE, "no"),
    ]  # fmt: skip
    files = open_container(packed(tmp_path / "a.tar", entries))
    found = {name: files.open(name).read() for name in files.names if name not in ("gone", "round")}
    one, two = b"one", b"two"
    assert found == {
        "real/a": one, "real/deep/b": two, "link/a": one, "link/deep/b": two, "x/up": one, "hard": one, "twice": one,
    }  # fmt: skip
    for name in ("gone", "round"):
        with pytest.raises(ValueError, match="a link to nothing"):
            files.open(name)


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc/out"])
def test_names_that_lead_out_are_refused_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / "a.tar", [("a", FILE, "x"), (name, FILE, "y")])
    with pytest.raises(ValueError, match="lies outside of it; pack it again"):
        list(tar_spans(path))
    assert list(tmp_path.iterdir()) == [path]


def test_links_that_multiply_are_bounded(tmp_path: Path) -> None:
    entries = [(f"d/{i}", FILE, "") for i in range(200)] + [(f"l{i}", LINK, "d") for i in range(200)]
    with pytest.raises(ValueError, match="name the same files again and again"):
        list(tar_spans(packed(tmp_path / "a.tar", entries)))


def test_damage_in_the_middle_or_at_the_end_is_told(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.tar", [(f"{i}", FILE, "x" * 600) for i in range(5)])
    content = path.read_bytes()
    step = 512 + 1024
    assert len(list(tar_spans(path))) == 5
    path.write_bytes(content[: 3 * step])  # at the end of a file: nothing else is missing
    with pytest.raises(ValueError, match="cut off or damaged after 3 files"):
        list(tar_spans(path))
    path.write_bytes(content[: 3 * step - 700])
    with pytest.raises(ValueError, match=r"cannot be read as a tar archive \(unexpected end of data"):
        list(tar_spans(path))
    path.write_bytes(content[: 3 * step] + b"\xff" * 512 + content[3 * step + 512 :])
    with pytest.raises(ValueError, match="cut off or damaged after 3 files"):
        list(tar_spans(path))
    packed(path, [("a", FILE, "1"), ("a", FILE, "2")])
    with pytest.raises(ValueError, match="two files of the name a"):
        open_container(path)
    packed(path, [("a", FILE, "1"), ("a", LINK, "a")])
    with pytest.raises(ValueError, match="two files of the name a"):
        open_container(path)


def test_names_of_several_shards_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    for shard in ("a", "b"):
        packed(
            tmp_path / "top" / f"{shard}.tar",
            [("1.x.png", FILE, shard), ("1.cls", FILE, "0"), (f"{shard}.png", FILE, "")],
        )
    files = open_container(tmp_path / "top")
    assert list(files.names) == ["1@a.cls", "1@a.x.png", "1@b.cls", "1@b.x.png", "a.png", "b.png"]
    assert files.open("1@b.x.png").read() == b"b"
    (tmp_path / "top" / "c.png").touch()
    assert container_of(tmp_path / "top") == "folder"
