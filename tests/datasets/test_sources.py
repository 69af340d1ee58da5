"""Four tiny IDX files with their own pinned sha256, through every source, and every way in which one can fail."""

import gzip
import hashlib
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.datasets.parts.idx import IMAGES, LABELS, idx_dataset, read_idx
from assay.datasets.parts.sources import (
    Source,
    debian_package,
    download,
    inflate,
    locate,
    npm_package,
    system_folder,
)
from assay.harness.core.files import cache_folder
from assay.harness.core.protocols import Dataset, Split

TRAIN, TEST = 5, 3


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def pictures(count: int, first: int) -> np.ndarray:
    return np.arange(first, first + count * 6, dtype=np.uint8).reshape(count, 2, 3)


FILES = {
    IMAGES["train"]: idx(pictures(TRAIN, 0)),
    LABELS["train"]: idx(np.array([3, 1, 4, 1, 5], np.uint8)),
    IMAGES["test"]: idx(pictures(TEST, 100)),
    LABELS["test"]: idx(np.array([9, 2, 6], np.uint8)),
}
PINNED = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
COUNTS: Mapping[Split, int] = {"train": TRAIN, "test": TEST}
DAMAGED = IMAGES["train"]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data" / "tiny"


def tiny(*sources: Source, root: Path | None = None) -> Dataset:
    return idx_dataset("tiny", "0123456789", PINNED, sources, None if root is None else str(root), COUNTS)


def fill(folder: Path, compress: bool = True, damage: str = "") -> Path:
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        content = content[:-1] + b"\xff" if name == damage else content
        path = folder / (f"{name}.gz" if compress else name)
        path.write_bytes(gzip.compress(content) if compress else content)
    return folder


def assert_complete(data: Dataset, cache: Path | None = None) -> None:
    train, test = data.take("train", 0, TRAIN), data.take("test", 1, TEST)
    assert torch.equal(train.images, torch.from_numpy(pictures(TRAIN, 0))[:, None])
    assert torch.equal(test.images, torch.from_numpy(pictures(TEST, 100))[1:, None])
    assert train.labels is not None
    assert train.labels.dtype == torch.int64
    assert train.labels.tolist() == [3, 1, 4, 1, 5]
    assert test.labels is not None
    assert test.labels.tolist() == [2, 6]
    if cache is not None:
        assert {path.name: path.read_bytes() for path in cache.iterdir()} == FILES, "verified files, nothing beside"


