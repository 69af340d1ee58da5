"""Arguments of metrics become checked tensors here: shapes, types, devices, counts, ranges and finite values.

One rule of numbers holds for all metrics. Values are never rounded (`conversion.py`). Features, codes and clouds are
taken as they are. Images are in [0, 1], and 8-bit images (uint8) are divided by 255.
"""

import math
from typing import Any

import torch
from torch import Tensor

from .conversion import Array as Array  # metrics import it from here
from .conversion import is_8_bit, is_floating, numbers, tensor
from .protocols import Statistics

BLOCK_ELEMENTS = 1 << 21
"""Size of the pieces that row-wise products are cut into: 16 MiB in float64."""

CACHED = 1 << 17
"""Size of the pieces that sums over rows are cut into: what fits the cache."""

GPU_ELEMENTS = 1 << 24
"""Smallest size of pieces on a GPU, where it takes longer to start the work on a piece than to do it."""

ROUNDING = 1e-6
"""Share of the largest entry of a covariance by which rounding may make it differ from its mirror."""

POOL3 = 2048
"""Number of features that FID and KID are defined on."""


def samples(least: int = 1, /, **named: Array) -> tuple[Tensor, ...]:
    """The named sets as finite tensors [N, D] of one floating type (float32 or float64) on one device.

    Half precision, Booleans and integers of up to 16 bits become float32; longer integers become float64. float64
    anywhere makes all sets float64. Lists of arrays of one shape are stacked. Values are not copied where nothing has
    to change.

    Raises ValueError, naming the set, when it has fewer than `least` rows, no columns, masked, complex or non-finite
    values (with their number of rows and the first of them), a type that is no number, or integers of 2^53 or more; and
    when sets differ in shape after the first axis, in device, or in the range of their images.
    """
    tensors = {name: numbers(name, array) for name, array in named.items()}
    for name, x in tensors.items():
        if x.ndim < 2:
            raise ValueError(f"{name} has shape {list(x.shape)}; samples are [N, D]: one row a sample")
        if not math.prod(x.shape[1:]):
            raise ValueError(f"{name} has shape {list(x.shape)}: no columns")
    _require_rows(least, tensors)
    _require_one_space(tensors)
    _require_one_range(named, tensors)
    return _same_form({name: x if x.ndim == 2 else x.flatten(1) for name, x in tensors.items()})


def samples_or_statistics(least: int = 1, /, **named: Array | Statistics) -> tuple[Tensor | Statistics, ...]:
    """`samples`, for which the mean and covariance of a set may stand; they come to the device of the samples.

    Raises ValueError as `samples` and `statistics` do, and for statistics of another dimension.
    """
    arrays = {name: given for name, given in named.items() if not isinstance(given, Statistics)}
    tensors = dict(zip(arrays, samples(least, **arrays) if arrays else (), strict=True))
    device = next(iter(tensors.values())).device if tensors else torch.device("cpu")
    found = [
        statistics(name, given).to(device) if isinstance(given, Statistics) else tensors[name]
        for name, given in named.items()
    ]
    sizes = [len(one.mean) if isinstance(one, Statistics) else one.shape[1] for one in found]
    for name, size in zip(named, sizes, strict=True):
        if size != sizes[0]:
            raise ValueError(
                f"{next(iter(named))} has {sizes[0]} dimensions, {name} has {size}: statistics are compared with "
                "features of the network, layer and preprocessing that they were made with"
            )
    return tuple(found)


def statistics(name: str, given: Statistics) -> Statistics:
    """Mean [D] and covariance [D, D] in float64, exactly symmetric.

    Raises ValueError for other shapes, values that are not finite, and a covariance that is not symmetric.
    """
    mean, covariance = (
        numbers(f"{name}, {part}", array).double()
        for part, array in (("mean", given.mean), ("covariance", given.covariance))
    )
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise ValueError(
            f"{name}: a mean of shape {list(mean.shape)} and a covariance of shape {list(covariance.shape)}; they must "
            "be [D] and [D, D]"
        )
    for part, array in (("mean", mean), ("covariance", covariance)):
        if bad := int((~array.isfinite()).sum()):
            raise ValueError(f"{name}: the {part} has {bad} values that are not finite")
    apart = float((covariance - covariance.T).abs().max())
    if apart > ROUNDING * float(covariance.abs().max()):
        raise ValueError(
            f"{name}: the covariance is not symmetric, entries differ from their mirror by up to {apart:g}"
        )
    if apart:
        covariance = (covariance + covariance.T) / 2
    return Statistics(mean, covariance, given.n, given.rows)


