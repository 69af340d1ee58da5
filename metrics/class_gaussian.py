"""A Gaussian for each class of the training data in latent space: the baseline of out-of-distribution detection."""

import torch
from torch import Tensor

from ..harness.core.inputs import Array, samples
from ..harness.core.inputs import labels as class_numbers
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .latent_density import gaussian_log_density

FEWEST = 3
"""Codes of a class: of two, the estimate of the best shrinkage is none at all, and the covariance singular."""


@metric(
    better="higher",
    kind="sample",
    source="arXiv:1807.03888 section 2.1, with a covariance for each class",
    fake=View("fake", "latent"),
    reference=View("real", "reencoded", n="all"),
    labels=View("real", "labels", n="all"),
)
def class_gaussian_log_density(fake: Array, reference: Array, labels: Array) -> Tensor:
    """max_c log N(z; mean_c, S_c) of each code of fake [N, ...], float64 [N], in nats; higher is denser.

    reference [M, ...]: the encoder's mean codes of real samples, labels [M] their classes. S_c is the shrunk covariance
    of the codes of class c, as in `gaussian_log_density`. The class of a generated sample is not known, so that of
    the highest density counts. Latents are flattened.
    Raises ValueError for bad input, another number of labels than of references, or a class with fewer than 3 codes or
    with codes that are all equal.
    """
    z, codes = samples(fake=fake, reference=reference)
    known = class_numbers("labels", labels).to(codes.device)
    if len(known) != len(codes):
        raise ValueError(f"labels has {len(known)} entries; give one for each of the {len(codes)} references")
    densities = []
    for label in torch.unique(known):
        of_class = codes[known == label]
        if len(of_class) < FEWEST or bool((of_class == of_class[0]).all()):
            raise ValueError(
                f"reference: class {int(label)} has {len(of_class)} codes; give {FEWEST} or more different ones"
            )
        try:
            densities.append(gaussian_log_density(z, of_class))
        except RuntimeError:  # torch.linalg.LinAlgError, which torch does not export to type checkers
            raise ValueError(
                f"reference: the covariance of the {len(of_class)} codes of class {int(label)} is singular; give more, "
                "by n_real"
            ) from None
    return torch.stack(densities).max(0).values
