"""Seeds in one number, marks by intervals, what is compared, and the command behind a number."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assay.harness.arrays.records import read_records
from assay.harness.core.protocols import Cell, Estimate, Record, Row, View
from assay.harness.core.registry import discover
from assay.harness.report.behind import behind, command, read_costs
from assay.harness.report.conditions import conditions, differences
from assay.harness.report.leaderboard import DIFFER, Board
from assay.harness.report.numbers import Numbers
from assay.harness.report.tables import tables
from assay.harness.stats.intervals import pooled

FEATURES = View("fake", "features")


def record(generator: str = "vae", seed: int = 0, value: float = 0.5, half: float = 0.02, **changes: object) -> Record:
    cell = Cell("run", "digits", generator, "precision", "precision", seed, 100, {"k": 5}, {"fake": FEATURES})
    made = Record(
        cell=cell, version=1, kind="set", better="higher", source="", columns=("name",), status="ok", error=None,
        inputs={}, rows=[Row(("precision",), Estimate(value, (value - half, value + half), 100))],
        preprocessing={"fake": "pixels: none"},
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def board(*records: Record) -> Board:
    return Numbers(tables(records), records).leaderboard([], [], 100)


def shown(*records: Record) -> dict[str, tuple[str, str]]:
    """Text and mark of each line's only number."""
    return {
        line.generator: (line.numbers["precision"].text, line.numbers["precision"].mark)
        for line in board(*records).lines
    }


def test_one_seed_is_what_it_is_and_equal_seeds_keep_their_interval() -> None:
    one = Estimate(0.5, (0.4, 0.7), 10, 1)
    assert pooled([one]) is one
    both = pooled([one, one])
    assert both == Estimate(0.5, (pytest.approx(0.4), pytest.approx(0.7)), 20, 2), "they may share what they err in"


def test_an_interval_over_seeds_contains_how_they_differ() -> None:
    """By hand: t of 2 degrees of freedom is 4.302653, the standard error of 1, 2, 3 is 1 / sqrt(3)."""
    found = pooled([Estimate(value, (value - 0.5, value + 1), 1) for value in (1.0, 2.0, 3.0)])
    spread = 4.302653 / math.sqrt(3)
    assert found.value == 2
    assert found.interval == pytest.approx((2 - math.hypot(spread, 0.5), 2 + math.hypot(spread, 1)), rel=1e-6)


def test_undefined_seeds_are_left_out_and_no_interval_gives_none() -> None:
    nan = float("nan")
    undefined, bare = Estimate(nan, (nan, nan), 5, 5), Estimate(1.0, (nan, nan), 5)
    assert pooled([undefined, Estimate(1.0, (0.5, 1.5), 5)])[:2] == (1.0, (0.5, 1.5))
    assert math.isnan(pooled([undefined, undefined]).value)
    assert all(map(math.isnan, pooled([bare, Estimate(2.0, (1.0, 3.0), 5)]).interval))


@pytest.mark.parametrize(("shared", "own"), [(1.0, 0.0), (0.0, 1.0), (0.7, 0.7)])
def test_intervals_over_seeds_cover_whatever_seeds_share(shared: float, own: float) -> None:
    """Real samples that all seeds read err in common; a training errs by itself, which no single interval tells.

    2,000 draws: with a coverage of 95 %, below 93.6 % once in 500 runs.
    """
    rng, training, hits = np.random.default_rng(0), 0.5, 0
    half = 1.96 * math.hypot(shared, own)
    for _ in range(2000):
        values = shared * rng.normal() + math.hypot(own, training) * rng.normal(size=4)
        low, high = pooled([Estimate(value, (value - half, value + half), 1) for value in values]).interval
        hits += low <= 0 <= high
    assert hits >= 0.936 * 2000


def test_the_best_is_marked_and_what_cannot_be_told_from_it() -> None:
    assert shown(record("a", value=0.5), record("b", value=0.52), record("c", value=0.1)) == {
        "a": ("0.5", "tie"), "b": ("0.52", "best"), "c": ("0.1", "")
    }  # fmt: skip
    lower = [record(name, value=value, better="lower") for name, value in (("a", 0.5), ("b", 0.1))]
    assert shown(*lower) == {"a": ("0.5", ""), "b": ("0.1", "best")}
    assert shown(record("a")) == {"a": ("0.5", "")}, "nothing to be better than"


