"""Records on disk: what is read is what was written, in files and in lines; those of the first release are read too."""

import json
import lzma
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from assay.harness.arrays import records
from assay.harness.arrays.records import (
    agreeing,
    entries,
    find_record,
    pack,
    packed,
    read_records,
    record_name,
    write_record,
)
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Cell, Estimate, Record, Row, View
from assay.harness.core.registry import metric
from assay.harness.run import Run

FIRST_RELEASE = sorted((Path(__file__).parent / "schema2" / "records").glob("*.json"))
SET = Record(
    cell=Cell("study", "digits", "vae", "precision", "precision(k=9)", 0, 100, {"k": 9}, {
        "fake": View("fake", "features"), "real": View("real", "features", n=1000)}),
    version=2, kind="set", better="higher", source="not published", columns=("name",),
    rows=[Row(("precision",), Estimate(0.5, (0.4, 0.6), 100))], status="ok", error=None,
    inputs={"fake": "a", "real": "b"}, preprocessing={"fake": "pixels: none"}, numerics={"dtype": "float32"},
)  # fmt: skip
STUDY = replace(
    SET, cell=replace(SET.cell, metric="groups", label="groups(size=5)", params={"size": 5}, views={}), kind="study",
    columns=("score", "place", "share", "fair"), preprocessing={},
    rows=[Row(("a ~ b | \u2028 é", 1, 0.1, True), Estimate(math.nan, (math.nan, math.nan), 7, 2)),
          Row(("", 2, 1e-9, None), Estimate(1e300, (-math.inf, 2.0)))],
)  # fmt: skip
FAILED = replace(SET, cell=replace(SET.cell, seed=1), status="failed", error="too few", rows=[])


def plain(record: Record) -> str:
    """A record as text, in which NaN equals NaN and a tuple a list."""
    return json.dumps(asdict(record), sort_keys=True)


def folder_of(tmp_path: Path, *written: Record) -> Path:
    for record in written:
        write_record(tmp_path, record)
    return tmp_path


def line(tmp_path: Path, record: Record) -> str:
    write_record(tmp_path / "alone", record)
    return (tmp_path / "alone" / "records" / record_name(record.cell)).read_text()


@pytest.mark.parametrize("record", [SET, FAILED], ids=["set", "failed"])
def test_what_is_read_is_what_was_written(tmp_path: Path, record: Record) -> None:
    read = find_record(folder_of(tmp_path, record), record.cell)
    assert read is not None
    assert read.cell == record.cell
    assert plain(read) == plain(record)


def test_keys_of_every_sort_and_undefined_numbers_come_back(tmp_path: Path) -> None:
    read = find_record(folder_of(tmp_path, STUDY), STUDY.cell)
    assert read is not None
    assert [row.keys for row in read.rows] == [row.keys for row in STUDY.rows]
    assert [list(map(type, row.keys)) for row in read.rows] == [list(map(type, row.keys)) for row in STUDY.rows]
    first, second = (row.estimate for row in read.rows)
    assert (math.isnan(first.value), first.n, first.missing) == (True, 7, 2)
    assert all(map(math.isnan, first.interval))
    assert (second.value, second.interval[1]) == (1e300, 2.0)
    assert math.isnan(second.interval[0]), "JSON knows no infinity"
    assert read.values["", 2, 1e-9, None] == second


def test_the_same_cell_is_written_to_one_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SET, replace(SET, version=3), FAILED)
    assert [record.version for record in read_records(folder)].count(3) == 1
    assert len(list((folder / "records").iterdir())) == 2


def test_packing_joins_files_and_loses_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SET, STUDY, FAILED)
    before = list(map(plain, read_records(folder)))
    pack(folder)
    assert [path.name for path in folder.iterdir()] == ["records.jsonl"]
    assert (folder / "records.jsonl").read_bytes().count(b"\n") == 3
    assert list(map(plain, read_records(folder))) == before
    assert all(find_record(folder, record.cell) is not None for record in (SET, STUDY, FAILED))
    packed = (folder / "records.jsonl").read_bytes()
    pack(folder)
    assert (folder / "records.jsonl").read_bytes() == packed