def clouds(least: int = 1, /, *, fake: Array, real: Array) -> tuple[Tensor, Tensor]:
    """Two sets of point clouds as finite tensors [N, P, 3] and [M, P, 3] of one floating type, without a copy if clean.

    Raises ValueError as `samples` does, for another shape, and for sets whose clouds have different numbers of points.
    """
    tensors = {name: numbers(name, array) for name, array in (("fake", fake), ("real", real))}
    for name, x in tensors.items():
        if x.ndim != 3 or x.shape[2] != 3 or not x.shape[1]:
            raise ValueError(f"{name} has shape {list(x.shape)}; clouds of points are [N, P, 3]")
    _require_rows(least, tensors)
    here, there = (x.shape[1] for x in tensors.values())
    if here != there:
        raise ValueError(f"fake has {here} points a cloud, real has {there}: sample equally many")
    y, x = _same_form(tensors)
    return y, x


def stacks(what: str, least: int = 1, /, **named: Array) -> tuple[Tensor, ...]:
    """The named sets of several rows a sample, [N, V, D]; `what` says in an error what has this form.

    Raises ValueError as `samples` does, for another number of axes, and for sets that differ in V or D.
    """
    tensors = {name: numbers(name, array) for name, array in named.items()}
    for name, x in tensors.items():
        if x.ndim != 3 or not math.prod(x.shape[1:]):
            raise ValueError(f"{name} has shape {list(x.shape)}; give {what}, [N, V, D]")
    _require_rows(least, tensors)
    _require_one_space(tensors)
    return _same_form(tensors)


def pool3(least: int = 1, /, **named: Array) -> tuple[Tensor, ...]:
    """`samples` of the space that FID and KID are defined in, [N, 2048]; ValueError for images and other features."""
    require_pool3(**named)
    return samples(least, **named)


def require_pool3(**named: Array) -> None:
    """Raises ValueError for images and for features of another space than that of FID and KID."""
    for name, array in named.items():
        x = numbers(name, array)
        if x.ndim < 2 or x.shape[1] != POOL3 or math.prod(x.shape[2:]) != 1:
            raise ValueError(
                f"{name} has shape {list(x.shape)}; give Inception's pool3 features [N, {POOL3}], which "
                'assay.metrics.extractors.inception.inception("")(images) makes of images in [0, 1]; for other '
                "features choose frechet_distance or kernel_distance"
            )


def logits(**named: Array) -> Tensor:
    """The logits of a classifier, [N, C] with C >= 2. ValueError as in `samples`, and for probabilities."""
    ((name, array),) = named.items()
    raw = numbers(name, array)
    (x,) = samples(**{name: raw})
    if x.shape[1] < 2:
        raise ValueError(f"{name} has {x.shape[1]} logit per sample; give one for each of at least 2 classes")
    if x.shape[1] != raw.shape[1]:
        raise ValueError(f"{name} has shape {list(raw.shape)}; logits are [N, C]: one row a sample")
    if bool((x >= 0).all()) and bool(((x.double().sum(1) - 1).abs() < 1e-2).all()):
        positive = name if bool((x > 0).all()) else f"{name}.clip(1e-12)"
        log = f"{positive}.log()" if isinstance(array, Tensor) else f"numpy.log({positive})"
        raise ValueError(f"{name} holds probabilities, since each row sums to 1; give logits, for example {log}")
    return x


