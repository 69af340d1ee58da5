"""Quality signals that depend on the image and not on its latent code: a judge's confidence, nearest real images."""

from torch import Tensor

from ..harness.core.inputs import Array, logits, samples
from ..harness.core.protocols import View
from ..harness.core.registry import metric
from .kernels.nearest import nearest


@metric(better="higher", kind="sample", source="arXiv:1610.02136", fake=View("fake", "judge"))
def judge_confidence(fake: Array) -> Tensor:
    """Largest softmax probability of a classifier, float64 [N] in [1/C, 1], from its logits [N, C]."""
    return _log_probabilities(fake).amax(1).exp()


@metric(better="lower", kind="sample", source="arXiv:1606.03498", fake=View("fake", "judge"))
def judge_entropy(fake: Array) -> Tensor:
    """Entropy in nats of a classifier's prediction, float64 [N] in [0, ln C], from its logits [N, C]."""
    log = _log_probabilities(fake)
    return -(log.exp() * log).sum(1)


@metric(better="neither", kind="sample", source="arXiv:1610.02136", fake=View("fake", "judge"))
def predicted_class(fake: Array) -> Tensor:
    """Index of the largest logit, float64 [N]: a confounder to control for."""
    # Of the logits, because those of tiny differences have equal probabilities.
    return logits(fake=fake).argmax(1).double()


@metric(
    better="lower",
    kind="sample",
    source="arXiv:1511.01844",
    fake=View("fake", "pixels"),
    holdout=View("holdout", "pixels", n="all"),
)
def nearest_pixel(fake: Array, holdout: Array) -> Tensor:
    """Euclidean distance to the nearest held-out image in pixel space, float64 [N]; it favours dark, smooth images."""
    return _nearest(fake=fake, holdout=holdout)


@metric(
    better="lower",
    kind="sample",
    source="arXiv:1511.01844",
    fake=View("fake", "features"),
    holdout=View("holdout", "features", n="all"),
)
def nearest_feature(fake: Array, holdout: Array) -> Tensor:
    """Euclidean distance to the nearest held-out image in feature space, float64 [N]."""
    return _nearest(fake=fake, holdout=holdout)


@metric(
    better="lower",
    kind="sample",
    source="arXiv:1511.01844",
    fake=View("fake", "pixels"),
    real=View("real", "pixels", n="all"),
)
def nearest_training_pixel(fake: Array, real: Array) -> Tensor:
    """Euclidean distance to the nearest training image in pixel space, float64 [N]: near 0 for a copy."""
    return _nearest(fake=fake, real=real)


@metric(
    better="lower",
    kind="sample",
    source="arXiv:1511.01844",
    fake=View("fake", "features"),
    real=View("real", "features", n="all"),
)
def nearest_training_feature(fake: Array, real: Array) -> Tensor:
    """Euclidean distance to the nearest training image in feature space, float64 [N]."""
    return _nearest(fake=fake, real=real)


def _nearest(**sets: Array) -> Tensor:
    y, x = samples(**sets)
    return nearest(y, x, 1).distances.squeeze(1)


def _log_probabilities(fake: Array) -> Tensor:
    return logits(fake=fake).double().log_softmax(1)
