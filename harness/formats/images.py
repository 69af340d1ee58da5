"""Images in files: a folder with one image per file, or a NumPy file with all of them."""

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
MODES = {"RGB": 3, "L": 1}
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
CHANNELS = (1, 3)
ROWS = 1024
"""Number of rows of an array that are checked at a time."""


def image_names(top: Path, below: str = ".") -> list[str]:
    """Sorted names, relative to `top`, of the images in the folder `below` and its sub-folders, except hidden ones.

    Raises FileNotFoundError when there are no images.
    """
    paths = (path.relative_to(top) for path in (top / below).rglob("*") if path.suffix.lower() in SUFFIXES)
    names = sorted(path.as_posix() for path in paths if not any(part.startswith(".") for part in path.parts))
    if not names:
        raise FileNotFoundError(f"{top / below} has no images ({', '.join(SUFFIXES)})")
    return names


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An open image file. Raises ValueError with its name when opening it, or the code that uses it, fails."""
    try:
        with Image.open(path) as image:
            yield image
    except UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as an image ({error}); replace or remove it") from None


def decode(path: Path, size: int, mode: str) -> Tensor:
    """One image as uint8 [C, H, W]. size: as for the data set `folder`; 0 keeps the stored size. mode: "RGB" or "L".

    Raises ValueError with the name of a file that cannot be decoded or has more than 8 bits per channel.
    """
    with opened(path) as image:
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels are of type {image.mode}, not 8 bits per channel")
        pixels = image.convert(mode)
    if size:
        width, height = (max(size, round(side * size / min(pixels.size))) for side in pixels.size)
        left, top = (width - size) // 2, (height - size) // 2
        pixels = pixels.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(pixels)).reshape(*pixels.size[::-1], MODES[mode]).permute(2, 0, 1).contiguous()


def check_sizes(top: Path, names: Sequence[str], fix: str) -> None:
    """Raises ValueError unless all images have one size. The message names the first that differs, and the fix."""
    expected = None
    for name in names:
        with opened(top / name) as image:
            found = image.size
        expected = expected or found
        if found != expected:
            raise ValueError(
                f"{top / name} has {found[0]} x {found[1]} pixels, {names[0]} {expected[0]} x {expected[1]}; {fix}"
            )


def read_arrays(file: Path, name: str) -> dict[str, NDArray[Any]]:
    """The arrays of a .npz file by name, or {name: the array of a .npy file, mapped into memory}.

    Raises ValueError when the file is neither, or holds pickled objects.
    """
    try:
        content = np.load(file, mmap_mode="r", allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {name: content}
        with content:
            return {key: content[key] for key in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file} is not a readable .npy or .npz file without pickles ({error})") from None


def image_array(what: str, images: NDArray[Any]) -> NDArray[Any]:
    """A view [N, C, H, W] of images [N, H, W], [N, H, W, C] or [N, C, H, W], uint8 or float in [0, 1].

    Raises ValueError for any other array; the message names the array by `what`, and the first bad row.
    """
    view = _channels_first(what, images)
    _check_values(what, view)
    return view


def eight_bits(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images uint8 from rows of an image array, uint8 or float in [0, 1]."""
    if images.dtype.kind == "f":
        images = np.rint(images.astype(np.float64) * 255).astype(np.uint8)
    return np.array(images, order="C")


def _channels_first(what: str, images: NDArray[Any]) -> NDArray[Any]:
    if 0 in images.shape:
        raise ValueError(f"{what}: shape {images.shape} is empty")
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4:
        first, last = images.shape[1] in CHANNELS, images.shape[3] in CHANNELS
        if first != last:
            return images if first else images.transpose(0, 3, 1, 2)
    raise ValueError(
        f"{what}: shape {images.shape} is not [N, H, W], [N, H, W, C] or [N, C, H, W], where exactly one of the second "
        "and the last axis is C = 1 or 3"
    )


def _check_values(what: str, images: NDArray[Any]) -> None:
    if images.dtype == np.uint8:
        return
    if images.dtype.kind != "f":
        raise ValueError(f"{what}: type {images.dtype}; give uint8 in 0..255 or a float type in [0, 1]")
    for start in range(0, len(images), ROWS):
        rows = images[start : start + ROWS]
        inside = (rows >= 0) & (rows <= 1)
        if not inside.all():
            row = int(np.argmin(inside.all(axis=(1, 2, 3))))
            value = rows[row][~inside[row]][0]
            raise ValueError(
                f"{what}: row {start + row} of {len(images)} holds {value}, outside [0, 1]; "
                "scale the images to [0, 1], or give uint8"
            )
