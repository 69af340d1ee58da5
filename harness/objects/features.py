"""Images of all forms brought to the features that a metric reads, without a run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from ..arrays.spaces import BATCH, extracted
from ..core.declarations import Metric
from ..core.protocols import View, pick_device
from ..core.registry import EXTRACTORS, GENERATORS
from .paths import existing
from .samples import batches, images_of, is_array


def needs_features(given: Any, view: View, metric: Metric) -> bool:
    """Whether what is given for a view has to be brought there: images for features, and objects for images."""
    if view.space == "images":
        return not is_array(given)
    return extracted(view.space) and _are_images(given, metric)


def _are_images(given: Any, metric: Metric) -> bool:
    """Whether what is given for features are images that have to be brought there."""
    if metric.modality == "shape":
        return False
    if isinstance(given, (list, tuple)) and given and is_array(given[0]):
        given = given[0][None]
    if isinstance(given, (list, tuple)):
        return _is_picture(given)
    if not is_array(given):
        return (
            given is None or isinstance(given, (str, Path)) or hasattr(given, "__iter__") or hasattr(given, "__len__")
        )
    shape = tuple(given.shape)
    return len(shape) == 3 or (len(shape) == 4 and bool({shape[1], shape[3]} & {1, 3}) and shape[2] > 1)


def _is_picture(given: Sequence[Any]) -> bool:
    return bool(given) and isinstance(given[0], Image)


def features_of(role: str, given: Any, space: str, options: Mapping[str, Any], device: str) -> Tensor:
    """Features [N, D] of images in a feature space."""
    parts = _stored(role, given) if isinstance(given, (str, Path)) else batches(images_of(role, given).pixels, BATCH)
    if space == "images":
        return torch.cat(list(parts))
    try:
        extractor = EXTRACTORS[space].function("images", **options)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; here extractors={{{space!r}: {{'path': FILE}}}} gives a file") from None
    with torch.no_grad():
        return torch.cat([extractor(part.to(pick_device(device))).cpu() for part in parts])


def _stored(role: str, path: str | Path) -> Iterator[Tensor]:
    """The samples at a path, in [0, 1]."""
    samples = GENERATORS["replay"].function("images", path=str(existing(role, path)))
    for start in range(0, samples.total, BATCH):
        yield samples.decode(samples.latents(range(start, min(start + BATCH, samples.total))))