def program(folder: Path, name: str, script: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of fake programs in front of the real ones."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_idx_is_mapped_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(FILES[IMAGES["train"]])
    assert isinstance(read_idx(path), np.memmap)
    assert np.array_equal(read_idx(path), pictures(TRAIN, 0))
    path.write_bytes(FILES[IMAGES["train"]][:-1])
    with pytest.raises(ValueError, match=r"cut off or empty: shape \(5, 2, 3\) needs 46 bytes, it has 45"):
        read_idx(path)
    for other in (b"", b"\x89PNG", b"\x00\x00\x0d\x01\x00\x00\x00\x00"):
        path.write_bytes(other)
        with pytest.raises(ValueError, match="not an IDX file of unsigned bytes"):
            read_idx(path)


def test_fingerprint_and_count_need_no_data() -> None:
    data = tiny()
    assert data.fingerprint == tiny().fingerprint
    assert [data.count("train"), data.count("test")] == [TRAIN, TEST]
    assert idx_dataset("tiny", "", {**PINNED, DAMAGED: "0"}, (), None).fingerprint != data.fingerprint


@pytest.mark.parametrize(("start", "stop"), [(0, 6), (-1, 2), (3, 3), (4, 2)])
def test_take_out_of_range(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match=f"tiny: the train split has 5 samples, asked for {start}..{stop}"):
        tiny().take("train", start, stop)


def test_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("ASSAY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "assay"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "assay"


def test_root_with_plain_files_is_read_in_place(tmp_path: Path, cache: Path) -> None:
    assert_complete(tiny(root=fill(tmp_path / "mine", compress=False)))
    assert not cache.exists()


def test_root_with_compressed_files_goes_through_the_cache(tmp_path: Path, cache: Path) -> None:
    assert_complete(tiny(root=fill(tmp_path / "mine")), cache)


@pytest.mark.parametrize("compress", [False, True])
def test_root_with_a_wrong_file_is_an_error_at_once(tmp_path: Path, compress: bool) -> None:
    good = system_folder(str(fill(tmp_path / "good")))
    assert_complete(tiny(good))  # neither the cache nor another source may stand in for what the user named
    wrong = hashlib.sha256(FILES[DAMAGED][:-1] + b"\xff").hexdigest()
    with pytest.raises(ValueError, match=f"{DAMAGED}.*has sha256 {wrong}, expected {PINNED[DAMAGED]}"):
        tiny(good, root=fill(tmp_path / "mine", compress, damage=DAMAGED))


def test_root_without_a_file_is_an_error_at_once(tmp_path: Path) -> None:
    good, mine = system_folder(str(fill(tmp_path / "good"))), fill(tmp_path / "mine")
    (mine / f"{DAMAGED}.gz").unlink()
    with pytest.raises(FileNotFoundError, match=f"dataset.tiny.root={mine} has neither {DAMAGED} nor {DAMAGED}.gz"):
        tiny(good, root=mine)
    (mine / f"{DAMAGED}.gz").write_bytes(gzip.compress(FILES[DAMAGED])[:-9])
    with pytest.raises(ValueError, match=f"{DAMAGED}.gz cannot be decompressed"):
        tiny(good, root=mine)


def test_system_folder_fills_the_cache_once(tmp_path: Path, cache: Path) -> None:
    assert_complete(tiny(system_folder(str(fill(tmp_path / "system")))), cache)
    assert_complete(tiny(), cache)


def test_a_wrong_file_is_noted_and_the_next_source_asked(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []
    good = fill(tmp_path / "good")

    def read(file: str, scratch: Path) -> bytes:
        asked.append(file)
        return (good / f"{file}.gz").read_bytes()

    bad = system_folder(str(fill(tmp_path / "bad", damage=DAMAGED)))
    assert_complete(tiny(bad, Source("elsewhere", read)), cache)
    assert asked == [DAMAGED]
    assert f"not from {tmp_path}/bad: {DAMAGED} has sha256" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"", FILES[DAMAGED][:-1] + b"\xff", FILES[DAMAGED] + b"\x00"])
def test_damaged_cache_is_said_and_made_again(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], damage: bytes
) -> None:
    system = system_folder(str(fill(tmp_path / "system")))
    tiny(system).take("train", 0, 1)
    (cache / DAMAGED).write_bytes(damage)
    assert_complete(tiny(system), cache)
    assert f"{cache / DAMAGED} is damaged" in capsys.readouterr().err


def test_files_are_replaced_never_rewritten(tmp_path: Path, cache: Path) -> None:
    """A mapping in another process keeps what it has: rewriting in place would show it half a file, or kill it."""
    system = system_folder(str(fill(tmp_path / "system")))
    mapped = read_idx(locate("tiny", PINNED, [system])[DAMAGED])
    with (cache / DAMAGED).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    assert_complete(tiny(system), cache)
    assert mapped[-1, -1, -1] == 255


def test_unwritable_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be written .* set ASSAY_CACHE to a folder that can"):
        tiny(system_folder(str(fill(tmp_path / "system")))).take("train", 0, 1)


