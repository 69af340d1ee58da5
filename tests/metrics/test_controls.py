"""Controls measure what their name says and nothing else."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from assay.metrics.controls import laplacian_variance, mean_intensity, png_bytes, random_score


def noise(n: int, channels: int = 3) -> Tensor:
    return torch.rand(n, channels, 16, 16, generator=torch.Generator().manual_seed(0))


def test_random_score_depends_on_the_seed_alone() -> None:
    first = random_score(noise(100))
    assert torch.equal(first, random_score(torch.zeros(100, 1, 8, 8)))
    assert not torch.equal(first, random_score(noise(100), seed=1))
    assert (first >= 0).all()
    assert (first < 1).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_png_bytes_is_the_size_of_a_file_that_decodes_to_the_image(channels: int) -> None:
    x = (noise(3, channels) * 255).round() / 255
    picture = (x[1] * 255).to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", optimize=True)
    assert png_bytes(x)[1] == len(file.getvalue())


def test_flat_images_are_small_smooth_and_have_their_ink() -> None:
    flat, rough = torch.full((2, 1, 16, 16), 0.25), noise(2, 1)
    assert (png_bytes(flat) < png_bytes(rough)).all()
    assert (laplacian_variance(flat) == 0).all()
    assert (laplacian_variance(rough) > 0.1).all()
    assert mean_intensity(flat).tolist() == [0.25, 0.25]


def test_laplacian_variance_of_a_known_image() -> None:
    x = torch.zeros(1, 1, 3, 4)
    x[0, 0, 1, 1] = 1  # the two inner pixels see -4 and 1
    assert laplacian_variance(x).item() == pytest.approx(12.5)
    with pytest.raises(ValueError, match="at least 3 x 4"):
        laplacian_variance(torch.zeros(1, 1, 2, 5))


def test_a_single_inner_pixel_has_no_variance_and_no_pixels_no_mean() -> None:
    with pytest.raises(ValueError, match="at least 3 x 4"):
        laplacian_variance(torch.zeros(2, 1, 3, 3))
    with pytest.raises(ValueError, match="fake has shape"):
        mean_intensity(torch.zeros(2, 1, 4, 0))


def test_what_would_mend_a_range_or_an_order_of_axes_is_told_and_works() -> None:
    x = torch.rand(5, 3, 5, 6, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 0, 1
    rgba = torch.cat([x, x[:, :1]], 1)
    cases: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (2 * x - 1, r"\(fake \+ 1\) / 2", lambda fake: (fake + 1) / 2),
        (255 * x, r"fake / 255", lambda fake: fake / 255),
        (x.permute(0, 2, 3, 1), r"fake\.permute\(0, 3, 1, 2\)", lambda fake: fake.permute(0, 3, 1, 2)),
        (x.permute(0, 2, 3, 1).numpy(), r"fake\.transpose\(0, 3, 1, 2\)", lambda fake: fake.transpose(0, 3, 1, 2)),
        (x[:, 0], r"fake\[:, None\]", lambda fake: fake[:, None]),
        (rgba, r"alpha channel, fake\[:, :3\]", lambda fake: fake[:, :3]),
        (
            rgba.permute(0, 2, 3, 1).numpy(),
            r"fake\[\.\.\., :3\]\.transpose\(0, 3, 1, 2\)",
            lambda fake: fake[..., :3].transpose(0, 3, 1, 2),
        ),
    ]
    for bad, advice, mended in cases:
        for score in (mean_intensity, png_bytes, laplacian_variance):
            with pytest.raises(ValueError, match=advice):
                score(bad)
        expected = mean_intensity(x[:, :1] if bad.ndim == 3 else x)
        torch.testing.assert_close(mean_intensity(mended(bad)), expected, rtol=1e-6, atol=1e-7)
    for empty in (x[:0], x[..., :0]):
        with pytest.raises(ValueError, match="fake has shape"):
            mean_intensity(empty)


def test_8_bit_images_are_divided_by_255() -> None:
    whole = torch.tensor([0, 51, 255, 204], dtype=torch.uint8).view(1, 1, 2, 2)
    for form in (whole, whole.numpy(), list(whole)):
        assert mean_intensity(form).tolist() == pytest.approx([0.5], rel=1e-7)
    with pytest.raises(ValueError, match="uint8 with no value above 1"):
        mean_intensity((whole > 0).byte())
    assert mean_intensity(whole > 0).tolist() == [0.75]