def test_many_records_are_packed_compressed_and_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path, SET, STUDY, FAILED)
    before = list(map(plain, read_records(folder)))
    content = packed(folder)
    monkeypatch.setattr(records, "LARGE", len(content) - 1)
    pack(folder)
    assert [path.name for path in folder.iterdir()] == ["records.jsonl.xz"]
    file = folder / "records.jsonl.xz"
    made = file.read_bytes()
    assert lzma.decompress(made) == content
    assert list(map(plain, read_records(folder))) == before
    assert all(find_record(folder, record.cell) is not None for record in (SET, STUDY, FAILED))
    pack(folder)
    assert file.read_bytes() == made
    write_record(folder, replace(SET, version=3))
    assert [record.version for record in read_records(folder)].count(3) == 1
    monkeypatch.setattr(records, "LARGE", len(content) + 1000)
    pack(folder)
    assert [path.name for path in folder.iterdir()] == ["records.jsonl"]
    assert sorted(record.version for record in read_records(folder)) == [2, 2, 3]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda whole: whole[:-9], "cut off"),
        (lambda whole: whole + whole, "more than one"),
        (lambda whole: b"[]" + whole, "format"),
        (lambda whole: lzma.compress(bytes(1 << 20)), "holds more than 100,000 bytes"),
    ],
)
def test_a_compressed_file_that_is_not_whole_is_named_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[bytes], bytes], why: str
) -> None:
    folder = folder_of(tmp_path, SET)
    monkeypatch.setattr(records, "LARGE", 1)
    monkeypatch.setattr(records, "MOST", 100_000)
    pack(folder)
    file = folder / "records.jsonl.xz"
    damaged = change(file.read_bytes())
    file.write_bytes(damaged)
    with pytest.raises(FileNotFoundError, match=f"records.jsonl.xz is damaged: .*{why}"):
        read_records(folder)
    write_record(folder, SET)
    with pytest.raises(ValueError, match="remove it, or bring back the whole file"):
        pack(folder)
    assert file.read_bytes() == damaged
    assert len(read_records(folder)) == 1


def test_a_file_counts_before_a_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SET, FAILED)
    pack(folder)
    write_record(folder, replace(SET, version=3))
    found = find_record(folder, SET.cell)
    assert found is not None
    assert found.version == 3
    assert sorted(record.version for record in read_records(folder)) == [2, 3]
    pack(folder)
    assert sorted(record.version for record in read_records(folder)) == [2, 3]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2] + "\n",
        lambda text: text.replace('["precision", 0.5', '["precision", "half"'),
        lambda text: text.replace('["precision", 0.5', "[0.5"),
        lambda text: text.replace('["precision", 0.5', '[["precision"], 0.5'),
        lambda text: text.replace('"status"', '"state"'),
        lambda text: "[1]\n",
        lambda text: "\x00\x01\n",
        lambda text: "\n",
    ],
)
def test_a_damaged_record_is_left_out(tmp_path: Path, change: Callable[[str], str]) -> None:
    text = line(tmp_path, SET)
    damaged = change(text)
    assert damaged != text
    (tmp_path / "records.jsonl").write_text(damaged + line(tmp_path, FAILED))
    assert [record.cell for record in read_records(tmp_path)] == [FAILED.cell]
    assert find_record(tmp_path, SET.cell) is None
    (tmp_path / "records.jsonl").write_text(text)
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / record_name(SET.cell)).write_text(damaged)
    assert plain(read_records(tmp_path)[0]) == plain(SET), "a damaged file does not hide a whole line"


