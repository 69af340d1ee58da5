"""How a decoder stretches random projections of its output: log volume and effective rank, by backward passes."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...harness.core import inputs
from ...harness.core.inputs import Array
from ...harness.stats.jacobians import orthonormal_rows


def projected_log_volume(
    decode: Callable[[Tensor], Tensor], latents: Array, k: int = 30, projections: int = 128, seed: int = 0
) -> Tensor:
    """sum_{i <= k} log s_i of the Jacobian of P decode(z) at each code of latents [N, ...], float64 [N].

    It is the logarithm of the volume of polarity sampling (arXiv:2203.01993); the metric `log_volume` is of the whole
    output and all directions. s_1 >= s_2 >= ... are singular values; P
    has `projections` random orthonormal rows over the flattened output, drawn with `seed`, and is the identity if the
    output is not larger. No direction: whether a high volume is good differs between generators. -inf if the rank is
    below k. Raises ValueError when k exceeds the number of singular values. Costs one backward pass per projection.
    """
    values = singular_values(decode, latents, projections, seed)
    if not 1 <= k <= values.shape[1]:
        raise ValueError(
            f"k is {k}; the projected Jacobian has {values.shape[1]} singular values: choose k from 1 to that number"
        )
    volume: Tensor = values[:, :k].log().sum(1)
    return volume


def effective_rank(decode: Callable[[Tensor], Tensor], latents: Array, projections: int = 128, seed: int = 0) -> Tensor:
    """exp(-sum_i a_i log a_i), a_i = s_i / sum_j s_j, of the Jacobian of `projected_log_volume`, float64 [N].

    Between 1 and the number of singular values; NaN where the decoder is constant. Roy and Vetterli 2007; called "local
    rank" in arXiv:2408.08307.
    """
    values = singular_values(decode, latents, projections, seed)
    shares = values / values.sum(1, keepdim=True)
    entropy: Tensor = torch.special.entr(shares).sum(1)
    return entropy.exp()


def singular_values(
    decode: Callable[[Tensor], Tensor], latents: Array, projections: int = 128, seed: int = 0
) -> Tensor:
    """Singular values of d(P decode(z)) / dz at each code, descending, float64 [N, min(D, rows of P)].

    decode maps [N, ...] to [N, ...]. Each output must depend on its own code alone, because one backward pass serves a
    whole batch. Raises ValueError when the outputs differ in number from the codes.
    """
    given = inputs.latents(latents)
    with torch.enable_grad():
        z = given.clone().requires_grad_()
        output = decode(z).flatten(1)
        if len(output) != len(z):
            raise ValueError(f"decode maps {len(z)} codes to {len(output)} outputs; it must keep the first axis")
        rows = []
        for direction in orthonormal_rows(output.shape[1], projections, seed).to(output):
            (gradient,) = torch.autograd.grad((output @ direction).sum(), z, retain_graph=True)
            rows.append(gradient.flatten(1).double())
    values: Tensor = torch.linalg.svdvals(torch.stack(rows, 1))
    return values
