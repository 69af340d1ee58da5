"""Networks that a file describes: built on the meta device first, refused before memory or time is taken."""

import threading
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.harness.formats.built import built, whole


class Tower(nn.Module):
    """Linear layers, a constant outside the state dict, and a table as a plain attribute."""

    constant: Tensor

    def __init__(self, width: int, depth: int):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norm = nn.BatchNorm1d(width)
        self.register_buffer("constant", torch.arange(3.0), persistent=False)
        self.tables = [torch.ones(2)]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        normed: Tensor = self.norm(x)
        return normed + self.constant.sum() + self.tables[0].sum()


def test_the_network_is_the_one_that_was_saved() -> None:
    torch.manual_seed(0)
    saved = Tower(4, 2)
    saved(torch.randn(9, 4))  # moves the statistics of the norm
    network = built(lambda: Tower(4, 2), saved.state_dict(), "FILE")
    x = torch.randn(5, 4)
    assert torch.equal(network(x), saved.eval()(x))
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert network.norm.num_batches_tracked.dtype == torch.int64


def test_numbers_take_the_types_of_the_network() -> None:
    saved = {name: t.half() if t.is_floating_point() else t.int() for name, t in Tower(4, 2).state_dict().items()}
    network = built(lambda: Tower(4, 2), saved, "FILE")
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert torch.equal(network.layers[0].weight, saved["layers.0.weight"].float())


def test_the_random_state_is_left_alone_where_one_construction_is_enough() -> None:
    saved = nn.Linear(3, 3).state_dict()
    before = torch.get_rng_state()
    built(lambda: nn.Linear(3, 3), saved, "FILE")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("layers.1.bias"), "FILE holds another network: it lacks 1 tensors such as layers.1.bias"),
        (lambda t: t.update(extra=torch.ones(1)), "it has 1 unexpected tensors such as extra"),
        (
            lambda t: t.update({"layers.0.bias": torch.ones(5)}),
            r"it has 1 tensors of other shapes such as layers.0.bias \(\[5\], expected \[4\]\)",
        ),
        (lambda t: t.update({"layers.0.bias": "ones"}), "FILE holds a str where a tensor must be: layers.0.bias"),
    ],
)
def test_the_first_difference_is_named(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    tensors = Tower(4, 2).state_dict()
    change(tensors)
    with pytest.raises(ValueError, match=message):
        built(lambda: Tower(4, 2), tensors, "FILE")


HOSTILE: dict[str, Callable[[], nn.Module]] = {
    "wide": lambda: Tower(2**20, 2),
    "too wide for an address": lambda: Tower(2**40, 2),
    "deep": lambda: Tower(4, 10**8),
    "many modules without tensors": lambda: nn.Sequential(*(nn.Sequential(nn.ReLU()) for _ in range(10**5))),
    "negative": lambda: Tower(-1, 2),
    "endless": lambda: Tower(int(float("inf")), 2),
    "without a key": lambda: Tower({}["width"], 2),
    "of no number": lambda: Tower(None, 2),  # type: ignore[arg-type]
    "with a vast constant": lambda: _with_constant(2**33),
}


def _with_constant(size: int) -> nn.Module:
    network = Tower(4, 2)
    network.register_buffer("vast", torch.zeros(size), persistent=False)
    return network


@pytest.mark.parametrize("kind", HOSTILE)
def test_sizes_that_are_only_declared_cost_nothing(kind: str) -> None:
    tensors, refused = Tower(4, 2).state_dict(), r"^FILE (describes no network|describes a network|holds another)"
    start = time.process_time()
    with pytest.raises(ValueError, match=refused) as error:
        built(HOSTILE[kind], tensors, "FILE")
    assert time.process_time() - start < 5
    assert "\n" not in str(error.value)
    tracemalloc.start()  # apart, because it makes everything slow
    try:
        with pytest.raises(ValueError, match=refused):
            built(HOSTILE[kind], tensors, "FILE")
        assert tracemalloc.get_traced_memory()[1] < 2**28
    finally:
        tracemalloc.stop()


def test_other_threads_may_build_what_they_like_meanwhile() -> None:
    saved, done, errors = Tower(4, 2).state_dict(), threading.Event(), list[BaseException]()

    def deep() -> None:
        try:
            Tower(2, 1000)
        except BaseException as error:
            errors.append(error)
        done.set()

    def make() -> nn.Module:
        thread = threading.Thread(target=deep)
        thread.start()
        done.wait(30)
        thread.join()
        return Tower(4, 2)

    built(make, saved, "FILE")
    assert done.is_set()
    assert not errors


def test_whole_numbers() -> None:
    assert whole(8, "size") == whole(8.0, "size") == 8
    for wrong in (0, -1, 2**21, 1.5, float("nan"), float("inf"), True, "8", None, 10**5000):
        with pytest.raises(ValueError, match=r"size=.* must be a whole number from 1 to 1,048,576"):
            whole(wrong, "size")
