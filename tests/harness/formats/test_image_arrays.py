"""The range of values is taken where it is certain, stated where it is not, and refused else."""

from pathlib import Path

import numpy as np
import pytest

from assay.harness.formats.image_arrays import ImageArray

BYTES = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)
EIGHT = BYTES.transpose(0, 3, 1, 2)
RANGES = {"0..1": BYTES / 255, "-1..1": BYTES / 127.5 - 1, "0..255": BYTES.astype(np.float64)}


def taken(array: np.ndarray, value_range: str = "auto", mode: str = "auto") -> np.ndarray:
    return ImageArray("file, images", array, "dataset.array", value_range, mode)[:]


@pytest.mark.parametrize("dtype", [np.float64, np.float32, ">f8"])
@pytest.mark.parametrize("name", RANGES)
def test_every_range_comes_back_stated_or_guessed(name: str, dtype: str) -> None:
    assert np.array_equal(taken(RANGES[name].astype(dtype), name), EIGHT)
    assert np.array_equal(taken(RANGES[name].astype(dtype)), EIGHT)


def test_half_floats_keep_255_values() -> None:
    assert np.array_equal(taken((BYTES / 255).astype(np.float16)), EIGHT)


def test_a_guess_is_said_and_a_certain_range_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    taken(RANGES["0..1"])
    taken(BYTES)
    assert "taken as" not in capsys.readouterr().err
    taken(RANGES["-1..1"] * 0.99)
    words = " ".join(capsys.readouterr().err.split())
    assert "file, images: values -0.99 to 0.99 are taken as -1..1; dataset.array.range states another range" in words
    taken(BYTES.astype(np.int64) // 2)
    assert "values 0 to 127 are taken as 0..255" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (RANGES["-1..1"] * 0.3, r"row 0 of 9 holds -0.\d+, outside \[0, 1\]; give dataset.array.range=0..1 or -1..1"),
        (RANGES["0..255"] + 0.25, r"row 0 of 9 holds [\d.]+, outside \[0, 1\]; give dataset.array.range="),
        (RANGES["0..255"] - 9, "outside"),
        (RANGES["-1..1"] * 1.1, "scale or clamp"),
        (BYTES.astype(np.int64) * 2, r"outside \[0, 255\]"),
        (np.where(np.arange(9)[:, None, None, None] == 4, np.nan, RANGES["0..1"]), "row 4 of 9 holds nan"),
        (np.where(np.arange(9)[:, None, None, None] == 4, np.inf, RANGES["0..1"]), "row 4 of 9 holds inf"),
        (RANGES["0..1"] / 255, "no value is above 1/255, which is nearly black"),
        (BYTES % 2, r"0 or 1 of 255, .*save 255 . images, or give dataset.array.range=0..1"),
        (BYTES.astype(np.int32) % 2, "give dataset.array.range=0..1, or dataset.array.range=0..255"),
        (BYTES.astype(complex), "type complex128; give uint8"),
        (BYTES.astype("U3"), "type <U3; give uint8"),
    ],
)
def test_what_may_have_several_ranges_is_refused_with_the_fix(array: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        taken(array)
    assert "\n" not in str(caught.value)


def test_a_stated_range_is_held() -> None:
    assert np.array_equal(taken(RANGES["-1..1"] * 0.3, "-1..1"), np.rint((0.3 * (EIGHT / 127.5 - 1) + 1) * 127.5))
    assert np.array_equal(taken(BYTES % 2, "0..1"), EIGHT % 2 * 255)
    assert np.array_equal(taken(BYTES % 2, "0..255"), EIGHT % 2)
    assert np.array_equal(taken(BYTES % 2 == 1), EIGHT % 2 * 255)
    for value_range, array in (("0..1", RANGES["0..255"]), ("-1..1", BYTES), ("0..1", RANGES["-1..1"])):
        with pytest.raises(
            ValueError,
            match=r"row \d of 9 holds .* outside \[-?\d, \d\]; give another dataset.array.range, or scale or clamp",
        ):
            taken(array, value_range)
    with pytest.raises(ValueError, match=r"dataset.array.range='0-1' must be one of auto, 0..1, -1..1, 0..255"):
        taken(BYTES, "0-1")


def test_rows_come_in_any_order(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", BYTES)
    images = ImageArray("file", np.load(tmp_path / "a.npy", mmap_mode="r"), "dataset.array")
    for rows in ([3, 0, 3, 8], [], slice(2, 7, 2), slice(0, 0)):
        assert np.array_equal(images[rows], EIGHT[rows])
    assert images.shape == EIGHT.shape
    assert images[[1]].dtype == np.uint8


def test_modes() -> None:
    grey = taken(BYTES, mode="L")
    assert grey.shape == (9, 1, 4, 5)
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    assert np.abs(grey[:, 0] - (weights * EIGHT).sum(1)).max() <= 1
    assert np.array_equal(taken(BYTES[..., 0], mode="RGB"), EIGHT[:, :1].repeat(3, 1))
    assert taken(BYTES[..., :1].repeat(3, 3)).shape == (9, 1, 4, 5)
    with pytest.raises(ValueError, match=r"dataset.array.mode='grey' must be one of"):
        taken(BYTES, mode="grey")
