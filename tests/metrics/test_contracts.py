"""What every registered metric promises, walked over the whole registry; a metric that breaks a promise is named."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.harness.core.protocols import Estimate, View
from assay.harness.core.registry import METRICS, Metric, discover, metric

N = 60
LINK = re.compile(r"arXiv:\d{4}\.\d{4,5}|https?://\S+\.\S+")

pytestmark = pytest.mark.filterwarnings("ignore:cmmd. distances")

discover()
OURS = sorted(name for name, m in METRICS.items() if m.function.__module__.startswith("assay.metrics."))


def array(view: View, seed: int) -> Tensor:
    """A small set as `view` would deliver it; equal seeds give equal sets."""
    generator = torch.Generator().manual_seed(seed)
    through = view.space.split(":")[0]
    if through == "images":
        return torch.rand(N, 3, 8, 8, generator=generator)
    if through == "labels":
        return torch.randint(0, 4, (N,), generator=generator)  # enough of each class for a Gaussian
    if view.encode == "logvar":
        return torch.full((N, 6), -2.0)
    if through == "points":
        return torch.rand(N, 16, 3, generator=generator)
    if through == "shaded":
        return torch.randn(N, 3, 4, generator=generator)
    return torch.randn(N, 6, generator=generator)


def inputs(m: Metric, seed: int = 0) -> list[Tensor]:
    """One set under every view: generated equals real."""
    return [array(view, seed) for view in m.views.values()]


def numbers(result: Any) -> list[Any]:
    return list(result.values()) if isinstance(result, dict) else [result]


def level(m: Metric, arguments: list[Tensor]) -> float:
    result = m.function(*arguments)
    if m.kind == "sample":
        return float(result.nanmean())
    return float(numbers(result)[0])


def is_declared(m: Metric) -> None:
    assert m.better in ("higher", "lower", "neither"), f"{m.name}: better is {m.better!r}"
    assert m.kind in ("set", "sample"), f"{m.name}: kind is {m.kind!r}"
    assert LINK.search(m.source), f"{m.name}: source {m.source!r} is not a link"
    assert m.function.__doc__, f"{m.name} has no docstring"


def has_an_interval(m: Metric) -> None:
    result = m.function(*inputs(m))
    if m.kind == "sample":
        assert isinstance(result, Tensor), f"{m.name} returns {type(result)}"
        assert result.shape == (N,), f"{m.name} returns {tuple(result.shape)}"
        assert not result.isinf().any(), f"{m.name} is infinite"
        return
    for number in numbers(result):
        assert isinstance(number, Estimate), f"{m.name} returns {type(number).__name__}, not an Estimate"
        low, high = number.interval
        assert low <= number.value <= high, f"{m.name}: {number.value} outside its interval"


def is_best_on_equal_sets(m: Metric) -> None:
    """Generated = real scores at least as well as generated = real plus noise, and plus more noise."""
    if m.better == "neither" or len(m.views) < 2:
        return
    sign = 1 if m.better == "higher" else -1
    equal = level(m, inputs(m))
    for size in (1.0, 10.0):
        worse = []
        for seed in range(5):
            fake, *others = inputs(m)
            noise = torch.randn(fake.shape, generator=torch.Generator().manual_seed(100 + seed))
            worse.append(level(m, [fake + size * noise, *others]))
        mean = sum(worse) / len(worse)
        assert sign * equal >= sign * mean - 1e-9, f"{m.name}: noise improves {equal} to {mean}; is {m.better!r} right?"


def ignores_the_order_of_rows(m: Metric) -> None:
    order = torch.randperm(N, generator=torch.Generator().manual_seed(5))
    arguments = [array(view, seed) for seed, view in enumerate(m.views.values())]
    shuffled = [x[order] for x in arguments]
    before, after = m.function(*arguments), m.function(*shuffled)
    if m.kind == "sample":
        torch.testing.assert_close(after, before[order], rtol=1e-4, atol=1e-5, equal_nan=True)
    else:
        for a, b in zip(numbers(before), numbers(after), strict=True):
            assert b.value == pytest.approx(a.value, rel=1e-4, abs=1e-6), f"{m.name} depends on the order of rows"


def leaves_its_inputs_alone(m: Metric) -> None:
    for dtype in (torch.float32, torch.float64):
        arguments = [x.to(dtype) if x.is_floating_point() else x for x in inputs(m)]
        copies = [x.clone() for x in arguments]
        m.function(*arguments)
        assert all(torch.equal(x, y) for x, y in zip(arguments, copies, strict=True)), f"{m.name} changes its inputs"


def accepts_numpy_and_half_precision(m: Metric) -> None:
    arguments = inputs(m)
    result, other = m.function(*arguments), m.function(*(x.numpy() for x in arguments))
    m.function(*(x.half() if x.is_floating_point() else x for x in arguments))
    if m.kind == "sample":
        torch.testing.assert_close(other, result, equal_nan=True)
    else:
        assert [float(x) for x in numbers(other)] == pytest.approx([float(x) for x in numbers(result)], rel=1e-6)


def names_the_bad_row(m: Metric) -> None:
    for position, name in enumerate(m.views):
        arguments = inputs(m)
        if not arguments[position].is_floating_point():
            continue
        arguments[position] = arguments[position].clone()
        arguments[position][7].view(-1)[0] = torch.nan
        with pytest.raises(ValueError, match=rf"{name}.*\b7\b"):
            m.function(*arguments)


@pytest.mark.parametrize("name", OURS)
def test_declaration(name: str) -> None:
    is_declared(METRICS[name])


@pytest.mark.parametrize("name", OURS)
def test_results(name: str) -> None:
    has_an_interval(METRICS[name])


@pytest.mark.parametrize("name", OURS)
def test_direction(name: str) -> None:
    is_best_on_equal_sets(METRICS[name])


@pytest.mark.parametrize("name", [name for name in OURS if "seed" not in METRICS[name].options])
def test_order(name: str) -> None:
    ignores_the_order_of_rows(METRICS[name])


@pytest.mark.parametrize("name", OURS)
def test_inputs(name: str) -> None:
    leaves_its_inputs_alone(METRICS[name])
    accepts_numpy_and_half_precision(METRICS[name])
    names_the_bad_row(METRICS[name])


@pytest.fixture
def _registry() -> Iterator[None]:
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


@pytest.mark.usefixtures("_registry")
def test_the_contracts_catch_a_metric_that_breaks_them() -> None:
    fake, real = View("fake", "features"), View("real", "features")

    @metric(better="higher", kind="set", source="arXiv:1706.08500", fake=fake, real=real)
    def wrong_direction(fake: Tensor, real: Tensor) -> Estimate:
        """A distance declared as a similarity."""
        value = float((fake - real).square().mean())
        return Estimate(value, (value, value))

    @metric(better="lower", kind="set", source="someone told me", fake=fake, real=real)
    def missing_source(fake: Tensor, real: Tensor) -> Estimate:
        """Without a link."""
        return Estimate(0, (0, 0))

    @metric(better="lower", kind="set", source="arXiv:1706.08500", fake=fake, real=real)
    def missing_interval(fake: Tensor, real: Tensor) -> float:
        """A bare number."""
        return float((fake - real).square().mean())

    @metric(better="lower", kind="sample", source="arXiv:1706.08500", fake=fake, real=real)
    def order_matters(fake: Tensor, real: Tensor) -> Tensor:
        """Compares row i with row i + 1."""
        return (fake - real.roll(1, 0)).norm(dim=1)

    @metric(better="lower", kind="sample", source="arXiv:1706.08500", fake=fake, real=real)
    def writes_into_its_input(fake: Tensor, real: Tensor) -> Tensor:
        """Centres in place."""
        fake -= real.mean(0)
        return fake.norm(dim=1)

    for promise, name, message in (
        (is_best_on_equal_sets, "wrong_direction", "noise improves"),
        (is_declared, "missing_source", "is not a link"),
        (has_an_interval, "missing_interval", "not an Estimate"),
        (ignores_the_order_of_rows, "order_matters", "not close"),
        (leaves_its_inputs_alone, "writes_into_its_input", "changes its inputs"),
    ):
        with pytest.raises(AssertionError, match=message):
            promise(METRICS[name])

    with pytest.raises(TypeError, match="`source` is empty"):
        metric(better="lower", kind="set", source="", fake=fake, real=real)(lambda fake, real: 0)
