"""Features of shaded pictures of a shape from all sides, computed by an extractor of images."""

import torch
from torch import Tensor

from ...harness.core.files import digest
from ...harness.core.protocols import Extractor
from ...harness.core.registry import EXTRACTORS, extractor
from ...harness.shapes.shading import dodecahedron, shade
from ...harness.shapes.surfaces import to_sdf


class Shaded:
    """Maps volumes [N, 1, R, R, R] in [0, 1] to features [N, 20, D] of their shaded pictures, one per view."""

    def __init__(self, inner: Extractor, name: str, size: int):
        self.inner, self.size = inner, size
        self.fingerprint = digest("shaded", 1, inner.fingerprint, size)
        self.preprocessing = (
            f"20 shaded views of {size} pixels; {name}: {getattr(inner, 'preprocessing', 'not stated')}"
        )

    def __call__(self, images: Tensor) -> Tensor:
        views = dodecahedron().to(images.device)
        return torch.stack([self.inner(shade(sdf[None], views, self.size)[0, :, None]) for sdf in to_sdf(images)])


@extractor
def shaded(dataset: str, extractor: str = "pixels", size: int = 64) -> Extractor:
    """Features [N, 20, D] of 20 shaded views from the corners of a dodecahedron.

    extractor: name of the extractor of images that computes the features.
    size: side of a picture in pixels (299 for Inception in the code of arXiv:2206.12055).
    """
    if size < 1:
        raise ValueError(f"extractor.shaded.size={size} must be at least 1")
    return Shaded(EXTRACTORS[extractor].function(dataset), extractor, size)
