"""Inputs on which published packages return wrong numbers in silence, with the float64 values that are right.

One numpy stream makes all inputs, in a fixed order. Left out: cases of packages' caches and of old SciPy versions.
"""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.metrics.frechet import frechet_distance
from assay.metrics.kernel import cmmd, kernel_distance
from assay.metrics.latent_density import latent_density
from assay.metrics.neighbours import coverage, density, precision, realism, recall


def stream() -> dict[str, Any]:
    g = np.random.default_rng(0)

    def gauss(n: int, d: int, off: float = 0.0, sc: float = 1.0, alpha: float = 0.0) -> Any:
        return (g.standard_normal((n, d)) * np.arange(1, d + 1) ** -alpha * sc + off).astype(np.float32)

    cases: dict[str, Any] = {}
    cases["few"] = gauss(100, 512, 0.4, alpha=0.8), gauss(100, 512, 0.45, alpha=0.8)
    a = gauss(2000, 256, 0.4, alpha=0.8)
    cases["collapsed"] = a, np.repeat(a[:1], 2000, 0)
    a = gauss(300, 512, 0.4, alpha=0.8)
    cases["equal"] = a, a.copy()
    a, b = gauss(2000, 128, 0.4), gauss(2000, 128, 0.42, 1.05)
    a[:, :40], b[:, :40] = 0, 0
    cases["dead"] = a, b
    cases["offset"] = gauss(1000, 64), gauss(1000, 64, 0.1, 0.9)
    a = gauss(1000, 32)
    cases["one_point"] = a, np.repeat(gauss(1, 32), 1000, 0)
    a = np.repeat(gauss(100, 32), 10, 0)
    cases["tenfold"] = a, a.copy()
    cases["constant_real"] = np.ones((1024, 64), np.float32), gauss(50, 64)
    cases["grid"] = tuple(s * g.integers(0, 3, (300, 4)).astype(np.float32) for s in (1, 2))
    cases["five"] = gauss(5, 8), gauss(5, 8)
    for name, bad in (("nan", np.nan), ("inf", np.inf)):
        a, b = gauss(2000, 64), gauss(2000, 64, 0.1)
        b[7, 3] = bad
        cases[name] = a, b
    cases["small"] = gauss(700, 64), gauss(2000, 64, 0.1)
    for n in (300, 1000, 3000, 10000):
        cases[f"same_{n}"] = gauss(n, 256), gauss(n, 256)
    for n in (100, 1000):
        cases[f"unit_{n}"] = gauss(n, 256, sc=1 / 16), gauss(n, 256, sc=1 / 16)
    cases["seed"] = gauss(3000, 64), gauss(3000, 64, 0.05)
    cases["density"] = gauss(2000, 512), gauss(5, 512)
    for name in ("float16", "bfloat16"):
        cases[name] = gauss(1000, 64, 0), gauss(1000, 64, 40)
    return {name: tuple(map(torch.from_numpy, pair)) for name, pair in cases.items()}


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    return stream()


def shifted(pair: Any, offset: float) -> list[torch.Tensor]:
    return [(x.double() + offset).float() for x in pair]


def family(real: Any, fake: Any, k: int = 5) -> list[float]:
    return [m(fake, real, k=k).value for m in (precision, recall, density, coverage)]


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("few", 1.7116619487060358),
        ("collapsed", 3.738031238428306),
        ("dead", 2.4147830880051515),
        ("same_300", 111.70848739999758),
        ("same_1000", 33.446761834282825),
        ("same_10000", 3.3393503832026568),
    ],
)
def test_frechet_of_few_collapsed_and_dead_features(cases: Any, name: str, right: float) -> None:
    real, fake = cases[name]
    assert frechet_distance(fake, real).value == pytest.approx(right, rel=3e-7)


def test_frechet_of_equal_sets_is_zero_and_not_below(cases: Any) -> None:
    real, fake = cases["equal"]
    assert 0 <= frechet_distance(fake, real).value < 1e-7


@pytest.mark.parametrize(
    ("offset", "right"),
    [(0, 3.2699381486793015), (100, 3.2699382336183476), (1000, 3.2699374871250484), (10000, 3.269973346398075)],
)
def test_frechet_does_not_feel_a_common_offset(cases: Any, offset: float, right: float) -> None:
    real, fake = shifted(cases["offset"], offset)
    assert frechet_distance(fake, real).value == pytest.approx(right, rel=3e-7)


@pytest.mark.parametrize("offset", [0, 100, 1000])
def test_neighbours_do_not_feel_a_common_offset(cases: Any, offset: float) -> None:
    real, fake = shifted(cases["offset"], offset)
    assert [round(v, 4) for v in family(real, fake)] == [0.95, 0.322, 3.5576, 0.999]


def test_neighbours_of_rounded_inputs(cases: Any) -> None:
    real, fake = shifted(cases["offset"], 10000)
    assert [round(v, 4) for v in family(real, fake)] == [0.95, 0.323, 3.5578, 0.999]


def test_constant_sets_match_each_other() -> None:
    ones = torch.ones(1024, 64)
    assert family(ones, ones.clone()) == pytest.approx([1, 1, 1024 / 5, 1], rel=1e-12)
    tenths = torch.full((1024, 64), 0.1)
    assert family(tenths, tenths.clone()) == pytest.approx([1, 1, 1024 / 5, 1], rel=1e-12)


def test_tenfold_duplicates_match_each_other(cases: Any) -> None:
    real, fake = cases["tenfold"]
    assert family(real, fake) == [1, 1, 2, 1]
    assert family(*shifted((real, fake), 1000)) == [1, 1, 2, 1]


