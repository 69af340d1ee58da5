"""SiT: interpolant transformers of images by class (arXiv:2401.08740), sampled by the flow that they predict."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.options import Count, Positive
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks.dit import Transformer, flags_of, is_transformer, open_decoder, open_transformer
from .networks.noise_space import Decoder, NoiseSpace
from .networks.published import open_published
from .networks.stored_options import shown

Solver = Literal["heun", "euler"]
TRAINED = {"path_type": "Linear", "prediction": "velocity"}
"""What a snapshot must say, if it says anything: x_t = t z_0 + (1 - t) noise, and the network predicts dx/dt."""


class SiT(NoiseSpace):
    """A SiT as a Generator. Spaces: "z_0" and "x_T", both [N, C, h, w]."""

    network: Transformer

    def __init__(
        self,
        network: Transformer,
        decoder: Decoder,
        steps: int,
        solver: Solver,
        guidance: float,
        label: int | None,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        side = network.side * network.patch
        super().__init__(
            "sit", network, (network.channels, side, side), network.classes, label, fingerprint, card, decoder
        )
        self.steps, self.solver, self.guidance = steps, solver, guidance

    def sample(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None

        def velocity(x: Tensor, t: float) -> Tensor:
            time = torch.full((len(x),), t, device=x.device)
            return self.network.guided(x, time, labels, self.guidance)[:, : x.shape[1]]

        x, step = noise, 1 / self.steps
        for i in range(self.steps):
            slope = velocity(x, i * step)
            if self.solver == "heun":
                slope = (slope + velocity(x + step * slope, (i + 1) * step)) / 2
            x = x + step * slope
        return x


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a state dict of a SiT, or a snapshot of its training. Those of DiT look the same."""
    return is_transformer(content, "SiT")


@generator(recognise=recognise)
def sit(
    dataset: str,
    path: str = "",
    vae: str = "",
    steps: Count = 50,
    solver: Solver = "heun",
    guidance: Positive = 1.5,
    label: int | None = None,
    heads: Count | None = None,
) -> Generator:
    """SiT: a `.pt` of the public code with the linear interpolant and the prediction of the velocity, its defaults.

    vae: the folder of the AutoencoderKL of diffusers that decodes z_0.
    steps, solver: equal steps of the ODE from noise, t = 0, to z_0, t = 1, with "heun" (2 evaluations each) or "euler"
    (1). The adaptive solver of the public code is left out: its steps depend on the other samples of a batch.
    guidance: the weight w of classifier-free guidance, 1 for none; as in the public code, in the first three channels
    alone. The last row of the table of classes is the null class.
    label: the class of all samples; null draws one for each seed. heads: for networks of none of the sizes S, B, L, XL.

    Raises ValueError with what is missing or does not fit.
    """
    found = open_published("sit", path, recognise)
    flags = flags_of(found.content)
    for name, known in TRAINED.items():
        if (value := flags.get(name, known)) != known:
            raise ValueError(f"{path}: {name}={shown(value)} is not supported, only {known}")
    network = open_transformer(found, path, heads)
    decoder = open_decoder("sit", vae, network.channels)
    fingerprint = digest("sit", 1, found.sha256, decoder.fingerprint, steps, solver, guidance, label, heads)
    card = {**found.card, "sha256": found.sha256, "classes": network.classes, "vae": decoder.card}
    return SiT(network, decoder, steps, solver, guidance, label, fingerprint, card)
