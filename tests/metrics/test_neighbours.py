"""The neighbour family against the prdc package, a slow float64 version of each definition, and expected values."""

from typing import Any

import numpy as np
import pytest
import torch
from prdc import compute_prdc
from torch import Tensor

from assay.metrics.kernels import balls, distances, nearest
from assay.metrics.neighbours import (
    authenticity,
    clipped_coverage,
    clipped_density,
    coverage,
    density,
    neighbour_pass,
    precision,
    precision_cover,
    rarity,
    realism,
    recall,
    recall_cover,
    symmetric_precision,
    symmetric_recall,
)


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sets(kind: str) -> tuple[Tensor, Tensor]:
    """Generated and real samples."""
    if kind == "plain":
        return 0.8 * gauss(250, 8, seed=1) + 0.2, gauss(300, 8)
    if kind == "structured":
        spectrum = torch.arange(1, 65) ** -0.8
        return (gauss(300, 64, seed=1) * spectrum + 1000, gauss(200, 64) * spectrum + 1000)
    if kind == "grid":
        generator = torch.Generator().manual_seed(2)
        return tuple(torch.randint(0, 3, (120, 4), generator=generator).float() for _ in "xy")  # type: ignore[return-value]
    if kind == "near copies":  # realism of float32 products was 1 for 136 here
        base = gauss(300, 256)
        real = torch.cat([base, base[0] + 1e-4 * gauss(5, 256, seed=1)])
        return torch.cat([real[300:] + 1e-6 * gauss(5, 256, seed=2), base[5:40]]), real
    if kind == "dates":  # milliseconds beside ordinary columns: density was 1.06 for .93
        y, x = gauss(150, 6, seed=1), gauss(180, 6)
        for s, seed in ((y, 2), (x, 3)):
            s[:, 0] = torch.randint(0, 20, (len(s),), generator=torch.Generator().manual_seed(seed)) * 86400e3
        return y.double(), x.double()
    if kind == "outlier":
        real = gauss(200, 5)
        real[7] *= 1e8
        return gauss(150, 5, seed=1), real
    if kind in ("tiny", "huge"):
        scale = 1e-22 if kind == "tiny" else 1e25
        return 0.8 * gauss(150, 5, seed=1) * scale, gauss(200, 5) * scale
    real = gauss(100, 6).repeat_interleave(2, 0)
    return torch.cat([real[:50], gauss(60, 6, seed=1)]), real


KINDS = ["plain", "structured", "grid", "copies", "near copies", "dates", "outlier", "tiny", "huge"]


def slow(fake: Tensor, real: Tensor, k: int, strict: bool) -> dict[str, Any]:
    y, x = fake.double(), real.double()
    cross = (x[:, None] - y[None]).norm(dim=2)
    within = [(s[:, None] - s[None]).norm(dim=2).fill_diagonal_(torch.inf) for s in (x, y)]
    radius, fake_radius = (d.kthvalue(k).values for d in within)
    held = cross < radius[:, None] if strict else cross <= radius[:, None]
    held_by_fakes = cross < fake_radius if strict else cross <= fake_radius
    ratio = radius[:, None] / cross
    ratio[(cross == 0)] = 1e6
    ratio[(radius == 0)[:, None] & (cross > 0)] = 0
    kept = radius <= radius.median()
    median = radius.clamp(max=radius.median())[:, None]
    nearest = cross.amin(0)
    isolation = torch.where(cross == nearest, within[0].amin(1)[:, None], -torch.inf).amax(0)
    return {
        "precision": held.any(0).double().mean(),
        "recall": held_by_fakes.any(1).double().mean(),
        "density": held.double().sum() / (k * len(y)),
        "coverage": held.any(1).double().mean(),
        "rarity": torch.where(held, radius[:, None], torch.inf).amin(0),
        "realism": ratio[kept].amax(0).clamp(max=1e6),
        "realism_unpruned": ratio.amax(0).clamp(max=1e6),
        "authenticity": (nearest > isolation).double().mean(),
        "clipped": (cross < median if strict else cross <= median).sum(0),
        "reals_held": held_by_fakes.sum(0),
    }


