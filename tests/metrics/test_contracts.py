"""What every registered metric promises, walked over the whole registry; a metric that breaks a promise is named."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.harness.core.declarations import Metric
from assay.harness.core.protocols import Estimate, View
from assay.harness.core.registry import METRICS, discover, metric

N = 64  # half of them is enough for every interval
OF_A_DECODER = {"stretch", "singular", "trajectory", "denoising"}
"""Spaces of numbers at a code or on the way to it, which noise makes no worse, and which are not negative."""
LINK = re.compile(r"arXiv:\d{4}\.\d{4,5}|https?://\S+\.\S+")

pytestmark = [pytest.mark.filterwarnings("ignore:cmmd. distances"), pytest.mark.usefixtures("brief_training")]

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
    if through == "inception":
        return torch.rand(N, 2048, generator=generator)
    if through in ("residual", "discriminator"):
        return torch.rand(N, 1, generator=generator)
    if through in OF_A_DECODER:
        return torch.rand(N, 6, generator=generator) + 0.1
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
    if m.better == "neither" or len(m.views) < 2 or OF_A_DECODER & {view.space for view in m.views.values()}:
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


def in_float64(m: Metric) -> list[NDArray[Any]]:
    return [x.double().numpy() for x in inputs(m)]


def every_second(x: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(x, 2, axis=0)[::2]


def read_only(x: NDArray[Any]) -> NDArray[Any]:
    x = x.copy()
    x.flags.writeable = False
    return x


SAME: dict[str, Callable[[NDArray[Any]], Any]] = {
    "a gradient": lambda x: torch.tensor(x, requires_grad=True),
    "strides": every_second,
    "negative strides": lambda x: x[::-1].copy()[::-1],
    "read-only": read_only,
    "no value masked": np.ma.array,
    "big-endian": lambda x: x.astype(">f8"),
    "a list of arrays": list,
    "a list of tensors": lambda x: list(torch.from_numpy(x)),
    "nested lists": lambda x: x.tolist(),
    "longdouble": lambda x: x.astype(np.longdouble),
}
NARROW = (torch.float32, torch.float16, torch.bfloat16)
REFUSED: dict[str, Callable[[NDArray[Any]], Any]] = {
    "a value masked": lambda x: np.ma.array(x, mask=np.arange(x.size).reshape(x.shape) == 3),
    "object": lambda x: x.astype(object),
    "text": lambda x: x.astype(str),
    "complex": lambda x: x + 0j,
    "sparse": lambda x: torch.from_numpy(x).to_sparse(),
    "meta": lambda x: torch.from_numpy(x).to("meta"),
    "no rows": lambda x: x[:0],
    "no columns": lambda x: x[:, :0],
    "one axis": lambda x: x.reshape(-1),
    "NaN": lambda x: np.where(np.arange(x.size).reshape(x.shape) == 3, np.nan, x),
    "2^53": lambda x: np.full(x.shape, 2**53 + 1),
    "a ragged list": lambda x: [*x[:-1], x[-1][:0]],
}


def values(m: Metric, arguments: list[Any]) -> Tensor:
    """The scores or the numbers of a metric, with their intervals."""
    result = m.function(*arguments)
    if m.kind == "sample":
        assert not result.requires_grad
        return result.double()
    return torch.tensor([[e.value, *e.interval] for e in numbers(result)], dtype=torch.float64)


def gives_the_same_for_every_form_of_an_array(m: Metric) -> None:
    plain = in_float64(m)
    expected = values(m, plain)
    for form, change in SAME.items():
        found = values(m, [change(x) for x in plain])
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12, equal_nan=True), f"{m.name} differs for {form}"
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(values(m, plain), expected, rtol=1e-12, atol=1e-12, equal_nan=True)


def rounds_no_narrow_type(m: Metric) -> None:
    """The values that a narrow type holds give what they give in float64, to the precision of float32."""
    for dtype in NARROW:
        narrow = [torch.from_numpy(x).to(dtype) for x in in_float64(m)]
        found, expected = values(m, narrow), values(m, [x.double() for x in narrow])
        if m.kind == "set":  # ties of few digits fall to either side in a half, which estimates a standard error alone
            torch.testing.assert_close(found[:, 1:], expected[:, 1:], rtol=0.02, atol=0.01, equal_nan=True)
            found, expected = found[:, 0], expected[:, 0]
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-5, equal_nan=True)


def holds_long_integers_exactly(m: Metric) -> None:
    """Beyond 2^24, where float32 would round: the same as in float64, or refused there too."""
    whole = [(8 * x).astype(np.int64) + 2**25 + 1 for x in in_float64(m)]
    try:
        expected = values(m, [x.astype(np.float64) for x in whole])
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011
            values(m, whole)
        return
    torch.testing.assert_close(values(m, whole), expected, rtol=0, atol=0, equal_nan=True)


def refuses_by_name_what_is_no_array_of_numbers(m: Metric) -> None:
    for position, name in enumerate(m.views):
        for form, change in REFUSED.items():
            arguments: list[Any] = in_float64(m)
            if form in ("no columns", "one axis", "a ragged list") and arguments[position].ndim == 1:
                continue
            arguments[position] = change(arguments[position])
            with pytest.raises(ValueError, match=rf"^{name}\b") as caught:
                m.function(*arguments)
            assert "\n" not in str(caught.value), form


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


@pytest.mark.parametrize("name", OURS)
def test_forms(name: str) -> None:
    gives_the_same_for_every_form_of_an_array(METRICS[name])
    rounds_no_narrow_type(METRICS[name])
    holds_long_integers_exactly(METRICS[name])


@pytest.mark.parametrize("name", OURS)
def test_refusals(name: str) -> None:
    refuses_by_name_what_is_no_array_of_numbers(METRICS[name])


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
