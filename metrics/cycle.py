"""Cycle consistency: does the encoder recover the code of a generated image, and does the code recover the image?"""

import torch
from torch import Tensor

from ..harness.core.inputs import Array, column, row_blocks, samples
from ..harness.core.protocols import Estimate, View
from ..harness.core.registry import metric
from ..harness.stats import intervals


@metric(
    better="higher",
    kind="sample",
    source="not published as a score; the consistency itself: arXiv:1703.10593",
    fake=View("fake", "latent"),
    reencoded=View("fake", "reencoded"),
)
def cycle_consistency(fake: Array, reencoded: Array) -> Tensor:
    """-||E(G(z)) - z|| of each code, float64 [N], at most 0; higher is better. Not published as a quality score.

    fake: the codes z [N, ...] from which images were generated. reencoded: the encoder's mean codes of those images,
    [N, ...], in the same order. The encoder does not recover the code of an image that is unlike its training images.
    The score needs one encoder call per sample.
    Raises ValueError for bad input, or when the two sets have different numbers of rows.
    """
    z, again = samples(fake=fake, reencoded=reencoded)
    if len(z) != len(again):
        raise ValueError(f"fake has {len(z)} rows, reencoded has {len(again)}: give one code per image")
    parts = zip(row_blocks(z), row_blocks(again), strict=True)
    return -torch.cat([(a.double() - b.double()).norm(dim=1) for a, b in parts])


@metric(better="lower", kind="sample", source="arXiv:1812.05069", residual=View("fake", "residual"))
def reconstruction_residual(residual: Array) -> Tensor:
    """Mean squared error between each generated sample and its reconstruction, float64 [N], >= 0; lower is better.

    residual: [N, 1], in [0, 1] pixel units. An autoencoder cannot reconstruct what is unlike its training samples, so
    a large residual is a common sign of an anomaly. Raises ValueError for bad input or negative errors.
    """
    return _errors(residual)


@metric(
    better="lower",
    kind="set",
    source="arXiv:1912.04958 section 5",
    residual=View("real", "residual", n=200),
)
def reconstruction_error(residual: Array) -> Estimate:
    """Mean squared error, in [0, 1] pixel units, between real images and their reconstructions; lower is better.

    residual: [N, 1], one error per image. The codes come from the encoder, or with encode=inversion from optimisation:
    the error then shows how well the latent space covers the data.
    Raises ValueError for bad input, negative errors or fewer than 2 rows.
    """
    return intervals.mean(_errors(residual, least=2))


def _errors(residual: Array, least: int = 1) -> Tensor:
    errors = column(least, residual=residual)
    if bool((errors < 0).any()):
        raise ValueError(f"residual: {int((errors < 0).sum())} errors are negative; give mean squared errors")
    return errors
