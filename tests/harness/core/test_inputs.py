"""Bad input is refused in one clear line; good input is not copied."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from assay.harness.core.inputs import images, latents, require_neighbours, samples


def test_a_clean_float32_matrix_is_used_as_it_is() -> None:
    x = torch.randn(5, 3)
    assert samples(fake=x)[0] is x


@pytest.mark.parametrize(
    "dtype",
    [torch.float16, torch.bfloat16, torch.uint8, torch.int8, torch.int16, torch.uint16, torch.bool, torch.float8_e5m2],
)
def test_narrow_types_become_float32(dtype: torch.dtype) -> None:
    assert samples(fake=torch.ones(4, 3).to(dtype))[0].dtype == torch.float32


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64, np.longdouble])
def test_wide_types_become_float64_without_a_change_of_value(dtype: type) -> None:
    x = (np.arange(6).reshape(2, 3) + 2**30 + 1).astype(dtype)
    (found,) = samples(fake=x)
    assert found.dtype == torch.float64
    assert found.tolist() == x.tolist()


def test_what_float64_cannot_hold_is_refused() -> None:
    for dtype in (np.int64, np.uint64):
        samples(fake=np.full((2, 2), 2**53 - 1, dtype))
        with pytest.raises(ValueError, match=r"fake has whole numbers of 2\^53 or more"):
            samples(fake=np.full((2, 2), 2**53 + 1, dtype))
    with pytest.raises(ValueError, match=r"fake has .* values that float64 cannot hold"):
        samples(fake=np.ones((2, 2), np.longdouble) / 3)


def test_float64_anywhere_makes_all_float64() -> None:
    assert {x.dtype for x in samples(fake=torch.ones(2, 3), real=torch.ones(2, 3).double())} == {torch.float64}


def test_numpy_lists_of_images_and_read_only_arrays_are_accepted() -> None:
    x = np.zeros((4, 3, 2, 2), np.float32)
    x.flags.writeable = False
    assert samples(fake=x)[0].shape == (4, 12)
    assert samples(fake=np.zeros((2, 4))[:, ::-1])[0].dtype == torch.float64


def test_gradients_are_left_behind() -> None:
    assert not samples(fake=torch.ones(2, 2, requires_grad=True))[0].requires_grad


def test_large_finite_values_are_not_called_infinite() -> None:
    x = torch.full((10, 10), 1e38)
    assert samples(fake=x)[0] is x


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"fake": torch.ones(1, 3)}, "fake has 1 rows; at least 2"),
        ({"fake": torch.ones(3)}, r"fake has shape \[3\]; samples are \[N, D\]"),
        ({"fake": torch.ones(3, 0)}, "no columns"),
        ({"fake": torch.ones(3, 2), "real": torch.ones(3, 4)}, "fake has 2 dimensions, real has 4"),
        ({"fake": torch.ones(3, 2, dtype=torch.complex64)}, "fake is complex"),
        ({"fake": np.ones((3, 2), complex)}, "fake has the type complex128"),
        (
            {"fake": torch.ones(3, 2), "real": torch.tensor([[1.0, 1], [0, torch.nan], [-torch.inf, torch.inf]])},
            r"real: 2 of 3 rows are not finite \(NaN or inf\), the first is row 1",
        ),
    ],
)
def test_messages_name_the_set_the_counts_and_the_row(sets: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samples(2, **sets)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ma.array(np.ones((2, 2)), mask=[[0, 1], [0, 0]]), "fake has 1 masked values"),
        ([np.ma.array(np.ones(2), mask=[0, 1]), np.ones(2)], r"fake\[0\] has 1 masked values"),
        (np.ones((2, 2), object), "fake has the type object"),
        (np.full((2, 2), "1"), "fake has the type <U1"),
        (np.zeros((2, 2), "M8[s]"), "fake has the type datetime64"),
        (None, "fake has the type object"),
        (torch.ones(2, 2).to_sparse(), r"fake is sparse .*give fake\.to_dense\(\)"),
        (scipy.sparse.eye(2), r"fake is sparse .*give fake\.toarray\(\)"),
        (torch.ones(2, 2, device="meta"), "fake is on the meta device"),
        ([[1, 2], [3]], "fake cannot be read as an array"),
        ([torch.ones(2), torch.ones(3)], "fake is a list whose entry 0 has shape"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_name(array: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samples(fake=array)


def test_lists_are_stacked_and_byte_order_and_unset_masks_do_not_matter() -> None:
    x = np.random.default_rng(0).normal(size=(4, 3))
    for form in (x.tolist(), list(x), list(torch.from_numpy(x)), x.astype(">f8"), np.ma.array(x)):
        assert samples(fake=form)[0].tolist() == x.tolist()


def test_neighbour_counts() -> None:
    require_neighbours("real", 5, 4, others=True)
    require_neighbours("real", 5, 5, others=False)
    with pytest.raises(ValueError, match="real has 4 rows; k=5 needs at least 6"):
        require_neighbours("real", 4, 5, others=True)
    with pytest.raises(ValueError, match="k is 0"):
        require_neighbours("real", 4, 0, others=True)


def test_images_outside_their_range_are_named() -> None:
    x = torch.rand(4, 3, 5, 5)
    x[2, 0, 0, 0] = 1.5
    with pytest.raises(ValueError, match=r"1 of 4 images leave \[0, 1\], the first is image 2"):
        images("fake", x)
    with pytest.raises(ValueError, match="images are"):
        images("fake", torch.rand(4, 12))


def test_latents_keep_their_shape_and_type() -> None:
    z = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.equal(latents(z), z.detach())
    assert latents(z).dtype == torch.float64
    assert not latents(z).requires_grad
    assert latents(np.zeros((2, 5), np.float32)).shape == (2, 5)
    for bad in (torch.ones(3), torch.ones(3, 2, dtype=torch.long), torch.empty(0, 2), torch.tensor([[1.0, torch.nan]])):
        with pytest.raises(ValueError, match=r"latents are torch\..* of shape .*; give finite floating \[N, \.\.\.\]"):
            latents(bad)
