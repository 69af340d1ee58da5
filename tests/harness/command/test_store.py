"""`assay store verify`: entries that are damaged, or whose cards were exchanged, are told."""

from pathlib import Path

import numpy as np
import pytest

from assay.harness.arrays.store import ScoreKey, ShardKey, Store
from assay.harness.command.store import main

KEYS = [ShardKey("producer", "fake", "pixels", "", "mean", seed, 0, 5) for seed in range(2)]
SCORES = ScoreKey("metric", 1, "{}", (("fake", "digest"),))


@pytest.fixture
def entries(tmp_path: Path) -> list[Path]:
    store = Store(tmp_path)
    for i, key in enumerate([*KEYS, SCORES]):
        store.array(key, lambda i=i: np.full(5, i))
    return [store._path(key) for key in [*KEYS, SCORES]]


def told(root: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    code = main(["verify", str(root)])
    return code, capsys.readouterr().out.splitlines()


def test_a_sound_store_passes(tmp_path: Path, entries: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert told(tmp_path, capsys) == (0, ["3 entries, 0 damaged"])


def exchange(one: Path, other: Path) -> None:
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


def test_entries_that_were_exchanged_with_their_cards_are_told_and_made_again(
    tmp_path: Path, entries: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for suffix in (".npy", ".json"):
        exchange(entries[0].with_suffix(suffix), entries[1].with_suffix(suffix))
    code, lines = told(tmp_path, capsys)
    assert code == 1
    assert lines[-1] == "3 entries, 2 damaged"
    assert all(line.endswith(": its card is that of another entry") for line in lines[:-1])
    store = Store(tmp_path)
    for i, key in enumerate(KEYS):
        assert not store.has(key)
        assert (store.array(key, lambda i=i: np.full(5, i)) == i).all()
    assert told(tmp_path, capsys) == (0, ["3 entries, 0 damaged"])


@pytest.mark.parametrize(
    ("suffix", "content", "why"),
    [
        (".npy", b"", "its content has changed"),
        (".npy", None, ".npy is not there"),
        (".json", None, ".json is not there"),
        (".json", b"{", "its card cannot be read"),
        (".json", b"[" * 100_000, "its card cannot be read"),
    ],
)
def test_a_damaged_entry_is_told(
    tmp_path: Path, entries: list[Path], suffix: str, content: bytes | None, why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = entries[2].with_suffix(suffix)
    file.unlink() if content is None else file.write_bytes(content)
    code, lines = told(tmp_path, capsys)
    assert (code, lines[-1]) == (1, "3 entries, 1 damaged")
    assert lines[0].endswith(why)


def test_no_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such store"):
        main(["verify", str(tmp_path / "absent")])
