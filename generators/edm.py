"""EDM: pixel diffusion models in NVIDIA's `.pkl` (arXiv:2206.00364), sampled without added noise."""

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import torch.nn.functional as F
from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.options import Positive, Range
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.formats.built import built
from ..harness.formats.checkpoint import tensors_of
from .networks.edm_precond import KINDS, Preconditioned
from .networks.karras import Solver, noise_levels, sample
from .networks.noise_space import NoiseSpace
from .networks.published import open_published
from .networks.stored_options import arguments, class_name, understood

NUMERICS = ("use_fp16",)
"""Stored options that only say how the public code computes; here everything is float32, the sampler float64."""


class EDM(NoiseSpace):
    """An EDM as a Generator. Spaces: "x_T" [N, C, R, R], and "x_0" where seeds draw the class."""

    network: Preconditioned

    def __init__(
        self,
        network: Preconditioned,
        levels: Tensor,
        solver: Solver,
        label: int | None,
        fingerprint: str,
        card: Mapping[str, Any],
    ):
        shape = (network.img_channels, network.img_resolution, network.img_resolution)
        super().__init__("edm", network, shape, network.label_dim, label, fingerprint, card)
        self.levels, self.solver = levels, solver

    def sample(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        classes = None if labels is None else F.one_hot(labels, self.classes).float()
        return sample(lambda x, sigma: self.network(x, sigma, classes), noise, self.levels, self.solver)


def recognise(content: Any) -> bool:
    """Whether a checkpoint holds the averaged network of an EDM snapshot."""
    return isinstance(content, Mapping) and class_name(content.get("ema")) in KINDS


@generator(recognise=recognise)
def edm(
    dataset: str,
    path: str = "",
    steps: Annotated[int, Range(least=2, most=10_000)] = 18,
    sigma_min: Positive = 0.002,
    sigma_max: Positive = 80.0,
    rho: Positive = 7.0,
    solver: Solver = "heun",
    label: int | None = None,
) -> Generator:
    """EDM: a `.pkl` with EDM, VP, VE or iDDPM preconditioning and a network of type DDPM++, NCSN++ or ADM.

    steps: noise levels from sigma_max to sigma_min, evenly spaced in σ^(1/rho), and each limited to those that the
    network knows, as in the public sampler. solver: "heun" (algorithm 1, 2 · steps - 1 evaluations) or "euler" (steps).
    label: the class of all samples of a conditional file; null draws one for each seed.

    Raises ValueError with the stored option or the tensor that does not fit.
    """
    found = open_published("edm", path, recognise)
    record = found.content["ema"]
    kind = KINDS[class_name(record)]

    def make() -> Preconditioned:
        options = arguments(record)
        own = inspect.signature(kind).parameters.keys() - {"options"}
        mine = {name: value for name, value in options.items() if name in own or name in NUMERICS}
        rest = {name: value for name, value in options.items() if name not in mine}
        return kind(**understood(mine, kind, NUMERICS), options=rest)

    network = built(make, tensors_of(record), path)
    lowest, highest = network.limits()
    used = max(sigma_min, lowest), min(sigma_max, highest)
    try:
        levels = noise_levels(steps, *used, rho)
    except ValueError as error:
        raise ValueError(f"{path}: {error}; the network knows noise from {lowest:g} to {highest:g}") from None
    levels[:-1] = network.nearest(levels[:-1])
    fingerprint = digest("edm", 1, found.sha256, steps, *used, rho, solver, label)
    card = {**found.card, "sha256": found.sha256, "network": class_name(record), "classes": network.label_dim}
    card |= {"sigma_min": used[0], "sigma_max": used[1]}
    return EDM(network, levels, solver, label, fingerprint, card)
