"""Pictures of stored samples: an image is its own picture, a volume is drawn as a shaded surface."""

import torch
import torch.nn.functional as F
from torch import Tensor

from .shading import shade, turntable
from .surfaces import to_sdf

CAMERA, SHADED = [-0.8, 0.55, -0.75], 128
"""The direction of the camera in still pictures of volumes, and their side in pixels."""
FRAMES, TURNING = 12, 72
"""The number of frames in which a volume turns round once, and their side in pixels."""


def pictures(samples: Tensor) -> Tensor:
    """Pictures uint8 [N, C, H, W] of stored samples: images [N, C, H, W] unchanged, or volumes [N, 1, R, R, R]."""
    if samples.ndim == 4:
        return samples
    return _shaded(samples, F.normalize(torch.tensor(CAMERA), dim=0)[None], SHADED)


def turned(volumes: Tensor) -> Tensor:
    """Frames uint8 [N, FRAMES, size, size] of stored volumes uint8 [N, 1, R, R, R] that turn round the y axis."""
    return _shaded(volumes, turntable(FRAMES), TURNING)


def distances(volumes: Tensor) -> Tensor:
    """Signed distances [N, R, R, R] of stored volumes uint8 [N, 1, R, R, R]."""
    return to_sdf(volumes.float() / 255)


def _shaded(volumes: Tensor, directions: Tensor, size: int) -> Tensor:
    """Pictures uint8 [N, V, size, size] of stored volumes from directions [V, 3]."""
    return (shade(distances(volumes), directions, size) * 255).round().byte()
