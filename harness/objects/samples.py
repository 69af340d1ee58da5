"""Images in objects: arrays, pictures, loaders, data sets and iterators become one array of 8-bit images."""

import hashlib
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import GeneratorType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset

from ..arrays.spaces import BATCH, PIXELS
from ..core.progress import say_once
from ..formats.image_arrays import BLOCK, channels_first, eight_bits
from ..formats.images import as_shown

IMAGES = ("image", "images", "img", "pixel_values", "x", "jpg", "png")
LABELS = ("label", "labels", "fine_label", "class", "y", "cls")
"""Names of images and of their classes in the mappings that data sets give."""
LEAST = 8
"""Images of an array that are converted at a time, at least: fewer would not show which axes they have."""
GIVE = "give an array [N, C, H, W], a path, a data set, a DataLoader, an iterator of batches, or a name"


class Images(NamedTuple):
    """pixels: uint8 [N, C, H, W]; labels: int64 [N], None where there are none; classes: their names."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    classes: Sequence[str]


Range = tuple[float, float]
"""The values that are black and white in floating images."""


class Collected:
    """Batches of images, kept in a temporary file without a name, so that memory does not grow with their number.

    who: the argument that they were given by, for messages. value_range: of floating images, which are clamped to it;
    None for [0, 1], outside of which nothing is accepted. labelled: whether their classes are kept too.
    """

    def __init__(self, who: str, value_range: Range | None = None, labelled: bool = False):
        self._who, self._range = who, value_range
        self._file = tempfile.TemporaryFile()  # noqa: SIM115, closed at the end of the context
        self._first: tuple[int, ...] = ()
        self._shape: tuple[int, ...] = ()
        self._axes = ""
        self._labels: list[Any] | None = [] if labelled else None
        self._pictures, self._grey, self._bytes, self._brightest = False, True, True, 0
        self.count = 0

    def __enter__(self) -> "Collected":
        return self

    def __exit__(self, *error: object) -> None:
        """What is mapped from the file stays."""
        self._file.close()

    def add(self, batch: Any, labels: Any = None) -> None:
        """A batch of images, or one picture of Pillow or a list of such, and the class of each."""
        what = f"{self._who}, after {self.count:,} images" if self.count else self._who
        if pictures := _pictures(batch):
            self._pictures = True
            images = np.stack([self._picture(picture) for picture in _one_size(what, pictures)])
        else:
            images = self._laid_out(what, _array(what, batch))
        self._bytes = self._bytes and images.dtype == np.uint8
        images = eight_bits(self._in_range(what, images))
        if self._pictures and self._grey:
            self._grey = bool((images[:, 1:] == images[:, :1]).all())
        self._file.write(images.tobytes())
        self.count += len(images)
        if self._labels is not None:
            found = _class_numbers(self._who, labels, len(images))
            self._labels = None if found is None else self._labels
            (self._labels or []).extend(found or ())

    @property
    def at_once(self) -> int:
        """How many images of this size a network sees at a time."""
        return max(1, min(BATCH, PIXELS // math.prod(self._shape[1:])))

    def images(self, classes: Sequence[str] = ()) -> Images:
        """All of them. Raises ValueError where there are none, or all are nearly black."""
        if not self.count:
            raise ValueError(
                f"{self._who} gave no images: it is empty, or an iterator that was read before; make it again"
            )
        self._file.flush()
        pixels: NDArray[np.uint8] = np.memmap(self._file, np.uint8, "r", shape=(self.count, *self._shape))
        if self._bytes and self._brightest == 1:
            raise ValueError(f"{self._who}: all values are 0 or 1 of 255, which is nearly black; give 255 * images")
        if self._pictures and self._grey:
            pixels = pixels[:, :1]
        return Images(pixels, *_named_classes(self._who, self._labels, classes))

    def _picture(self, picture: Image.Image) -> NDArray[np.uint8]:
        try:
            shown, _ = as_shown(picture, "RGB")
        except (OSError, ValueError) as error:
            raise ValueError(f"{self._who}: a picture cannot be read ({error})") from None
        pixels = np.asarray(shown).transpose(2, 0, 1)
        self._fit(self._who, pixels.shape)
        return pixels

    def _laid_out(self, what: str, images: NDArray[Any]) -> NDArray[Any]:
        """With the axes [N, C, H, W]; what the first batch shows holds for all, since a small one can be ambiguous."""
        if not self._first:
            first = channels_first(what, images.shape)
            self._axes = "grey" if images.ndim == 3 else "first" if first else "last"
            self._first = images.shape[1:]
        if images.shape[1:] != self._first:
            raise ValueError(
                f"{what}: they have the shape {list(images.shape[1:])}, those before {list(self._first)}; give all one "
                "shape"
            )
        if self._axes == "grey":
            found = images[:, None]
        else:
            found = images if self._axes == "first" else images.transpose(0, 3, 1, 2)
        self._fit(what, found.shape[1:])
        return found

    def _fit(self, what: str, shape: tuple[int, ...]) -> None:
        if self._shape and shape != self._shape:
            raise ValueError(f"{what}: one image is {list(shape)}, another {list(self._shape)} [C, H, W]; resize them")
        self._shape = shape

    def _in_range(self, what: str, images: NDArray[Any]) -> NDArray[Any]:
        """Floating images in [0, 1]; those of 8 bits as they are."""
        if images.dtype == np.uint8:
            self._brightest = max(self._brightest, int(images.max()))
            return images
        if images.dtype.kind != "f":
            raise ValueError(f"{what}: type {images.dtype}; give uint8 in 0..255 or a float type in [0, 1]")
        finite = np.isfinite(images)
        inside = finite if self._range else (images >= 0) & (images <= 1)
        if not inside.all():
            row = int(np.argmin(inside.reshape(len(images), -1).all(1)))
            value, fix = images[row][~inside[row]][0], "scale the images to [0, 1], or give uint8"
            if not finite.all() or self._range:
                fix = "all values must be finite"
            elif not self._who.startswith("dataset"):
                fix += "; value_range=(-1, 1) says that -1 is black"
            raise ValueError(f"{what}: row {row} of {len(images)} holds {value}, outside [0, 1]; {fix}")
        if self._range is None:
            return images
        low, high = self._range
        return ((images.astype(np.float64) - low) / (high - low)).clip(0, 1)


def check_range(value_range: Range | None) -> None:
    """Raises ValueError for a range of values that is none."""
    if value_range is not None and not (len(value_range) == 2 and value_range[0] < value_range[1]):
        raise ValueError(f"value_range={value_range!r} must be the values of black and white, such as (-1, 1)")


def images_of(
    who: str, given: Any, value_range: Range | None = None, most: int | None = None, labelled: bool = False
) -> Images:
    """The images of an object that holds or gives them, and if `labelled` their classes, if it gives these too.

    Arrays and tensors are [N, H, W], [N, H, W, C] or [N, C, H, W], uint8 or float in [0, 1]; others are data sets
    that have a length and items, and iterables of batches: of images, of pairs with labels, or of mappings. Items and
    batches may be pictures of Pillow. most: how many are read of an iterable without a length.

    Raises ValueError, naming the argument `who`, for everything else, and for images that do not fit.
    """
    if given is None:
        raise ValueError(f"{who} is None; {GIVE}")
    if isinstance(given, (str, Path)):
        raise ValueError(f"{who} is a path, {str(given)!r}; give the images, or the folder that holds all splits")
    if is_array(given) and given.ndim < 3:
        raise ValueError(
            f"{who} has the shape {list(given.shape)}, and images are [N, C, H, W]; features go to assay.score(METRIC, "
            "FAKE, REAL)"
        )
    if isinstance(given, Image.Image):
        raise ValueError(f"{who} is one picture; give a list of pictures")
    with Collected(who, value_range, labelled) as collected:
        for images, labels in _batches(who, given, most):
            collected.add(images, labels)
        return collected.images(_classes(given))


def _batches(who: str, given: Any, most: int | None) -> Iterator[tuple[Any, Any]]:
    """Images and their labels or None, some at a time."""
    if is_array(given):
        array = _array(who, given)
        rows = max(LEAST, BLOCK // max(1, math.prod(array.shape[1:])))
        for start in range(0, max(1, len(array)), rows):
            yield array[start : start + rows], None
    elif isinstance(given, Mapping) or (isinstance(given, tuple) and given and is_array(given[0])):
        yield _parts(who, given)
    elif hasattr(given, "__getitem__") and hasattr(given, "__len__") and not isinstance(given, IterableDataset):
        for number in range(len(given)):  # iteration over a data set need not end
            images, labels = _parts(who, given[number])
            if _pictures(images) or (is_array(images) and images.ndim == 4):
                yield images, labels if labels is None or is_array(images) else [labels]
            else:
                yield _array(who, images)[None], None if labels is None else [labels]
    elif isinstance(given, Iterable):
        left = None if hasattr(given, "__len__") else most
        for batch in given:
            images, labels = _parts(who, batch)
            count = 1 if isinstance(images, Image.Image) else len(images)
            if left is None or count < left:
                yield images, labels
                left = None if left is None else left - count
                continue
            yield (images, labels) if count == left else (images[:left], None if labels is None else labels[:left])
            say_once(f"{who}: the first {most:,} samples of an iterator are read")
            if isinstance(given, GeneratorType):
                given.close()  # one that stays suspended in torch.no_grad() would end that at any later time
            break
    else:
        raise ValueError(f"{who} is of type {type(given).__name__}; {GIVE}")


def content(array: NDArray[Any]) -> str:
    """sha256 of an array."""
    found = hashlib.sha256(f"{array.shape} {array.dtype} ".encode())
    for start in range(0, len(array), 1000):
        found.update(np.ascontiguousarray(array[start : start + 1000]).tobytes())
    return found.hexdigest()


def is_array(given: Any) -> bool:
    """Whether an object is a tensor or an array, whatever library it comes from."""
    return isinstance(given, (Tensor, np.ndarray)) or (hasattr(given, "__array__") and hasattr(given, "dtype"))


def batches(pixels: NDArray[np.uint8], size: int) -> Iterator[Tensor]:
    """Images in [0, 1], `size` at a time."""
    for start in range(0, len(pixels), size):
        yield torch.from_numpy(np.array(pixels[start : start + size])).float() / 255


def _array(what: str, given: Any) -> NDArray[Any]:
    if isinstance(given, Tensor):
        for wrong, fix in (
            (given.is_meta, "on the meta device, where tensors have no values"),
            (given.layout != torch.strided, f"sparse ({given.layout}); give it with .to_dense()"),
            (given.is_quantized, f"quantised ({given.dtype}); give it with .dequantize()"),
        ):
            if wrong:
                raise ValueError(f"{what} is {fix}")
        tensor = given.detach().cpu()
        given = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).resolve_neg().resolve_conj().numpy()
    try:
        found = np.asarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{what} cannot be read as an array ({error})") from None
    if found.dtype.kind not in "uif":
        kind = f"type {found.dtype}" if is_array(given) else f"a {type(given).__name__}"
        raise ValueError(f"{what}: {kind} is no image; give uint8 in 0..255, a float type in [0, 1], or pictures")
    if found.ndim < 3 and found.ndim != 2:
        raise ValueError(f"{what}: shape {list(found.shape)} is not that of images")
    return found


def _pictures(batch: Any) -> list[Image.Image]:
    """The pictures of Pillow in a batch; none where it is something else."""
    if isinstance(batch, Image.Image):
        return [batch]
    if isinstance(batch, (list, tuple)) and batch and all(isinstance(one, Image.Image) for one in batch):
        return list(batch)
    return []


def _one_size(what: str, pictures: Sequence[Image.Image]) -> Sequence[Image.Image]:
    sizes = {picture.size for picture in pictures}
    if len(sizes) > 1:
        one, other = sorted(sizes)[:2]
        raise ValueError(
            f"{what}: one picture has {one[0]} x {one[1]} pixels, another {other[0]} x {other[1]}; resize them"
        )
    return pictures


def _parts(who: str, item: Any) -> tuple[Any, Any]:
    """The images of an item or a batch, and its labels or None."""
    if isinstance(item, Mapping):
        image = next((name for name in IMAGES if name in item), None)
        if image is None:
            raise ValueError(f"{who} gives mappings with {', '.join(map(str, item))}; call the images `image`")
        return item[image], next((item[name] for name in LABELS if name in item), None)
    if not isinstance(item, (list, tuple)) or _pictures(item):
        return item, None
    if not item:
        raise ValueError(f"{who} gives an empty {type(item).__name__} as a batch")
    arrays = [one for one in item if is_array(one) and one.ndim > 1]
    if len(arrays) == len(item) > 1 and len({tuple(one.shape) for one in arrays}) == 1:
        return np.stack([_array(who, one) for one in arrays]), None
    return item[0], item[1] if len(item) > 1 else None


def _class_numbers(who: str, labels: Any, count: int) -> list[Any] | None:
    """The class of each image of a batch, a number or a name; None where labels are of another kind."""
    if labels is None:
        return None
    found = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if found.size != count or found.dtype.kind not in "iubUS":
        say_once(f"{who}: labels of shape {list(found.shape)} and type {found.dtype} are no classes, and are left out")
        return None
    numbers: list[Any] = found.reshape(-1).tolist()
    return numbers


def _named_classes(
    who: str, labels: Sequence[Any] | None, classes: Sequence[str]
) -> tuple[NDArray[np.int64] | None, Sequence[str]]:
    if not labels:
        return None, []
    if all(isinstance(label, str) for label in labels):
        names, numbers = np.unique(np.array(labels), return_inverse=True)
        return numbers.reshape(-1).astype(np.int64), [str(name) for name in names]
    numbers = np.array(labels, np.int64)
    if numbers.min() < 0:
        raise ValueError(f"{who}: label {numbers.min()} is no class number; give 0 or more")
    known = len(classes) > numbers.max()
    return numbers, list(classes) if known else [str(i) for i in range(1 + int(numbers.max()))]


def _classes(given: Any) -> Sequence[str]:
    """The names of classes that a data set, or the one behind a loader, tells."""
    data = getattr(given, "dataset", given)
    features = getattr(data, "features", None)
    if isinstance(features, Mapping):
        listed = (getattr(features[name], "names", None) for name in LABELS if name in features)
        return [str(name) for name in next((names for names in listed if names), [])]
    names = getattr(data, "classes", None)
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else []