def test_download(served: tuple[Path, str], cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, url = served
    for path in fill(folder / "set").iterdir():
        path.chmod(0o644)
    assert_complete(tiny(download(f"{url}/set", 31)), cache)
    assert f"tiny: downloading 4 of 4 files (31 MB for all) from {url}/set to {cache}" in capsys.readouterr().err


def test_a_broken_download_keeps_what_is_good(served: tuple[Path, str], cache: Path, tmp_path: Path) -> None:
    folder, url = served
    fill(folder / "set")
    (folder / "set" / f"{LABELS['test']}.gz").write_bytes(b"\x1f\x8b<html>not the file</html>")
    with pytest.raises(FileNotFoundError, match=f"no source has {LABELS['test']};"):
        tiny(download(f"{url}/set", 31)).take("train", 0, 1)
    assert sorted(path.name for path in cache.iterdir()) == sorted(set(FILES) - {LABELS["test"]})
    assert_complete(tiny(system_folder(str(fill(tmp_path / "system")))), cache)


def fake_debian(programs: Path, packed: Path, needs_update: bool) -> Path:
    """apt-get that knows the package at once or after an update of its own lists, and dpkg that unpacks it."""
    log = programs / "log"
    known = 'case "$*" in *Dir::State::lists=*) ;; *) echo "E: Unable to locate package" >&2; exit 100;; esac'
    program(
        programs,
        "apt-get",
        f'echo "$1" >> {log}\n[ "$1" = update ] && exit 0\n{known if needs_update else ""}\ntouch "$2_1.0_all.deb"',
    )
    program(programs, "dpkg", f'[ -f "$2" ] && mkdir -p "$3/usr/share" && cp -r {packed} "$3/usr/share/tiny"')
    return log


@pytest.mark.parametrize("needs_update", [False, True])
def test_debian_package(
    tmp_path: Path, programs: Path, cache: Path, capsys: pytest.CaptureFixture[str], needs_update: bool
) -> None:
    log = fake_debian(programs, fill(tmp_path / "packed"), needs_update)
    assert_complete(tiny(debian_package("tiny-data", "usr/share/tiny", 31)), cache)
    assert log.read_text().split() == (["download", "update", "download"] if needs_update else ["download"])
    said = capsys.readouterr().err
    assert "from the Debian package tiny-data to" in said
    assert ("downloading package lists" in said) == needs_update


def test_npm_package(tmp_path: Path, programs: Path, cache: Path) -> None:
    with tarfile.open(tmp_path / "packed.tgz", "w:gz") as tar:
        tar.add(fill(tmp_path / "packed", compress=False), "package/data")
        stray = tarfile.TarInfo("../../stray")
        tar.addfile(stray)
    program(programs, "npm", f'echo "$@" >> {programs}/log; cp {tmp_path}/packed.tgz tiny-data-1.2.tgz')
    assert_complete(tiny(npm_package("tiny-data", "1.2", "package/data", 12)), cache)
    called = (programs / "log").read_text().splitlines()
    assert len(called) == 1
    assert called[0].startswith(f"pack tiny-data@1.2 --cache={cache}/")
    assert not list(tmp_path.rglob("stray"))


def test_the_error_tells_what_was_tried_in_order(tmp_path: Path, programs: Path, served: tuple[Path, str]) -> None:
    program(programs, "apt-get", 'echo "E: no network" >&2; exit 100')
    program(programs, "npm", 'echo "npm error code ENOTFOUND" >&2; exit 1')
    url = served[1]
    data = tiny(
        system_folder("/usr/share/no-such-folder"),
        download(f"{url}/no-such-set", 31),
        debian_package("tiny-data", "usr/share/tiny", 31),
        npm_package("tiny-data", "1.2", "package/data", 12),
    )
    with pytest.raises(FileNotFoundError) as failure:
        data.take("train", 0, 1)
    first, *tried = str(failure.value).splitlines()
    assert "give dataset.tiny.root=FOLDER with the IDX files train-images-idx3-ubyte, train-labels-idx1-ubyte" in first
    expected = [
        f"the cache {tmp_path}/cache/data/tiny: it has 0 of 4 files",
        "/usr/share/no-such-folder: no such folder",
        f"{url}/no-such-set: HTTP Error 404: File not found",
        "the Debian package tiny-data: `apt-get update` failed: E: no network",
        "the npm package tiny-data@1.2: `npm pack tiny-data@1.2` failed: npm error code ENOTFOUND",
    ]
    assert [line.strip() for line in tried] == expected


def test_machines_without_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    sources = debian_package("tiny-data", "usr/share/tiny", 31), npm_package("tiny-data", "1.2", "package/data", 12)
    with pytest.raises(FileNotFoundError, match=r"(?s)apt-get is not installed.*npm is not installed"):
        tiny(*sources).take("train", 0, 1)


def test_inflate_leaves_plain_content_alone() -> None:
    assert inflate(FILES[DAMAGED]) == FILES[DAMAGED]
    assert inflate(gzip.compress(FILES[DAMAGED])) == FILES[DAMAGED]


def test_processes_may_fill_the_cache_at_the_same_time(tmp_path: Path, cache: Path) -> None:
    system = fill(tmp_path / "system")
    script = (
        "from assay.datasets.parts.sources import locate, system_folder\n"
        f"paths = locate('tiny', {PINNED!r}, [system_folder({str(system)!r})])\n"
        "print(sum(path.stat().st_size for path in paths.values()))"
    )
    workers = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert [int(worker.communicate()[0]) for worker in workers] == [sum(map(len, FILES.values()))] * 4
    assert_complete(tiny(), cache)