def column(least: int = 1, /, *, patches: bool = False, **named: Array) -> Tensor:
    """One number for each sample, float64 [N], from [N, 1]; with `patches` also the mean over those of [N, 1, H, W].

    ValueError as in `samples`, and for more numbers than one.
    """
    ((name, array),) = named.items()
    raw = numbers(name, array)
    if raw.ndim == 1 and len(raw):
        raise ValueError(f"{name} has shape {list(raw.shape)}; give [N, 1], for example {name}[:, None]")
    (x,) = samples(least, **{name: raw})
    if x.shape[1] != 1 and not (patches and raw.ndim > 2 and raw.shape[1] == 1):
        form = "[N, 1], or one for each patch, [N, 1, H, W]" if patches else "[N, 1]"
        raise ValueError(f"{name} has shape {list(raw.shape)}; give one number for each sample, {form}")
    return x.double().mean(1)


def images(name: str, array: Array) -> Tensor:
    """Images [N, C, H, W] in [0, 1], C being 1 or 3, in float32, or float64 if given so; uint8 is divided by 255.

    ValueError names the first image that leaves [0, 1], or what else is wrong, with what would mend it.
    """
    x = numbers(name, array)
    if x.ndim != 4 or x.shape[1] not in (1, 3) or not x.numel():
        raise ValueError(
            f"{name} has shape {list(x.shape)}; images are [N, 1 or 3, H, W]{_axes_advice(name, array, x)}"
        )
    _require_finite(name, x.flatten(1))
    if is_8_bit(array):
        if x.amax() == 1:
            raise ValueError(f"{name} is uint8 with no value above 1; 8-bit images range over 0 to 255: give floats")
        return x / 255
    outside = ((x < 0) | (x > 1)).flatten(1).any(1)
    if outside.any():
        low, high = float(x.amin()), float(x.amax())
        advice = "clamp them to [0, 1]"
        if low >= 0 and high > 2:
            advice = f"divide 8-bit values by 255, {name} / 255"
        elif low >= -1 and high <= 1:
            advice = f"bring [-1, 1] to [0, 1] by ({name} + 1) / 2" + (", or clamp them" if low > -0.5 else "")
        raise ValueError(
            f"{name}: {int(outside.sum())} of {len(x)} images leave [0, 1], the first is image "
            f"{int(outside.nonzero()[0])}: {advice}"
        )
    return x


def labels(name: str, array: Array) -> Tensor:
    """Class numbers [N] or [N, 1] as int64 [N]; ValueError for anything else."""
    x = tensor(name, array)
    x = x[:, 0] if x.ndim == 2 and x.shape[1] == 1 else x
    if x.ndim != 1:
        raise ValueError(f"{name} has shape {list(x.shape)}; labels are [N], one class number a sample")
    x = x.double()
    bad = ~(x.isfinite() & (x == x.round()) & (x.abs() < 2**53))
    if bad.any():
        row = int(bad.nonzero()[0])
        raise ValueError(f"{name}: row {row} is {float(x[row])}, no class number: give whole numbers")
    return x.long()


def latents(codes: Array) -> Tensor:
    """Latent codes as a tensor [N, ...] in the shape and type given; ValueError unless they are finite and floating."""
    z = tensor("latents", codes)
    if z.ndim < 2 or not len(z) or not z.is_floating_point() or not bool(z.isfinite().all()):
        raise ValueError(f"latents are {z.dtype} of shape {list(z.shape)}; give finite floating [N, ...]")
    return z


