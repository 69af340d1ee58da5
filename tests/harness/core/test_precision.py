import contextlib

import pytest
import torch

from assay.harness.core.precision import full_precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_off_within_and_on_again_after(dtype):
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype):
        with full_precision():
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == dtype


def test_convolutions_are_not_rounded_either_and_are_as_before_after(monkeypatch):
    """On a GPU, cuDNN rounds them to TF32 by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with contextlib.suppress(ZeroDivisionError), full_precision():
        assert not torch.backends.cudnn.allow_tf32
        with full_precision():
            pass
        assert not torch.backends.cudnn.allow_tf32
        raise ZeroDivisionError
    assert torch.backends.cudnn.allow_tf32


def test_it_decorates_and_can_be_nested_and_called_again():
    @full_precision()
    def product(x, depth=2):
        return product(x, depth - 1) if depth else x @ x

    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert [product(x).dtype for _ in range(2)] == [torch.float32] * 2


def test_the_callers_setting_of_products_is_restored_even_after_an_error():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        for error in (None, ZeroDivisionError):
            with contextlib.suppress(ZeroDivisionError), full_precision():
                assert torch.get_float32_matmul_precision() == "highest"
                if error:
                    raise error
            assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
