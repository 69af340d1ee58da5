"""Sinks are told the numbers of records as they are, and nothing of where their user keeps things."""

import math
from typing import Any

import pytest

from assay.harness.core.protocols import Cell, Estimate, Floor, Record, Row
from assay.harness.sinks.payload import command_of, config_of, counts, numbers, private

NAN = math.nan


def record(label: str, *rows: tuple[str, Estimate], error: str | None = None, **more: Any) -> Record:
    cell = Cell("run", "digits", "vae", label.partition("(")[0], label, 0, 60)
    return Record(
        cell=cell, version=1, kind=more.pop("kind", "set"), better="higher", source="", columns=("name",),
        rows=[Row((name,), estimate) for name, estimate in rows], status="failed" if error else "ok", error=error,
        inputs={}, **more,
    )  # fmt: skip


def test_the_numbers_of_a_record_are_told_to_the_last_bit() -> None:
    floor = Floor([Row(("precision",), Estimate(2 / 3, (0.1, 0.9), 20))], 20, "held out")
    told = numbers([record("precision(k=3)", ("precision", Estimate(1 / 3, (0.1, 0.7), 60, 2)), floor=floor)])
    assert told == {
        "precision(k=3)/value": 1 / 3, "precision(k=3)/low": 0.1, "precision(k=3)/high": 0.7, "precision(k=3)/n": 60,
        "precision(k=3)/missing": 2, "precision(k=3)/floor_value": 2 / 3, "precision(k=3)/floor_low": 0.1,
        "precision(k=3)/floor_high": 0.9, "precision(k=3)/floor_n": 20,
    }  # fmt: skip


def test_several_numbers_of_a_metric_have_their_names() -> None:
    told = numbers([record("moments", ("mean", Estimate(1.5, (NAN, NAN), 9)), ("var", Estimate(NAN, (NAN, NAN), 9)))])
    assert told["moments mean/value"] == 1.5
    assert math.isnan(float(told["moments var/value"])), "an undefined number is told as undefined"
    assert {name for name in told if "low" in name or "high" in name} == set(), "there is no interval"


@pytest.mark.parametrize("kind", ["set", "study"])
def test_what_failed_has_a_reason_and_no_number(kind: Any) -> None:
    failed = record("recall", error="5 rows; more are needed", kind=kind)
    assert numbers([failed]) == {"recall/failed": "5 rows; more are needed"}
    assert counts([failed, record("precision")]) == {"records": 2, "failed": 1}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("/home/somebody/data/x.npz", "x.npz"),
        ("~/data/x.npz", "x.npz"),
        ("~somebody/data/x.npz", "x.npz"),
        ("../other project/x.npz", "x.npz"),
        ("/home/somebody/folder/", "folder/"),
        ("[/home/somebody/a.pt,/home/somebody/b.pt]", "[a.pt,b.pt]"),
        ("path='/home/some body/a.pt'", "path='a.pt'"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("organisation/model", "organisation/model"),
        ("a / b", "a / b"),
        ({"root": "/home/somebody/reals", "n": [1, "/a/b"]}, {"root": "reals", "n": [1, "b"]}),
    ],
)
def test_a_path_is_told_by_its_own_name(given: Any, told: Any) -> None:
    assert private(given) == told


def test_the_command_is_told_without_folders_and_sinks() -> None:
    words = ["run", "--fake", "A=/home/me/a b", "metric=glob(*)", "sink=wandb", "sink.wandb.entity=me", "n=5"]
    assert command_of(words) == "assay run --fake 'A=a b' 'metric=glob(*)' n=5"


def test_the_config_is_told_without_places() -> None:
    extractor = {"inception": {"path": "/home/me/w.pt"}, "pixels": {}}
    config = {"out": "/home/me", "store": None, "sink": {"wandb": {}}, "n": 5, "extractor": extractor}
    assert config_of(config) == {"n": 5, "extractor": {"inception": {"path": "w.pt"}}}
