"""The store: made once, whole or not at all, damage noticed and mended, nothing else touched."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.harness.arrays.store import ScoreKey, ShardKey, Store
from assay.harness.arrays.subsets import Subset

DRAWN = Subset("fake", 1000, 10, 0)
KEY = ShardKey("producer", "fake", "pixels", "fingerprint", "mean", 0, 0, 1000)
SCORE_KEY = ScoreKey("metric", 1, "{}", (("fake", "digest"),))
OTHERS = {
    "drawn": DRAWN,
    "producer": "x", "source": "real", "space": "x", "fingerprint": "x", "encode": "x",
    "seed": 1, "start": 1, "stop": 2, "metric": "x", "version": 2, "params": "x",
    "inputs": (("fake", "x"),),
}  # fmt: skip


class Made:
    """Makes an array of ones, and counts how often."""

    times = 0

    def __call__(self) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        self.times += 1
        return np.ones(5)


def files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("[!.]*") if path.is_file())


def entry(root: Path, suffix: str) -> Path:
    (path,) = root.rglob(f"*{suffix}")
    return path


def test_an_array_is_made_once(tmp_path: Path) -> None:
    make = Made()
    assert not Store(tmp_path).has(KEY)
    for _ in range(3):
        np.testing.assert_array_equal(Store(tmp_path).array(KEY, make), np.ones(5))
    assert make.times == 1
    assert Store(tmp_path).has(KEY)
    assert [path.suffix for path in files(tmp_path)] == [".json", ".npy"]


def test_the_card_tells_how_many_threads_made_an_array(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.array(KEY, Made())
    store.array(SCORE_KEY, Made(), lambda: {"device": "cpu", "threads": "7"})
    assert store.numerics(KEY) == {"threads": str(torch.get_num_threads())}
    assert store.numerics(SCORE_KEY)["threads"] == "7"


def test_the_array_and_the_card_of_another_entry_are_not_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = dataclasses.replace(KEY, seed=1)
    Store(tmp_path).array(other, lambda: np.zeros(5))
    Store(tmp_path).array(KEY, Made())
    mine, theirs = (Store(tmp_path)._path(key) for key in (KEY, other))
    for suffix in (".npy", ".json"):
        mine.with_suffix(suffix).write_bytes(theirs.with_suffix(suffix).read_bytes())
    np.testing.assert_array_equal(Store(tmp_path).array(KEY, Made()), np.ones(5))
    assert "its card is that of another entry" in capsys.readouterr().err


def test_what_comes_back_cannot_be_written_to(tmp_path: Path) -> None:
    array = Store(tmp_path).array(KEY, Made())
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2


@pytest.mark.parametrize("key", [KEY, SCORE_KEY], ids=["view", "score"])
def test_every_field_counts(tmp_path: Path, key: ShardKey | ScoreKey) -> None:
    store, make = Store(tmp_path), Made()
    store.array(key, make)
    names = [field.name for field in dataclasses.fields(key)]
    for name in names:
        other = dataclasses.replace(key, **{name: OTHERS[name]})
        assert not store.has(other), name
        store.array(other, make)
    assert make.times == 1 + len(names)


@pytest.mark.parametrize(
    "damage",
    [
        lambda root: entry(root, ".npy").write_bytes(entry(root, ".npy").read_bytes()[:-3]),
        lambda root: entry(root, ".npy").write_bytes(b""),
        lambda root: entry(root, ".npy").write_bytes(entry(root, ".npy").read_bytes()[:-1] + b"\x01"),
        lambda root: entry(root, ".json").write_text("{"),
        lambda root: entry(root, ".json").write_text("[]"),
        lambda root: entry(root, ".json").write_text('{"sha256": "0"}'),
        lambda root: entry(root, ".json").write_bytes(b"\xff\xfe"),
    ],
    ids=["cut short", "emptied", "one byte changed", "card cut", "card a list", "another checksum", "card no text"],
)
def test_a_damaged_entry_is_announced_and_made_again(
    tmp_path: Path, damage: object, capsys: pytest.CaptureFixture[str]
) -> None:
    make = Made()
    neighbour = dataclasses.replace(KEY, seed=1)
    Store(tmp_path / "one").array(KEY, make)
    Store(tmp_path / "two").array(neighbour, make)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(tmp_path / "two")}
    sound = {path: path.read_bytes() for path in files(tmp_path / "one")}
    damage(tmp_path / "one")  # type: ignore[operator]
    capsys.readouterr()
    np.testing.assert_array_equal(Store(tmp_path / "one").array(KEY, make), np.ones(5))
    assert make.times == 3
    said = capsys.readouterr().err
    assert "damaged" in said
    assert "fake pixels 0..1000" in said
    assert {path: path.read_bytes() for path in files(tmp_path / "one")} == sound
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files(tmp_path / "two")} == before


@pytest.mark.parametrize("suffix", [".npy", ".json"])
def test_half_an_entry_is_made_again(tmp_path: Path, suffix: str) -> None:
    make = Made()
    Store(tmp_path).array(KEY, make)
    entry(tmp_path, suffix).unlink()
    assert not Store(tmp_path).has(KEY)
    Store(tmp_path).array(KEY, make)
    assert make.times == 2
    assert Store(tmp_path).has(KEY)


@pytest.mark.parametrize("killed_at", [1, 2], ids=["before the array", "before the card"])
def test_a_kill_while_writing_leaves_nothing_that_looks_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    calls = 0

    def killed(source: Path, target: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == killed_at:
            raise KeyboardInterrupt
        os.rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Store(tmp_path).array(KEY, Made())
    assert not Store(tmp_path).has(KEY)
    np.testing.assert_array_equal(Store(tmp_path).array(KEY, Made()), np.ones(5))


def test_an_error_while_making_leaves_no_entry(tmp_path: Path) -> None:
    def fail() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        Store(tmp_path).array(KEY, fail)
    assert not Store(tmp_path).has(KEY)
    assert files(tmp_path) == []


def test_pickles_are_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        Store(tmp_path).array(KEY, lambda: np.array([{}], dtype=object))
    assert not Store(tmp_path).has(KEY)


WRITER = """
import sys, time
from pathlib import Path
import numpy as np
from assay.harness.arrays.store import ShardKey, Store

