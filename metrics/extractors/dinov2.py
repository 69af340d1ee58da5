"""DINOv2 (Oquab et al. 2023, arXiv:2304.07193) as Stein et al. 2023 (arXiv:2306.04675) use it to compare generators."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ...harness.core.protocols import Extractor
from ...harness.core.registry import extractor
from ...harness.formats.built import built
from ...harness.formats.download import Published, find_published
from .frozen import Frozen, Tensors, layout_of, read_tensors, rename, shapes
from .resize import IMAGENET, bicubic, resize, rgb, standardise
from .vit import VisionTransformer

WEIGHTS = Published(
    "dinov2_vitl14_pretrain.pth",
    "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_pretrain.pth",
    "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428",
)
SIZE, PIXELS = 224, 8 * 224**2
OFFSET = 0.1
"""The authors add this to the side of the grid before they compute the scale factor of the position embedding."""

NAMES = {
    r"^patch_embed\.proj\.": "patch.",
    r"^cls_token$": "token",
    r"^pos_embed$": "position",
    r"\.(attn|mlp)\.": ".",
}
"""Names in the authors' file, as regular expressions, and the names of a VisionTransformer."""


def position_at(grid: int, position: Tensor) -> Tensor:
    """Position embedding [1 + M², width] resized to [1 + grid², width]; that of the class token is unchanged."""
    side = round((len(position) - 1) ** 0.5)
    if side == grid:
        return position
    scale = (grid + OFFSET) / side
    square = position[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    square = F.interpolate(square, scale_factor=(scale, scale), mode="bicubic")
    return torch.cat([position[:1], square[0].flatten(1).T])


def translate(tensors: Tensors) -> Tensors:
    """Tensors of the authors' file under the names of a VisionTransformer; layer scales are folded in."""
    tensors = rename({name: tensor for name, tensor in tensors.items() if name != "mask_token"}, NAMES)
    for name in [name for name in tensors if name.endswith(".gamma")]:
        gamma, layer = tensors.pop(name), name.replace("ls1.gamma", "proj").replace("ls2.gamma", "fc2")
        tensors[f"{layer}.weight"] = gamma[:, None] * tensors[f"{layer}.weight"]
        tensors[f"{layer}.bias"] = gamma * tensors[f"{layer}.bias"]
    tensors["token"] = tensors["token"].flatten()
    tensors["position"] = position_at(SIZE // tensors["patch.weight"].shape[-1], tensors["position"][0])
    return tensors


def prepare(images: Tensor) -> Tensor:
    return standardise(rgb(resize(images, SIZE, SIZE, bicubic)), *IMAGENET)


@extractor
def dinov2(dataset: str, path: str = "", download: bool = False, heads: int = 0) -> Extractor:
    """Features [N, 1024] of DINOv2 ViT-L/14: the normalised class token. Its layers are the outputs of the blocks.

    path: file of the weights, published as dinov2_vitl14_pretrain.pth; by default the cached file. ViT-S/14
        and ViT-B/14 without registers are also accepted.
    download: allow the download of the published file, 1.2 GB.
    heads: number of attention heads, which the file does not contain; 0 means width / 64, as in all published networks.

    Raises FileNotFoundError when there are no weights, ValueError when the file holds another network or `heads`
    does not divide the width.
    """
    weights = find_published(WEIGHTS, "dinov2", path, download)
    with layout_of(weights.path):
        tensors = translate(read_tensors(weights.path))
        width = len(tensors["token"])
        heads = heads or max(1, width // 64)
        if heads < 1 or width % heads:
            raise ValueError(f"extractor.dinov2.heads={heads} must divide the width of the network, {width}")
        network = built(partial(VisionTransformer, shapes(tensors), heads, 1e-6, F.gelu), tensors, weights.path)
    preprocessing = (
        f"antialiased bicubic to {SIZE}x{SIZE} in floating point, ImageNet mean and deviation, "
        f"DINOv2 of width {width} with {heads} heads, normalised class token; {weights.origin}"
    )
    return Frozen("dinov2", preprocessing, prepare, network, SIZE, PIXELS, weights.sha256, weights.pinned)
