"""The image encoder of CLIP (Radford et al. 2021, arXiv:2103.00020), the feature space of CMMD (arXiv:2401.09603)."""

from functools import partial

import torch
from torch import Tensor

from ...harness.core.protocols import Extractor
from ...harness.core.registry import extractor
from ...harness.formats.built import built
from ...harness.formats.download import Published, find_published
from .frozen import Frozen, Tensors, layout_of, read_tensors, rename, shapes
from .resize import bicubic, rgb, shorter_side, standardise
from .vit import VisionTransformer

SHA256 = "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02"
WEIGHTS = Published(
    "ViT-L-14-336px.pt", f"https://openaipublic.azureedge.net/clip/models/{SHA256}/ViT-L-14-336px.pt", SHA256
)
PIXELS = 4 * 336**2
MEAN, DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

NAMES = {
    r"^visual\.": "",
    r"^class_embedding$": "token",
    r"^positional_embedding$": "position",
    r"^conv1\.": "patch.",
    r"^ln_pre\.": "pre_norm.",
    r"^ln_post\.": "norm.",
    r"^proj$": "projection.weight",
    r"^transformer\.resblocks\.": "blocks.",
    r"\.ln_": ".norm",
    r"\.attn\.in_proj_": ".qkv.",
    r"\.attn\.out_proj\.": ".proj.",
    r"\.mlp\.c_fc\.": ".fc1.",
    r"\.mlp\.c_proj\.": ".fc2.",
}
"""Names in OpenAI's file, as regular expressions, and the names of a VisionTransformer."""


def quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def translate(tensors: Tensors) -> Tensors:
    """Tensors of OpenAI's file under the names of a VisionTransformer, without the text tower if there is one."""
    if any(name.startswith("visual.") for name in tensors):
        tensors = {name: tensor for name, tensor in tensors.items() if name.startswith("visual.")}
    tensors = rename(tensors, NAMES)
    tensors["projection.weight"] = tensors["projection.weight"].T
    return tensors


def prepare(images: Tensor, size: int) -> Tensor:
    return standardise(rgb(shorter_side(images, size, bicubic)), MEAN, DEVIATION)


@extractor
def clip(dataset: str, path: str = "", download: bool = False) -> Extractor:
    """Embeddings [N, 768] of CLIP ViT-L/14 at 336 pixels, scaled to length 1, as CMMD uses them.

    Its layers are the outputs of the blocks.

    path: file of the weights, published as ViT-L-14-336px.pt; by default the cached file. OpenAI's
        other vision transformers are also accepted, as a TorchScript archive, whose code is not run, or a state dict.
    download: allow the download of the published file, 0.9 GB.

    Raises FileNotFoundError when there are no weights, ValueError when the file holds another network.
    """
    weights = find_published(WEIGHTS, "clip", path, download)
    with layout_of(weights.path):
        tensors = translate(read_tensors(weights.path))
        width, _, patch, _ = tensors["patch.weight"].shape
        size = patch * round((len(tensors["position"]) - 1) ** 0.5)
        heads = max(1, width // 64)
        build = partial(VisionTransformer, shapes(tensors), heads, 1e-5, quick_gelu, unit=True)
        network = built(build, tensors, weights.path)
    preprocessing = (
        f"antialiased bicubic of the shorter side to {size} in floating point, square in the middle, CLIP's mean and "
        f"deviation, CLIP image tower of width {width}, projected class token of length 1; {weights.origin}"
    )
    return Frozen(
        "clip", preprocessing, partial(prepare, size=size), network, size, PIXELS, weights.sha256, weights.pinned
    )