def row_blocks(x: Tensor, elements: int = BLOCK_ELEMENTS) -> tuple[Tensor, ...]:
    """x [N, ...] cut along its rows into pieces of bounded size, so that working memory does not grow with N."""
    elements = max(elements, GPU_ELEMENTS) if x.is_cuda else elements
    return torch.split(x, max(1, elements * len(x) // max(1, x.numel())))


def require_neighbours(name: str, rows: int, k: int, *, others: bool) -> None:
    """ValueError unless each of `rows` samples has k neighbours: `others` of its own set, or any row of another set."""
    if k < 1:
        raise ValueError(f"k is {k}; it must be at least 1")
    needed = k + others
    if rows < needed:
        what = "k other neighbours each" if others else "k neighbours"
        raise ValueError(
            f"{name} has {rows} rows; k={k} needs at least {needed} ({what}): give more samples or a smaller k"
        )


def _require_rows(least: int, tensors: dict[str, Tensor]) -> None:
    for name, x in tensors.items():
        if len(x) < least:
            raise ValueError(f"{name} has {len(x)} rows; at least {least} are needed: give more samples")


def _require_one_space(tensors: dict[str, Tensor]) -> None:
    (first_name, first), *others = tensors.items()
    for name, x in others:
        here, there = math.prod(first.shape[1:]), math.prod(x.shape[1:])
        if here != there:
            low, high = sorted((here, there))
            advice = "use one feature space"
            if high == 3 * low:
                advice += "; if one set is grey and the other RGB, read both in one mode (dataset.folder.mode=L or RGB)"
            raise ValueError(f"{first_name} has {here} dimensions, {name} has {there}: {advice}")
        # Axes of length 1 do not change the order of values; a set that was flattened before is not noticed.
        axes = [[size for size in shape[1:] if size > 1] for shape in (first.shape, x.shape)]
        if min(first.ndim, x.ndim) > 2 and axes[0] != axes[1]:
            raise ValueError(
                f"{first_name} has shape {list(first.shape)}, {name} has {list(x.shape)}: bring the axes after the "
                "first into one order and size, such as [N, C, H, W] for images"
            )


def _require_one_range(named: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """8-bit values beside floats, and images in [0, 1] beside others in [-1, 1], are seldom meant to be compared."""
    bytes_, floats = ([n for n, array in named.items() if test(array)] for test in (is_8_bit, is_floating))
    if bytes_ and floats:
        name, other = bytes_[0], floats[0]
        raise ValueError(
            f"{name} is uint8, {other} is floating: bring both into one range, such as {name} / 255 beside images in "
            "[0, 1]"
        )
    if len(tensors) < 2 or any(x.ndim != 4 or x.shape[1] not in (1, 3) for x in tensors.values()):
        return
    ranges = {name: found for name, x in tensors.items() if (found := _range(x))}
    if len(set(ranges.values())) > 1:
        found_ranges = ", ".join(f"{name} is in {found}" for name, found in ranges.items())
        raise ValueError(f"{found_ranges}: bring all images into one range, such as [0, 1]")


def _range(x: Tensor) -> str:
    """The usual range that images lie in; empty where their values do not show it, as those of dark images."""
    low, high = float(x.amin()), float(x.amax())
    if low >= 0 and 0.5 < high <= 1:
        return "[0, 1]"
    if -1 <= low <= -0.95 and 0.5 < high <= 1:
        return "[-1, 1]"
    return "[0, 255]" if low >= 0 and 2 < high <= 255 and bool((x == x.round()).all()) else ""


def _axes_advice(name: str, array: Any, x: Tensor) -> str:
    if x.ndim == 3:
        return f": give one channel, {name}[:, None]"
    if x.ndim != 4 or not x.numel():
        return ""
    if x.shape[3] not in (1, 3) and x.shape[1] == 4:
        return f": leave out the alpha channel, {name}[:, :3]"
    if x.shape[3] in (1, 3, 4):
        colours = f"{name}[..., :3]" if x.shape[3] == 4 else name
        return f": put the channels first, {colours}.{_permute(array)}(0, 3, 1, 2)"
    return ""


def _permute(array: Any) -> str:
    return "permute" if isinstance(array, Tensor) else "transpose"


def _same_form(tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """The finite sets in one type. Raises ValueError for different devices and values that are not finite."""
    wide = any(x.dtype == torch.float64 for x in tensors.values())
    first_name, first = next(iter(tensors.items()))
    for name, x in tensors.items():
        if x.device != first.device:
            raise ValueError(f"{first_name} is on {first.device}, {name} on {x.device}: move them to one device")
        _require_finite(name, x)
    return tuple(x.to(torch.float64 if wide else torch.float32) for x in tensors.values())


def _require_finite(name: str, x: Tensor) -> None:
    # A sum is finite only if every term is; one pass without a mask. An overflowing sum of finite terms is looked at.
    if math.isfinite(float(x.sum())):
        return
    bad = torch.cat([~torch.isfinite(block).flatten(1).all(1) for block in row_blocks(x)])
    if bad.any():
        rows = int(bad.sum())
        raise ValueError(
            f"{name}: {rows} of {len(x)} rows {'is' if rows == 1 else 'are'} not finite (NaN or inf), "
            f"the first is row {int(bad.nonzero()[0])}: remove or repair them"
        )