root, name = Path(sys.argv[1]), sys.argv[2]
(root / name).touch()
while not all((root / other).exists() for other in "ab"):
    time.sleep(0.001)
for i in range(30):
    key = ShardKey("producer", "fake", "pixels", "", "", i, 0, 1000)
    array = Store(root / "store").array(key, lambda: np.full((1000, 50), i))
    assert (array == i).all()
"""


def test_two_processes_make_the_same_entries_at_once(tmp_path: Path) -> None:
    both = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "ab"]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(files(tmp_path / "store")) == 60
    store = Store(tmp_path / "store")
    for i in range(30):
        assert store.has(ShardKey("producer", "fake", "pixels", "", "", i, 0, 1000))


def test_an_entry_that_is_not_to_be_made_says_why(tmp_path: Path) -> None:
    store, make = Store(tmp_path), Made()
    store.refused = {store.name(KEY): "its worker was lost"}
    with pytest.raises(ValueError, match="its worker was lost"):
        store.array(KEY, make)
    store.array(SCORE_KEY, make)
    assert make.times == 1
    store.refused = {store.name(SCORE_KEY): "it is there, whoever made it"}
    np.testing.assert_array_equal(store.array(SCORE_KEY, make), np.ones(5))


def test_of_two_processes_one_makes_it(tmp_path: Path) -> None:
    """The other waits, and reads what it finds."""
    code = """
import sys, time
from pathlib import Path
import numpy as np
from assay.harness.arrays.store import ShardKey, Store
def make():
    with open(sys.argv[2], "a") as file:
        file.write("made\\n")
    time.sleep(1)
    return np.ones(5)
key = ShardKey("producer", "fake", "pixels", "fingerprint", "mean", 0, 0, 1000)
assert Store(Path(sys.argv[1])).array(key, make).sum() == 5
"""
    line = [sys.executable, "-c", code, str(tmp_path / "store"), str(tmp_path / "made")]
    both = [subprocess.Popen(line) for _ in range(2)]
    assert [one.wait(60) for one in both] == [0, 0]
    assert (tmp_path / "made").read_text() == "made\n"