@pytest.fixture(params=[(1024, 4096), (32, 64)], ids=["one tile", "many tiles"])
def _tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "BLOCK", request.param[0])
    monkeypatch.setattr(distances, "PANEL", request.param[1])


@pytest.mark.usefixtures("_tiles")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_every_score_is_its_definition_in_float64(kind: str, strict: bool, k: int) -> None:
    fake, real = sets(kind)
    right = slow(fake, real, k, strict)
    for metric in (precision, recall, density, coverage):
        assert metric(fake, real, k=k, strict=strict).value == pytest.approx(right[metric.__name__].item(), abs=1e-12)
    rare = rarity(fake, real, k=k, strict=strict)
    assert torch.equal(rare.isnan(), right["rarity"].isinf())
    torch.testing.assert_close(rare.nan_to_num(nan=torch.inf), right["rarity"], rtol=1e-12, atol=0)
    torch.testing.assert_close(realism(fake, real, k=k), right["realism"], rtol=1e-12, atol=0)
    torch.testing.assert_close(realism(fake, real, k=k, prune=False), right["realism_unpruned"], rtol=1e-12, atol=0)
    assert authenticity(fake, real, k=k).value == pytest.approx(right["authenticity"].item(), abs=1e-12)
    balls = neighbour_pass(fake, real, k, strict)
    assert torch.equal(balls.real_balls_clipped, right["clipped"])
    assert torch.equal(balls.reals_held, right["reals_held"])


@pytest.mark.parametrize("offset", [0, 1000])
def test_strict_balls_reproduce_prdc(offset: float) -> None:
    fake, real = (s + offset for s in sets("plain"))
    expected = compute_prdc(real.numpy(), fake.numpy(), 5)
    for metric in (precision, recall, density, coverage):
        assert metric(fake, real, strict=True).value == pytest.approx(expected[metric.__name__], abs=1e-12)


def test_equal_distributions_have_density_one_and_the_expected_coverage() -> None:
    # 30 repeats at N = M = 500: the standard errors are about 0.009 and 0.0025; 5 of them are allowed.
    k, n = 5, 500
    pairs = [(gauss(n, 4, seed=2 * i), gauss(n, 4, seed=2 * i + 1)) for i in range(30)]
    dense = np.mean([density(y, x).value for y, x in pairs])
    covered = np.mean([coverage(y, x).value for y, x in pairs])
    assert dense == pytest.approx(1, abs=0.045)
    assert covered == pytest.approx(1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)]), abs=0.0125)


def test_realism_one_is_the_border_of_the_manifold() -> None:
    fake, real = sets("plain")
    inside = neighbour_pass(fake, real, 5).real_balls > 0
    assert torch.equal(realism(fake, real, prune=False) >= 1, inside)


def test_authenticity_is_zero_for_copies_one_far_away_and_bears_more_fakes_than_reals() -> None:
    real = gauss(50, 5)
    assert authenticity(real.clone(), real).value == 0
    assert authenticity(gauss(80, 5) + 100, real).value == 1