def test_a_collapsed_generator_keeps_precision_and_loses_the_rest(cases: Any) -> None:
    real, fake = cases["one_point"]
    assert family(real, fake) == pytest.approx([1, 0, 0.8, 0.004], abs=1e-12)


def test_realism_of_copies_is_finite_and_largest(cases: Any) -> None:
    real, _ = cases["one_point"]
    score = realism(real.clone(), real, k=3)
    assert torch.isfinite(score).all()
    assert score.max() == 1e6


def test_realism_against_constant_reals_is_zero_off_them(cases: Any) -> None:
    real, fake = cases["constant_real"]
    assert (realism(fake, real) == 0).all()


def test_ties_on_a_grid(cases: Any) -> None:
    real, fake = cases["grid"]
    assert [round(v, 4) for v in family(real, fake)] == [0.1633, 1.0, 0.514, 0.52]


def test_k_of_all_others_is_legal_and_more_is_explained(cases: Any) -> None:
    real, fake = cases["five"]
    assert family(real, fake, k=4)[0] > 0
    with pytest.raises(ValueError, match=r"real has 5 rows; k=5 needs at least 6 \(k other neighbours each\)"):
        precision(fake, real, k=5)


@pytest.mark.parametrize("name", ["nan", "inf"])
@pytest.mark.parametrize("metric", [precision, realism, frechet_distance, kernel_distance, latent_density])
def test_one_bad_row_is_named(cases: Any, name: str, metric: Any) -> None:
    real, fake = cases[name]
    with pytest.raises(ValueError, match=r"^fake: 1 of 2000 rows is not finite .* the first is row 7"):
        metric(fake, real)


def test_small_sets_use_every_pair_once(cases: Any) -> None:
    real, fake = cases["small"]
    assert kernel_distance(fake, real).value == pytest.approx(0.0252497, abs=5e-8)


def test_the_same_call_gives_the_same_number(cases: Any) -> None:
    real, fake = cases["seed"]
    assert kernel_distance(fake, real, block=5000).value == pytest.approx(0.0077064, abs=5e-8)
    assert kernel_distance(fake, real) == kernel_distance(fake, real)


def test_density_in_512_dimensions(cases: Any) -> None:
    reference, query = cases["density"]
    log = latent_density(query, reference, 1.0, relative=False) - 256 * math.log(2 * math.pi)
    right = [-901.5968, -882.1715, -895.7421, -891.5393, -879.5012]
    assert log.tolist() == pytest.approx(right, abs=1e-4)
    for width in (0.05, 0.3):
        distances = torch.cdist(query.double(), reference.double()).square()
        direct = torch.logsumexp(-distances / (2 * width**2), 1) - math.log(len(reference))
        got = latent_density(query, reference, width, relative=False)
        torch.testing.assert_close(got, direct, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_is_not_cast_back(cases: Any, kind: str) -> None:
    real, fake = (x.to(getattr(torch, kind)) for x in cases[kind])
    value = frechet_distance(fake, real).value
    assert value == frechet_distance(fake.float(), real.float()).value
    assert value == pytest.approx(102392.86 if kind == "float16" else 102357.86, rel=1e-3)


@pytest.mark.filterwarnings("ignore:cmmd")
def test_a_kernel_distance_of_equal_populations(cases: Any) -> None:
    # The published V-statistic is lifted by its diagonal; without it the value is 0 up to the spread of the sample. The
    # published code says 0.21982 and 0.01872: it sums nearly equal float32 numbers.
    for n, biased, unbiased in ((100, 0.2195536359, 0.0208), (1000, 0.0186364341, -0.0013)):
        real, fake = cases[f"unit_{n}"]
        assert cmmd(fake, real).value == pytest.approx(biased, rel=1e-8)
        assert cmmd(fake, real, unbiased=True).value == pytest.approx(unbiased, abs=5e-5)


@pytest.mark.parametrize(
    ("dimension", "width", "right"),
    [
        (8, 0.3, [1.586, 1.374, 1.133]),
        (64, 0.3, [9.595, 12.125, 10.526]),
        (128, 0.3, [20.745, 23.263, 22.314]),
        (512, 0.3, [92.719, 102.678, 96.364]),
        (512, 1.0, [-477.348, -475.918, -476.693]),
    ],
)
def test_kernel_densities_that_trees_get_wrong_by_thirty_nats(
    trees: tuple[Tensor, Tensor], dimension: int, width: float, right: list[float]
) -> None:
    queries, reference = (x[:, :dimension] for x in trees)
    normaliser = dimension * (0.5 * math.log(2 * math.pi) + math.log(width))
    log = latent_density(queries, reference, width, relative=False) - normaliser
    assert log[:3].tolist() == pytest.approx(right, abs=6e-4)
    squared = torch.stack([(reference.double() - q).square().sum(1) for q in queries.double()])
    direct = torch.logsumexp(-squared / (2 * width**2), 1) - math.log(len(reference)) - normaliser
    torch.testing.assert_close(log, direct, rtol=1e-6, atol=0)


@pytest.fixture(scope="module")
def trees() -> tuple[Tensor, Tensor]:
    """20 queries and 20,000 references in 512 dimensions: correlated, with a power-law spectrum."""
    generator = torch.Generator().manual_seed(7 + 512)
    spectrum = torch.arange(1, 513)[:, None] ** -0.5
    mix = torch.randn(512, 512, generator=generator) / 512**0.5 * spectrum
    shift = 0.2 * torch.rand(512, generator=generator)

    def rows(seed: int, count: int, scale: float) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        chunks = [torch.randn(5000, 512, generator=generator) for _ in range(-(-count // 5000))]
        return scale * torch.cat(chunks)[:count] @ mix + shift

    return rows(6, 20, 1.1), rows(5, 20_000, 1.0)
