"""DiT: diffusion transformers of images by class (arXiv:2212.09748), sampled with DDIM or as published with DDPM."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.options import Count, Positive
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks import ddim
from .networks.dit import Transformer, is_transformer, open_decoder, open_transformer
from .networks.noise_space import Decoder, NoiseSpace
from .networks.published import open_published

TRAINED = 1000
"""Timesteps of the training, with the linear schedule of β."""


class DiT(NoiseSpace):
    """A DiT as a Generator. Spaces: "z_0" and "x_T", both [N, C, h, w].

    With DDPM x_T is [N, steps, C, h, w], since the noise of the later steps belongs to it.
    """

    network: Transformer

    def __init__(
        self,
        network: Transformer,
        decoder: Decoder,
        levels: ddim.Levels,
        ancestral: bool,
        guidance: float,
        label: int | None,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        side = network.side * network.patch
        shape = (network.channels, side, side)
        noises = (len(levels.times), *shape) if ancestral else shape
        super().__init__("dit", network, noises, network.classes, label, fingerprint, card, decoder)
        self.levels, self.ancestral, self.guidance = levels, ancestral, guidance

    def sample(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None

        def predict(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
            time = torch.full((len(x),), float(t), device=x.device)
            found = self.network.guided(x, time, labels, self.guidance)
            return found[:, : x.shape[1]], found[:, x.shape[1] :]

        if self.ancestral:
            return ddim.ancestral(predict, noise, self.levels)
        return ddim.sample(lambda x, t, signal: ddim.from_noise(x, predict(x, t)[0], signal), noise, self.levels)


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a state dict of a DiT, or a snapshot of its training. Those of SiT look the same."""
    return is_transformer(content, "DiT")


@generator(recognise=recognise)
def dit(
    dataset: str,
    path: str = "",
    vae: str = "",
    steps: Count = 50,
    sampler: Literal["ddim", "ddpm"] = "ddim",
    guidance: Positive = 1.5,
    label: int | None = None,
    heads: Count | None = None,
) -> Generator:
    """DiT: a `.pt` of the public code, the published ones of 256 and 512 pixels or a snapshot of the training.

    vae: the folder of the AutoencoderKL of diffusers that decodes z_0.
    steps, sampler: "ddim" adds no noise (η = 0); "ddpm" draws it with the learned variance, as for the published
    numbers (steps=250 guidance=1.5). Both use timesteps spread evenly from 0 to 999.
    guidance: the weight w of classifier-free guidance, 1 for none; as in the public code, in the first three channels
    alone. The last row of the table of classes is the null class.
    label: the class of all samples; null draws one for each seed. heads: for networks of none of the sizes S, B, L, XL.

    Raises ValueError with what is missing or does not fit.
    """
    found = open_published("dit", path, recognise)
    network = open_transformer(found, path, heads)
    times = ddim.even_times(TRAINED, steps)
    levels = ddim.Levels(times, [*ddim.linear(TRAINED)[times].tolist(), 1.0])
    if sampler == "ddpm" and network.outputs == network.channels:
        raise ValueError(f"{path} does not predict the variance that sampler=ddpm needs; choose sampler=ddim")
    decoder = open_decoder("dit", vae, network.channels)
    fingerprint = digest("dit", 1, found.sha256, decoder.fingerprint, steps, sampler, guidance, label, heads)
    card = {**found.card, "sha256": found.sha256, "classes": network.classes, "vae": decoder.card}
    return DiT(network, decoder, levels, sampler == "ddpm", guidance, label, fingerprint, card)
