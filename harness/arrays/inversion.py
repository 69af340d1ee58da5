"""Latent codes of images by optimisation, for generators without an encoder."""

import torch
from torch import Tensor

from ..core.protocols import Generator

STEPS = 200
RATE = 0.1
CANDIDATES = 256
"""Codes of the prior tried as starting points; their seeds lie beyond those of reference codes."""
SEEDS = 2**63 + 2**62


def invert(generator: Generator, images: Tensor, space: str, steps: int = STEPS) -> Tensor:
    """Codes [N, ...] whose images are near `images` [N, C, H, W] in [0, 1] in mean squared error.

    Adam from the nearest of 256 codes of the prior, its rate falling to 0 along a cosine; the unit of the rate is the
    standard deviation of those codes; the best code met on the way is returned. Each image is optimised for itself:
    the batch it is in changes nothing.
    Raises ValueError when the generator makes images of another shape.
    """
    prior = generator.latents(range(SEEDS, SEEDS + CANDIDATES), space).to(images.device)
    made = torch.cat([generator.decode(part, space).detach() for part in torch.split(prior, 16)])
    if made.shape[1:] != images.shape[1:]:
        raise ValueError(f"the generator makes images {tuple(made.shape[1:])}, these are {tuple(images.shape[1:])}")
    nearest = torch.cdist(images.flatten(1), made.flatten(1).clamp(0, 1)).argmin(1)
    codes = prior[nearest].clone()
    scale = prior.std(0, keepdim=True).clamp(min=1e-6)
    best, least = codes.clone(), images.new_full((len(images),), torch.inf)
    with torch.enable_grad():
        moved = torch.zeros_like(codes, requires_grad=True)
        optimiser = torch.optim.Adam([moved], lr=RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        for _ in range(steps):
            tried = codes + moved * scale
            residual = (generator.decode(tried, space) - images).square().flatten(1).mean(1)
            better = residual.detach() < least
            best[better], least[better] = tried.detach()[better], residual.detach()[better]
            (moved.grad,) = torch.autograd.grad(residual.sum(), moved)
            optimiser.step()
            schedule.step()
    return best
