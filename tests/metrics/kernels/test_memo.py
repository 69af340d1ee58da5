"""Remembered results must never be wrong: changed values, recycled addresses and foreign writes all compute anew."""

import gc
import weakref

import torch
from torch import Tensor

from assay.metrics.kernels.memo import remember


class Counted:
    def __init__(self) -> None:
        self.calls = 0

        def total(x: Tensor, factor: float = 1.0) -> float:
            self.calls += 1
            return float(x.sum()) * factor

        self.total = remember(total)


def test_the_same_tensor_is_computed_once() -> None:
    count, x = Counted(), torch.ones(4, 3)
    assert count.total(x) == count.total(x) == 12
    assert count.calls == 1


def test_an_equal_tensor_and_another_option_are_computed_anew() -> None:
    count, x = Counted(), torch.ones(4, 3)
    assert (count.total(x), count.total(x.clone()), count.total(x, 2.0), count.total(x, factor=3.0)) == (12, 12, 24, 36)
    assert count.calls == 4


def test_a_change_in_place_is_noticed() -> None:
    count, x = Counted(), torch.ones(4, 3)
    count.total(x)
    x[0, 0] = 5
    assert count.total(x) == 16


def test_a_change_torch_does_not_count_is_noticed() -> None:
    count, x = Counted(), torch.arange(12.0).reshape(4, 3)
    count.total(x)
    x.data[0, 0] = 100
    assert count.total(x) == 166
    x.numpy()[:] = x.numpy()[::-1].copy()
    count.total(x)
    assert count.calls == 3


def test_a_recycled_address_is_not_taken_for_the_old_tensor() -> None:
    count = Counted()
    for i in range(50):
        assert count.total(torch.full((2, 2), float(i))) == 4 * i


def test_tensors_are_not_kept_alive() -> None:
    count, x = Counted(), torch.ones(4, 3)
    count.total(x)
    alive = weakref.ref(x)
    del x
    gc.collect()
    assert alive() is None


def test_inference_tensors_have_no_version_and_are_not_remembered() -> None:
    count = Counted()
    with torch.inference_mode():
        x = torch.ones(2, 2)
    count.total(x)
    count.total(x)
    assert count.calls == 2


def test_only_the_last_few_results_are_kept() -> None:
    count, tensors = Counted(), [torch.ones(2, 2) for _ in range(10)]
    for x in tensors:
        count.total(x)
    count.total(tensors[-1])
    assert count.calls == 10
    count.total(tensors[0])
    assert count.calls == 11
