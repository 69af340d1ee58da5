"""First stages of latent models alone: VQGAN (arXiv:2012.09841), and KL and VQ of CompVis (arXiv:2112.10752)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Encoding, Generator
from ..harness.core.registry import generator
from .networks import compvis
from .networks import first_stage as networks
from .networks.compvis import require_known, require_tensors, state_dict
from .networks.published import open_published
from .networks.seeds import normal
from .networks.training_flags import find_flags

PRIORS = {
    False: "N(0, I), that of the KL term; it was not trained, so images of it need not look like data",
    True: "each position an entry of the codebook, all equally likely; it was not trained, so images of it need not "
    "look like data",
}
"""What is drawn in space z, by whether the first stage quantises."""


class FirstStage:
    """A first stage of CompVis as a Generator that can also encode.

    Space "z" [N, c, h, w]: KL: codes of the posterior N(mean(x), exp(logvar(x))). VQ: codes before quantisation, where
    decoding takes the nearest entries of the codebook; what seeds draw are entries of it. There is no scale factor.
    """

    spaces: Sequence[str] = ("z",)

    def __init__(self, network: networks.FirstStage, size: int, fingerprint: str, card: Mapping[str, Any]):
        self.network, self.fingerprint, self.card = network, fingerprint, card
        self.shape = (network.channels, *2 * (size // network.factor,))

    def latents(self, seeds: Sequence[int], space: str = "z") -> Tensor:
        if not self.network.quantised:
            return normal(seeds, *self.shape)
        book = self.network.codebook
        drawn = [np.random.default_rng(seed).integers(len(book), size=self.shape[1:]) for seed in seeds]
        return book[torch.from_numpy(np.stack(drawn)).to(book.device)].permute(0, 3, 1, 2)

    def decode(self, latents: Tensor, space: str = "z") -> Tensor:
        return compvis.decode(self.network.to(latents.device), latents)

    def encode(self, images: Tensor, how: Encoding = "mean", seeds: Sequence[int] = ()) -> Tensor:
        return compvis.encode(self.network.to(images.device), images, how, seeds, 1.0)


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a VQModel or an AutoencoderKL of taming-transformers or latent-diffusion, alone."""
    tensors = state_dict(content)
    names = ("encoder.down.0.block.0.norm1.weight", "decoder.up.0.block.0.norm1.weight", "quant_conv.weight")
    return all(isinstance(tensors.get(name), Tensor) for name in names)


@generator(recognise=recognise)
def first_stage(dataset: str, path: str = "", size: int | None = None, args: str = "") -> Generator:
    """VQGAN of taming-transformers, or a first stage (VQ or KL) of latent-diffusion: encodes, decodes, reconstructs.

    path: a .ckpt or .safetensors. Its losses and moving averages are left out, as the public code does.
    The prior in space z was not trained: N(0, I) for KL, and for VQ independent entries of the codebook.
    size: height and width of the images that seeds draw; null takes `resolution` of the config. Codes of images may
    have other sizes.
    args: a JSON or YAML file with its training config; empty for FILE.args.yaml or NAME.args.yaml (or .json), NAME.yaml
    or config.yaml beside it.

    Raises ValueError with what is missing, does not fit or is not understood.
    """
    found = open_published("first_stage", path, recognise)
    tensors = state_dict(found.content)
    flags = find_flags(Path(path).expanduser(), args, "first_stage") or {}
    try:
        require_known(flags)
        require_tensors(tensors)
        network = networks.FirstStage(tensors)
        ddconfig = flags.get("ddconfig")
        stored = ddconfig.get("resolution") if isinstance(ddconfig, Mapping) else None
        side = stored if size is None else size
        if side is None:
            raise ValueError(
                "the weights do not contain the size of images; give generator.first_stage.size=256 or args"
            )
        if type(side) is not int or not 1 <= side <= 2**14 or side % network.factor:
            raise ValueError(f"size={side} must be a multiple of {network.factor} of at most {2**14:,}")
        network.require_runs(side)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    card = {**found.card, "sha256": found.sha256, "first_stage": "VQ" if network.quantised else "KL", "size": side}
    card |= {"prior": PRIORS[network.quantised]}
    return FirstStage(network, side, digest("first_stage", 1, found.sha256, side), card)
