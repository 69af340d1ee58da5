"""What a training should see more often: importance by pseudo density (arXiv:2407.08659, Algorithm 3)."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ....generators.sampling.selection import importance as acceptance
from ....metrics.pseudo_density import DensityNetwork, pseudo_density, reference_density
from ...core.progress import say, track
from ...core.protocols import Dataset, Extractor
from ...core.registry import EXTRACTORS
from ...train import Importance

BATCH = 250
"""Images whose features are computed at a time."""


def by_pseudo_density(
    data: Dataset,
    device: torch.device,
    selective: bool,
    weight_real: float,
    weight_fake: float | None,
    tau: float,
    space: str,
    k: int,
    network: int,
    known: tuple[Extractor, Tensor] | None = None,
) -> Importance | None:
    """Weights of the training images and the choice among generated ones; None where nothing is weighed.

    rho, with each image left out of its own k neighbours, decides: those above the `tau` quantile of rho weigh
    `weight_real`, the others 1. Generated images are accepted with `weight_fake` (Algorithm 2) by the density that a
    `DensityNetwork` of so many epochs predicts, or by the exact one for network=0.

    selective:   whether the training learns from samples of its own. weight_fake: None is 1 / weight_real for such a
    training, as in the paper, and 1 for others. space: the feature space; known: its extractor, and the features of
    all training images in it, where they are at hand.
    Raises ValueError for weights that are not positive, a tau outside (0, 1), or a weight_fake that has no use.
    """
    if weight_fake is None:
        weight_fake = 1 / weight_real if selective and weight_real > 0 else 1.0
    for name, weight in (("weight_real", weight_real), ("weight_fake", weight_fake)):
        if not 0 < weight < float("inf"):
            raise ValueError(f"importance.{name}={weight} must be positive and finite; 1 changes nothing")
    if not 0 < tau < 1:
        raise ValueError(f"importance.tau={tau} must be a quantile between 0 and 1")
    if weight_fake != 1 and not selective:
        raise ValueError(
            f"importance.weight_fake={weight_fake}: this training does not learn from samples of its own; leave it out"
        )
    if weight_real == weight_fake == 1:
        return None
    extract = known[0] if known else EXTRACTORS[space].function(data.name)
    features = known[1] if known else _features(data, extract, device)
    reference = reference_density(features, k)
    threshold = float(reference.density.quantile(tau))
    high = reference.density > threshold
    given = {"weight_real": weight_real, "weight_fake": weight_fake, "tau": tau, "space": space, "k": k,
             "network": network}  # fmt: skip
    found = given | {"threshold": threshold, "share_above": float(high.double().mean()), "clipped": reference.clipped}
    accept = None
    if weight_fake != 1:
        predict: Callable[[Tensor], Tensor] = partial(pseudo_density, reference=features, k=k)
        if network:
            say(f"training the density network on {len(features):,} images, {network} epochs")
            predict = fitted = DensityNetwork.fit(features, k, network)
            found["held_out_error"] = fitted.held_out_error
        accept = partial(_accept, extract, predict, threshold, weight_fake)
    weights = torch.where(high, weight_real, 1.0).float().cpu()
    return Importance(weights, accept, [f"importance.{key}={value}" for key, value in given.items()], found)


@torch.no_grad()
def _accept(
    extract: Extractor, density: Callable[[Tensor], Tensor], threshold: float, weight: float, images: Tensor
) -> Tensor:
    stored = (images.clamp(0, 1) * 255).round() / 255  # as the real ones are
    accepted = acceptance(density(extract(stored)), threshold, weight)
    return torch.rand(len(images)).to(accepted) < accepted


@torch.no_grad()
def _features(data: Dataset, extract: Extractor, device: torch.device) -> Tensor:
    features = []
    with track(f"{data.name} → features", data.count("train"), "images") as advance:
        for start in range(0, data.count("train"), BATCH):
            images = data.take("train", start, min(start + BATCH, data.count("train"))).images
            features.append(extract(images.to(device).float() / 255))
            advance(len(images))
    return torch.cat(features)
