"""Damage of known kind and share: what it does to images and sets, and when it counts as noticed."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.harness.arrays.records import read_records
from assay.harness.core.protocols import Estimate, Record
from assay.harness.core.registry import discover
from assay.harness.open_run import open_run
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.damage import faults
from assay.harness.studies.damage.measure import KNOWN, Fewer, Options, noticed, oriented, step_back
from assay.harness.studies.damage.sets import COPIES, DETECTED, DUPLICATES, LOST, Pools, damaged

discover()
N = 90
DISTANCES = ("frechet_distance", "cmmd", "sliced_distance")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return open_run({"digits": None}, {"none": None}, tmp_path / "harm", tmp_path / "store", features="pixels")


def looked_at(run: Run, metrics: Sequence[str], **options: Any) -> list[Record]:
    usual = {"metrics": list(metrics), "samples": [N], "shares": [0.1, 1.0], "sound": 4, "blocks": 2, "few": [30]}
    return carry_out(run, "damage", **usual | options)


def rows(records: Sequence[Record], table: str, metric: str) -> dict[Any, Estimate]:
    (found,) = [each for each in records if each.cell.metric == table and each.cell.params["metric"] == metric]
    return dict(found.values)


# Faults


def square(channels: int = 1, size: int = 20) -> torch.Tensor:
    """A white square on black, [1, C, size, size]."""
    image = torch.zeros(1, channels, size, size, dtype=torch.uint8)
    image[..., 6:14, 6:14] = 255
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*faults.FAULTS, *faults.SLIPS])
def test_faults_keep_shape_and_type_and_repeat(name: str, channels: int) -> None:
    given = square(channels)
    before = given.clone()
    once, again = (faults.suffering(name, given) for _ in range(2))
    assert once.shape == given.shape
    assert once.dtype == torch.uint8
    assert torch.equal(once, again)
    assert torch.equal(given, before)


def test_faults_do_what_they_say() -> None:
    image = square()[0].numpy()
    rng = np.random.default_rng(0)
    covered, blurred, noisy = (faults.FAULTS[name] for name in ("covered", "blurred", "noisy"))
    changed = covered(np.zeros((1, 21, 21), np.uint8), rng)
    assert (changed == 128).sum() == 7 * 7
    assert blurred(image, rng).astype(float).mean() == pytest.approx(image.mean(), rel=0.02)
    step = np.zeros((1, 9, 56), np.uint8)
    step[:, :, 28:] = 255
    weights = np.exp(-(np.arange(-6, 7) ** 2) / 8)  # a standard deviation of 2 pixels of 56, cut at 3 of them
    assert blurred(step, rng)[0, 4, 28] / 255 == pytest.approx(weights[:7].sum() / weights.sum(), abs=1 / 255)
    grey = np.full((1, 200, 200), 128, np.uint8)
    assert noisy(grey, rng).std() == pytest.approx(25.5, rel=0.03)
    assert faults.cropped(image, rng).astype(float).sum() > 1.3 * image.astype(float).sum()  # (10 / 8)^2 = 1.56
    assert faults.wrong_range(np.array([[[0, 100, 128, 200, 255]]], np.uint8), rng).tolist() == [[[0, 0, 1, 145, 255]]]
    assert faults.wrong_channels(np.arange(3, dtype=np.uint8)[:, None, None], rng).ravel().tolist() == [2, 1, 0]


def test_tensorflows_kernel_shifts_the_image() -> None:
    columns = torch.arange(20).float()
    image = square()
    moved = faults.suffering("slip: TF1 bilinear", image)
    weight = [each[0, 0].float().sum(0) for each in (image, moved)]
    before, after = ((columns * each).sum() / each.sum() for each in weight)
    assert after - before < -0.1


# Sets


def test_a_share_of_the_set_is_damaged(run: Run) -> None:
    pools = Pools(run)
    sets = pools.sets(N, 0, 0)
    for damage, share, expected in (("noisy", 0.3, 27), (COPIES, 0.1, 9), (DUPLICATES, 1.0, N - 1)):
        found = damaged(pools, sets, damage, share, N, 0)
        changed = (found != sets["fake"]).any(1)
        assert int(changed.sum()) == expected
        assert not changed[expected:].any()
    assert torch.equal(damaged(pools, sets, COPIES, 1.0, N, 0), sets["real"])
    assert len(damaged(pools, sets, DUPLICATES, 1.0, N, 0).unique(dim=0)) == 1


def test_classes_are_lost(run: Run) -> None:
    pools = Pools(run)
    assert set(pools.labels[pools.kept(0.3)].tolist()) == set(range(7))
    assert not pools.can(LOST, 0.01, N)  # no class is that small
    assert not pools.can(LOST, 0.9, N)  # one class has too few images


def test_blocks_are_disjoint(run: Run) -> None:
    pools = Pools(run)
    places = [pools.places("test", N, 0, block) for block in range(pools.blocks(N))]
    assert len(torch.cat(places).unique()) == N * len(places)
    with pytest.raises(ValueError, match="samples=5000: data set 'digits' has"):
        pools.blocks(5000)


# What counts as noticed


def test_four_of_five_values_are_noticed_at_the_smallest_share() -> None:
    normal = torch.distributions.Normal(0.0, 1.0)
    assert float(normal.cdf(torch.tensor(DETECTED - 1.6448536))) == pytest.approx(0.8, abs=1e-6)
    assert noticed([0.1, 0.2], [0.0, -2 * DETECTED]) == pytest.approx(0.15)
    assert noticed([0.1], [-2 * DETECTED]) == pytest.approx(0.05)
    assert math.isnan(noticed([0.1, 1.0], [3.0, -1.0]))  # better is not noticed
    assert math.isnan(noticed([0.1], [math.nan]))


def test_worse_is_below_zero() -> None:
    change = torch.tensor([2.0, -2.0])
    assert oriented(change, "lower").tolist() == [-2, 2]
    assert oriented(change, "higher").tolist() == [2, -2]
    assert oriented(change, "neither").tolist() == [-2, -2]


def test_a_step_back_is_the_largest_rise() -> None:
    assert step_back([-1.0, -3.0, -2.5]) == 0.5
    assert step_back([-1.0, -3.0]) == 0
    assert math.isnan(step_back([-1.0, math.nan]))


# The study


def test_copies_fool_precision_and_not_authenticity(run: Run) -> None:
    records = looked_at(run, ["precision", "authenticity", "frechet_distance"])
    value = {metric: rows(records, "damage", metric) for metric in ("precision", "authenticity", "frechet_distance")}
    assert value["authenticity"][COPIES, 1.0].value == 0
    assert value["precision"][COPIES, 1.0].value == 1
    assert value["frechet_distance"][COPIES, 1.0].value == pytest.approx(0, abs=1e-6)
    summary = {metric: rows(records, "damage_summary", metric) for metric in value}
    assert summary["precision"][COPIES, "change"].value > 0
    assert math.isnan(summary["frechet_distance"][COPIES, "smallest share"].value)
    assert 0 < summary["authenticity"][COPIES, "smallest share"].value < 1
    assert summary["frechet_distance"]["slip: range", "change"].value < -DETECTED


def test_fewer_samples_have_a_larger_distance(run: Run) -> None:
    (record,) = [
        each for each in looked_at(run, ["frechet_distance"], few=[30, 90]) if each.cell.metric == "damage_few"
    ]
    values = {count: estimate.value for count, estimate in record.values.items()}
    assert values[30] > 1.5 * values[90]
    other = looked_at(run, ["frechet_distance"], few=[30, 60])[-1]
    assert set(other.values) == {30, 60}  # other numbers are another question


def test_a_second_run_computes_nothing(run: Run) -> None:
    first = looked_at(run, ["frechet_distance"])
    written = len(run.written)
    again = looked_at(run, ["frechet_distance"])
    assert len(run.written) == written == 3
    assert [each.cell for each in again] == [each.cell for each in first]


def test_numbers_are_drawn_from_both_splits_and_sets_are_disjoint(run: Run) -> None:
    pools = Pools(run)
    found = list(pools.pooled({200: 4, 800: 1}))
    assert [count for count, _ in found] == [200] * 4 + [800]
    rows = torch.cat([sets[name] for count, sets in found if count == 200 for name in ("fake", "real")])
    every = torch.cat([pools.data.take(split, 0, pools.data.count(split)).images for split in ("train", "test")])
    known = {tuple(row) for row in (every.flatten(1) / 255).tolist()}
    assert len(rows) == 1600 > 1437  # as many training images there are, so that both splits are among them
    assert {tuple(row) for row in rows.tolist()} <= known
    assert len(rows.unique(dim=0)) == 1600  # no two digits are equal
    assert torch.equal(found[3][1]["holdout"], found[0][1]["fake"])
    assert len(found[4][1]["holdout"]) == 1797 - 1600
    with pytest.raises(ValueError, match="few=900: two disjoint sets of these samples have at most 898 each"):
        list(Fewer(pools, [], Options(few=[900])).rows(0))


def test_shapes_have_faults_of_their_own(tmp_path: Path) -> None:
    data = {"sdf_primitives": {"train": 40, "test": 24, "resolution": 16}}
    run = open_run(data, {"none": None}, tmp_path / "shapes", tmp_path / "store", features="pixels")
    pools = Pools(run)
    assert pools.damages == ["part missing", "part floating", "hole", "melted", LOST, COPIES, DUPLICATES]
    sound, melted = (pools.of("test", fault) for fault in ("", "melted"))
    assert (sound - melted).abs().amax(1).gt(0.1).all()
    (record,) = [
        each for each in looked_at(run, ["cmmd"], samples=[12], shares=[0.3, 1.0], few=[12])
        if each.cell.metric == "damage_summary"
    ]  # fmt: skip
    assert {damage for damage, _ in record.values} == set(pools.damages)


def test_metrics_of_codes_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="metric latent_density reads fake latent"):
        looked_at(run, ["latent_density"])
    assert len(KNOWN) == len(set(KNOWN))


# The published run


def test_the_finding_counts_the_scores_that_copies_fool() -> None:
    """Copies have the best value that there is, except of rarity, authenticity, copying and Vendi scores."""
    folder = Path(__file__).parents[3] / "results" / "damage"
    best = {"density": 1.2, "kernel_distance": -math.inf, "realism": math.inf} | dict.fromkeys(DISTANCES, 0.0)
    fooled, every = set(), set()
    for record in read_records(folder):
        if record.cell.metric == "damage" and record.cell.dataset == "mnist":
            name, values = str(record.cell.params["metric"]), record.values
            copies, sound = values[COPIES, 1.0].value, values["sound", 0.0].value
            every.add(name)
            perfect = abs(copies - best.get(name, 1.0)) < 2e-3
            if perfect or (math.isinf(best.get(name, 1.0)) and (copies > sound) == (best[name] > 0)):
                fooled.add(name)
    assert every - fooled == {"rarity", "authenticity", "copying_score", "vendi_score"}
    assert f"by {len(fooled)} of {len(every)} metrics.**" in (folder / "README.md").read_text()
