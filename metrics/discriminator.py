"""The score that a generator's own discriminator gives to its samples."""

from torch import Tensor

from ..harness.core.inputs import Array, column
from ..harness.core.protocols import View
from ..harness.core.registry import metric


@metric(better="higher", kind="sample", source="arXiv:1810.06758 section 3", fake=View("fake", "discriminator"))
def discriminator_logit(fake: Array) -> Tensor:
    """The logit D(x), float64 [N], of the discriminator that the generator was trained against; higher is more real.

    fake: logits [N, 1], or [N, 1, H, W] of a discriminator of patches, which are averaged over the patches. With the
    logistic loss, an optimal discriminator gives log p_data(x) - log p_model(x).
    Raises ValueError for bad input, or for more logits than one per sample or patch.
    """
    return column(patches=True, fake=fake)
