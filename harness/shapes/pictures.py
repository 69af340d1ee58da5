"""Pictures of stored samples: images as they are, volumes as shaded surfaces."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .shading import shade, turntable
from .surfaces import to_sdf

SEEN_FROM, SHADED = [-0.8, 0.55, -0.75], 128
"""Where pictures of volumes are taken from, and their side in pixels."""
FRAMES, TURNING = 12, 72
"""Pictures of a volume that is turned round once, and their side in pixels."""


def pictures(samples: Tensor) -> Tensor:
    """uint8 [N, C, H, W] of stored images, which these are themselves, or of stored volumes [N, 1, R, R, R]."""
    if samples.ndim == 4:
        return samples
    return _shaded(samples, F.normalize(torch.tensor(SEEN_FROM), dim=0)[None], SHADED)


def turned(volumes: Tensor) -> Tensor:
    """Stored volumes uint8 [N, 1, R, R, R] from all round, uint8 [N, FRAMES, size, size]."""
    return _shaded(volumes, turntable(FRAMES), TURNING)


def distances(volumes: Tensor) -> Tensor:
    """Signed distances [N, R, R, R] of stored volumes uint8 [N, 1, R, R, R]."""
    return to_sdf(volumes.float() / 255)


def _shaded(volumes: Tensor, directions: Tensor, size: int) -> Tensor:
    """Stored volumes seen from directions [V, 3], uint8 [N, V, size, size]."""
    return (shade(distances(volumes), directions, size) * 255).round().byte()