def test_one_pass_serves_all(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, real = sets("plain")
    precision(fake, real)
    tiles = []
    monkeypatch.setattr(balls, "squared_distance_tiles", lambda *a, **k: tiles.append(a))
    monkeypatch.setattr(nearest, "squared_distance_tiles", lambda *a, **k: tiles.append(a))
    for metric in (recall, density, coverage, realism, rarity, authenticity, clipped_coverage, clipped_density):
        metric(fake, real)
    assert not tiles


def test_changing_a_returned_score_does_not_change_the_next() -> None:
    fake, real = sets("plain")
    first = realism(fake, real)
    kept = first.clone()
    first.zero_()
    assert torch.equal(realism(fake, real), kept)


def test_mode_collapse_reads_as_high_precision_and_low_recall() -> None:
    modes = torch.randint(0, 10, (1000, 1), generator=torch.Generator().manual_seed(0))
    real = gauss(1000, 2) * 0.1 + modes * 5
    fake = gauss(1000, 2, seed=1) * 0.1
    assert precision(fake, real).value > 0.9
    assert recall(fake, real).value < 0.2
    assert coverage(fake, real).value < 0.2


@pytest.mark.parametrize("metric", [recall, symmetric_precision, symmetric_recall, precision_cover])
def test_balls_around_generated_samples_need_neighbours(metric: Any) -> None:
    with pytest.raises(ValueError, match=r"fake has 4 rows; k=\d needs at least"):
        metric(gauss(4, 3), gauss(20, 3))


@pytest.mark.parametrize("metric", [precision, recall, density, coverage, realism, rarity, clipped_density])
def test_balls_around_real_samples_need_neighbours(metric: Any) -> None:
    with pytest.raises(ValueError, match="real has 5 rows; k=5 needs at least 6"):
        metric(gauss(20, 3), gauss(5, 3))


@pytest.mark.parametrize("count", [1, 3])
def test_few_generated_samples_are_enough_where_their_neighbours_do_not_count(count: int) -> None:
    fake, real = sets("plain")
    right = slow(fake, real, 5, False)
    fake = fake[:count]
    torch.testing.assert_close(realism(fake, real), right["realism"][:count], rtol=1e-12, atol=0)
    torch.testing.assert_close(
        rarity(fake, real).nan_to_num(nan=torch.inf), right["rarity"][:count], rtol=1e-12, atol=0
    )
    for metric in (precision, density, coverage, authenticity, clipped_density, clipped_coverage, recall_cover):
        found = metric(fake, real)
        assert np.isfinite(found.value)
        assert np.isnan(found.interval).all(), metric  # halves of so few have no neighbours
    assert authenticity(fake, real[:3]).n == count  # k selects the pass only


def test_ties_do_not_depend_on_the_order_of_rows() -> None:
    fake, real = sets("grid")
    generator = torch.Generator().manual_seed(0)
    for metric in (precision, density, coverage, authenticity, clipped_density, clipped_coverage):
        values = {
            metric(fake[torch.randperm(120, generator=generator)], real[torch.randperm(120, generator=generator)]).value
            for _ in range(10)
        }
        assert max(values) - min(values) < 1e-12, metric


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_intervals_cover_new_samples_of_both_sets(share: float) -> None:
    """60 pairs of sets; at a true coverage of .93 fewer than 48 hits have a probability of 3e-4."""
    metrics = (precision, recall, density, coverage, authenticity, symmetric_precision, symmetric_recall)
    found: dict[str, list[Any]] = {metric.__name__: [] for metric in metrics}
    for seed in range(60):
        fake, real = gauss(300, 6, seed=2 * seed) * 0.9, gauss(300, 6, seed=2 * seed + 1)
        fake[: int(300 * share)] += 1
        for metric in metrics:
            found[metric.__name__].append(metric(fake, real))
    for name, estimates in found.items():
        truth = np.mean([estimate.value for estimate in estimates])
        assert sum(e.interval[0] <= truth <= e.interval[1] for e in estimates) >= 48, name


def test_symmetric_scores_are_the_smaller_of_two() -> None:
    fake, real = sets("plain")
    right = slow(fake, real, 5, False)
    held = (right["reals_held"] > 0).double().mean().item()
    assert symmetric_precision(fake, real).value == pytest.approx(min(right["precision"].item(), held), abs=1e-12)
    expected = min(right["recall"].item(), right["coverage"].item())
    assert symmetric_recall(fake, real).value == pytest.approx(expected, abs=1e-12)


def test_covers_count_points_of_the_other_set_in_wide_balls() -> None:
    fake, real = sets("plain")
    y, x = fake.double(), real.double()
    cross = torch.cdist(x, y)
    wide_y, wide_x = (torch.cdist(s, s).fill_diagonal_(torch.inf).kthvalue(9).values for s in (y, x))
    fidelity = ((cross <= wide_y).sum(0) >= 3).double().mean().item()
    diversity = ((cross <= wide_x[:, None]).sum(1) >= 3).double().mean().item()
    assert precision_cover(fake, real).value == pytest.approx(fidelity, abs=1e-12)
    assert recall_cover(fake, real).value == pytest.approx(diversity, abs=1e-12)
    assert precision_cover(gauss(50, 3) + 99, gauss(50, 3)).value == 0