@pytest.mark.parametrize(
    "changes", [{"version": 2}, {"preprocessing": {"fake": "pixels: halved"}}, {"n": 200}, {"params": {"k": 3}}]
)
def test_what_was_measured_otherwise_is_not_compared(changes: dict[str, object]) -> None:
    here, there = record("a", value=0.5), record("b", value=0.9)
    cell = {key: value for key, value in changes.items() if key in ("n", "params")}
    other = replace(there, cell=replace(there.cell, **cell), **{k: v for k, v in changes.items() if k not in cell})  # type: ignore[arg-type]
    assert shown(here, other) == {"a": ("0.5", ""), "b": ("0.9", "")}
    assert len(list(differences(conditions(here), conditions(other)))) == 1
    assert list(differences(conditions(here), conditions(there))) == []


def test_seeds_that_were_measured_otherwise_have_no_mean() -> None:
    made = board(record(seed=0), record(seed=1, value=0.6, version=2))
    assert [line.numbers["precision"].text for line in made.lines] == [DIFFER]


def test_data_sets_samples_and_seeds_are_columns_where_rows_differ_by_them() -> None:
    assert board(record("a"), record("b")).keys == []
    other = record("a")
    assert board(record("a"), replace(other, cell=replace(other.cell, dataset="mnist"))).keys == ["dataset"]
    assert board(record("a"), replace(other, cell=replace(other.cell, n=50))).keys == ["samples"]
    made = board(record("a", 0, 0.5), record("a", 1, 0.6))
    assert made.keys == ["seed"]
    (line,) = made.lines
    assert (line.keys["seed"], [seed.keys["seed"] for seed in line.seeds]) == ("0, 1", ["0", "1"])
    assert [seed.numbers["precision"].text for seed in line.seeds] == ["0.5", "0.6"]


def test_the_command_has_all_that_decides_the_number() -> None:
    cell = Cell(
        "run", "folder(root=REALS#0123abcd)", "vae(temperature=0.7, sizes=[1, 2])", "precision",
        "precision(k=9, space=pixels)", 3, 50, {"k": 9}, {"fake": View("fake", "pixels")},
    )  # fmt: skip
    made = record(cell=cell)
    assert command(made) == (
        "assay run generator=vae generator.vae.temperature=0.7 'generator.vae.sizes=[1, 2]' dataset=folder "
        "'dataset.folder.root=REALS#0123abcd' metric=precision space=pixels metric.precision.k=9 seed=3 n=50"
    )
    assert "stands for the path" in behind(made, {})["parts"]["About"]["files"]
    assert command(record()).endswith("metric=precision features=pixels seed=0 n=100"), "the space that was chosen"


def test_the_command_limits_real_samples_where_the_run_did() -> None:
    """The published Fréchet distances of results/zoo are to 10,000 real samples."""
    discover()
    zoo = read_records(Path(__file__).parents[3] / "results" / "zoo")
    limited = {"n_real=10000" in command(made) for made in zoo if made.cell.metric == "frechet_distance"}
    others = {"n_real" in command(made) for made in zoo if made.cell.metric == "precision"}
    assert (limited, others) == ({True}, {False}), "precision reads as many real samples as there are generated ones"


def test_what_a_cell_cost_is_read_beside_the_folder(tmp_path: Path) -> None:
    head = "dataset,generator,label,seed,n,seconds,peak_memory_mib\n"
    row = "digits,vae,precision,0,100,{},512\n"
    (tmp_path / "run.costs.csv").write_text(head + row.format("9.00") + "torn,line\n" + row.format("1.25"))
    cost = behind(record(), read_costs(tmp_path / "run"))["parts"]["Cost"]
    assert cost == {"seconds": "1.25", "peak memory, MiB": "512"}, "that of the last time"
    assert behind(record(), read_costs(tmp_path / "other"))["parts"]["Cost"] == {"cost": "not known here"}