WRONG: dict[str, tuple[str, str, str]] = {
    "n as text": ('"n": 100', '"n": "12"', "n='12' is not a possible value"),
    "n as a fraction": ('"n": 100', '"n": 1.5', "n=1.5 is not a possible value"),
    "n as truth": ('"n": 100', '"n": true', "n=True is not a possible value"),
    "n beyond bounds": ('"n": 100', f'"n": {10**30}', "n=10000"),
    "a seed below 0": ('"seed": 0', '"seed": -1', "seed=-1 is not a possible value"),
    "depth": ('"k": 9', f'"k": {"[" * 50}{"]" * 50}', "k=[[[["),
    "more depth": ('"k": 9', f'"k": {"[" * 100_000}{"]" * 100_000}', "too deep"),
    "half a letter": ('"generator": "vae"', '"generator": "\\ud800"', "generator='\\ud800' is not a possible value"),
    "a number beyond bounds": ('["precision", 0.5', '["precision", 1e999', "inf is not a number"),
    "a number of 5,000 digits": ('["precision", 0.5', f'["precision", {"9" * 5000}', ""),
    "NaN": ('["precision", 0.5', '["precision", NaN', "nan is not a number"),
    "truth as a number": ('["precision", 0.5', '["precision", true', "True is not a number"),
    "another direction": ('"better": "higher"', '"better": "best"', "better='best' is not a possible value"),
    "another kind": ('"kind": "set"', '"kind": "sets"', "kind='sets' is not a possible value"),
    "edited, as a status": ('"status": "ok"', '"status": "edited"', "status='edited' is not a possible value"),
    "no columns": ('"columns": ["name"]', '"columns": []', ""),
    "other columns": ('"columns": ["name"]', '"columns": ["value"]', "columns=['value']"),
    "a source of lists": ('"source": "not published"', '"source": ["x"]', "source=['x'] is not a possible value"),
    "samples of text": ('"inputs": {', '"samples": {"real": {"found": "many"}}, "inputs": {', "samples={'real'"),
    "an unknown field": ('"status"', '"colour": 3, "status"', "unexpected keyword argument 'colour'"),
    "a missing field": ('"version": 2, ', "", "version"),
    "an unknown view": ('"encode": "mean"', '"encode": "meen"', "encode='meen' is not a possible value"),
    "views as a list": ('"views": {', '"views": [1], "x": {', ""),
    "another schema": ('"schema": 3', '"schema": 4', "schema 4 is not known here"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_record_is_told_and_costs_no_other(tmp_path: Path, what: str) -> None:
    old, new, why = WRONG[what]
    folder = folder_of(tmp_path, SET, FAILED)
    path = folder / "records" / record_name(SET.cell)
    text = path.read_text()
    path.write_text(text.replace(old, new, 1))
    assert path.read_text() != text
    assert [record.cell for record in read_records(folder)] == [FAILED.cell]
    (wrong,) = [entry for entry in entries(folder) if entry.why]
    assert wrong.where == str(path)
    assert why in wrong.why
    assert len(wrong.why.splitlines()) == 1


@pytest.mark.parametrize("table", ["../../up", "/up", "a b", "", "metrics"])
def test_a_study_whose_table_no_file_can_be_called_is_damaged(tmp_path: Path, table: str) -> None:
    text = line(tmp_path, STUDY).replace('"metric": "groups"', f'"metric": "{table}"')
    (tmp_path / "records.jsonl").write_text(text + line(tmp_path, SET))
    assert [record.cell for record in read_records(tmp_path)] == [SET.cell]
    assert "a table cannot be called" in entries(tmp_path)[0].why


@pytest.mark.parametrize("column", ["value", "seed", "run", "holm_p", "score"])
def test_a_study_with_a_column_twice_is_damaged(tmp_path: Path, column: str) -> None:
    text = line(tmp_path, STUDY).replace('"params": {"size"', f'"params": {{"{column}"')
    (tmp_path / "records.jsonl").write_text(text + line(tmp_path, SET))
    assert [record.cell for record in read_records(tmp_path)] == [SET.cell]
    assert f"a column {column!r} already" in entries(tmp_path)[0].why


def test_an_edited_record_is_read_as_edited_and_is_no_answer(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SET, FAILED)
    path = folder / "records" / record_name(SET.cell)
    path.write_text(path.read_text().replace('["precision", 0.5', '["precision", 0.9'))
    found = find_record(folder, SET.cell)
    assert found is not None
    assert (found.status, found.values["precision"].value) == ("edited", 0.9)
    assert sorted(record.status for record in read_records(folder)) == ["edited", "failed"]


def test_a_record_without_a_digest_is_one_of_an_earlier_release(tmp_path: Path) -> None:
    fields = json.loads(line(tmp_path, SET))
    del fields["digest"]
    (tmp_path / "records.jsonl").write_text(json.dumps(fields))
    (entry,) = entries(tmp_path)
    assert (entry.why, entry.sealed) == ("", False)
    assert entry.record is not None
    assert plain(entry.record) == plain(SET)


def test_packing_keeps_edited_and_damaged_ones_as_they_are(tmp_path: Path) -> None:
    """To write them anew would give what somebody changed a digest that fits."""
    folder = folder_of(tmp_path, SET, STUDY, FAILED)
    edited = line(tmp_path, SET).replace('["precision", 0.5', '["precision", 0.9')
    (folder / "records" / record_name(SET.cell)).write_text(edited)
    (folder / "records.jsonl").write_text("{\n" + edited)
    pack(folder)
    assert [path.name for path in (folder / "records").iterdir()] == [record_name(SET.cell)]
    assert (folder / "records" / record_name(SET.cell)).read_text() == edited
    lines = (folder / "records.jsonl").read_text().split("\n")
    expected = [line(tmp_path, FAILED), line(tmp_path, STUDY), "{", edited, ""]
    assert sorted(lines) == sorted(text.rstrip("\n") for text in expected)


def test_a_name_with_bytes_that_are_no_text_is_written(tmp_path: Path) -> None:
    record = replace(SET, error="caf\udce9.png is damaged", status="failed", rows=[])
    (read,) = read_records(folder_of(tmp_path, record))
    assert read.error == "caf\\xe9.png is damaged"


def test_what_is_made_of_records_is_made_again_where_others_wrote_meanwhile(tmp_path: Path) -> None:
    """As another host does, whose locks are not seen here."""
    folder, seen = folder_of(tmp_path, SET), list[int]()

    def write() -> int:
        seen.append(len(read_records(folder)))
        if len(seen) == 1:
            write_record(folder, FAILED)
        return seen[-1]

    assert agreeing(folder, write) == 2
    assert seen == [1, 2]


def test_bytes_that_are_no_text_are_no_record(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_bytes(b"\xff\xfe\n" + line(tmp_path, SET).encode())
    assert len(read_records(tmp_path)) == 1


def test_packing_keeps_what_it_cannot_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SET)
    (folder / "records" / "of-the-future.json").write_text('{"schema": 9}')
    pack(folder)
    assert [path.name for path in (folder / "records").iterdir()] == ["of-the-future.json"]


def test_no_records_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no records in"):
        read_records(tmp_path)


def first_release(path: Path, tmp_path: Path) -> tuple[dict[str, Any], Record]:
    """The fields of a record of the first release, and the record of today."""
    folder = tmp_path / path.stem
    (folder / "records").mkdir(parents=True)
    shutil.copy(path, folder / "records")
    (record,) = read_records(folder)
    assert find_record(folder, record.cell) == record, "whatever the file is called"
    return json.loads(path.read_text()), record


@pytest.mark.parametrize("path", FIRST_RELEASE, ids=lambda path: path.stem.rpartition("-")[0])
def test_records_of_the_first_release_are_read(path: Path, tmp_path: Path) -> None:
    fields, record = first_release(path, tmp_path)
    cell = record.cell
    assert [(cell.experiment, cell.dataset, cell.generator, cell.seed, cell.n), record.kind, record.status] == [
        tuple(fields[name] for name in ("experiment", "dataset", "generator", "seed", "n")), fields["kind"], "ok"
    ]  # fmt: skip
    assert len(record.rows) == len(fields["values"])
    for row, old in zip(record.rows, fields["values"].values(), strict=True):
        numbers = (row.estimate.value, *row.estimate.interval)
        for now, then in zip(numbers, (old["value"], *old["interval"]), strict=True):
            assert now == then or (then is None and math.isnan(now))
        assert (row.estimate.n, row.estimate.missing) == (old["n"], old["missing"])
    columns = fields["params"].get("columns", "name").split(" ~ ")
    assert [len(row.keys) for row in record.rows] == [len(columns)] * len(record.rows)
    assert len(record.columns) == len(columns)
    assert len(cell.params) == len(fields["params"].keys() - {"columns"})
    words = " ".join(map(str, [cell, record.columns, [row.keys for row in record.rows], record.preprocessing.keys()]))
    assert not [word for word in ("through", "recoded", "ink", "departure", "given", "rate") if f"'{word}'" in words]
    assert set(fields["inputs"].values()) == set(record.inputs.values())


def test_names_of_the_first_release_are_those_of_today(tmp_path: Path) -> None:
    records = [first_release(path, tmp_path)[1] for path in FIRST_RELEASE]
    found = {record.cell.metric: record for record in records}
    precision, intensity, cycle = found["precision"], found["mean_intensity"], found["cycle_consistency"]
    assert precision.cell.label == "precision(space=efficientnet_lite)"
    assert precision.cell.views["fake"] == View("fake", "efficientnet_lite")
    assert found["pseudo_density"].cell.views["reference"] == View("real", "pixels", n=2000)
    assert (intensity.cell.label, list(intensity.values)) == ("mean_intensity", ["mean_intensity"])
    assert cycle.cell.views["reencoded"] == View("fake", "reencoded")
    assert set(cycle.inputs) == {"fake", "reencoded"}
    assert (list(found["correlate"].columns), found["correlate"].cell.label) == (
        ["score", "signal"], "correlate(covariates=nothing, resamples=500)"
    )  # fmt: skip
    assert list(found["edit"].columns) == ["score", "quantity", "signal"]
    assert found["edit"].cell.params["attribute"] == "mean_intensity"
    assert list(found["fine_tune"].columns) == ["metric", "space", "against"]
    assert "lr 0.0" in found["fine_tune"].cell.params["trainer"]
    assert list(found["interpolate"].columns) == ["quantity", "measured_in", "against"]
    assert {"lr", "rate"} & set(found["interpolate"].cell.params) == {"lr"}
    assert found["interpolate"].version == 3, "its version came with that of the metric in it"
    assert list(found["perturb"].columns) == ["quantity", "samples_of"]
    assert {"judge_space", "through"} & set(found["perturb"].cell.params) == {"judge_space"}
    assert ("mean_intensity",) in [row.keys for row in found["samples"].rows]
    assert found["groups"].values["bottom", "coverage"].n == 1000


def test_a_record_of_the_first_release_answers_the_cell_of_today(
    open_views: Callable[..., Views], plain: Any, tmp_path: Path
) -> None:
    """Found by its new label, valid by the digests of what it read, and replaced once it is not."""
    calls = []

    @metric(better="higher", kind="set", source="not published", fake=View("fake", "features"))
    def tested(fake: Tensor, k: int = 3) -> float:
        calls.append(k)
        return 0.25

    run = Run("study", "plain", "squares", open_views(plain), tmp_path, seed=0, n=20)
    cell = run.cell("tested", space="pixels", k=5)
    read = run.views.digest(cell.views["fake"], 0, 20)
    old = {
        "better": "higher", "dataset": "squares", "error": None, "experiment": "study", "generator": "plain",
        "inputs": {"fake": read}, "kind": "set", "label": "tested(k=5, through=pixels)", "metric": "tested", "n": 20,
        "numerics": {"dtype": "float32"}, "params": {"k": 5}, "preprocessing": {}, "schema": 2, "seed": 0,
        "source": "not published", "status": "ok", "version": 1,
        "values": {"tested": {"interval": [None, None], "missing": 0, "n": 20, "value": 0.75}},
        "views": {"fake": {"encode": "mean", "n": "same", "of": "fake", "through": "pixels"}},
    }  # fmt: skip
    path = tmp_path / "records" / "tested-0123456789abcdef.json"
    path.parent.mkdir()
    path.write_text(json.dumps(old))
    assert run.evaluate(cell).values["tested"].value == 0.75
    assert (calls, run.written) == ([], [])
    path.write_text(json.dumps(old | {"inputs": {"fake": "of another generator"}}))
    assert run.evaluate(cell).values["tested"].value == 0.25
    assert calls == [5]
    assert [record.values["tested"].value for record in read_records(tmp_path)] == [0.25]
