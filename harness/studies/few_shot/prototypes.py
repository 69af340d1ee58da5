"""Classifiers of few-shot episodes that know a few features of a class, and generated ones (R-SVAE).

Xu and Le, CVPR 2022 (github.com/cvlab-stonybrook/fsl-rsvae). Public code disagrees on what the support feature s_c of a
class is where there are several shots: SUPPORT names the two readings, which agree for one shot.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor

from .episodes import Episodes

SUPPORT = ("normalised shots", "normalised mean")
"""s_c is the mean of the shots, each of length 1; or the mean of the shots as they are, brought to length 1."""
BLOCK = 1 << 13
"""Dimensions times episodes evaluated at a time: their queries stay in the cache."""


def centre(generated: Tensor, kept: Tensor) -> Tensor:
    """g = normalise(mean of the generated features that are kept), [S, W, D], of W classes and S selections.

    generated: [W, n, D], not normalised before the mean; kept: bool [S, W, n]. NaN where nothing is kept.
    """
    weights = kept / kept.sum(-1, keepdim=True)
    return F.normalize(torch.einsum("swn,wnd->swd", weights.to(generated), generated), dim=-1)


def support_feature(shots: Tensor, support: str = SUPPORT[0]) -> Tensor:
    """s [..., D] of shots [..., K, D], by one of the readings of SUPPORT."""
    return (_shares(shots, support)[..., None] * F.normalize(shots, dim=-1)).sum(-2)


def _shares(shots: Tensor, support: str) -> Tensor:
    """What each shot of [..., K, D], brought to length 1, counts in s: [..., K]."""
    if support not in SUPPORT:
        raise ValueError(f"support={support!r} must be {' or '.join(map(repr, SUPPORT))}")
    lengths = shots.norm(dim=-1)
    if support == SUPPORT[0]:
        return torch.full_like(lengths, 1 / shots.shape[-2])
    shares: Tensor = lengths / shots.sum(-2).norm(dim=-1, keepdim=True)
    return shares


def prototype(shots: Tensor, centre: Tensor | None, support: str = SUPPORT[0]) -> Tensor:
    """P = normalise(K/(K+1) s + 1/(K+1) g), [..., D], of shots [..., K, D] and a centre g [..., D]; or of s alone."""
    s, k = support_feature(shots, support), shots.shape[-2]
    return F.normalize(s if centre is None else k / (k + 1) * s + 1 / (k + 1) * centre, dim=-1)


def nearest_prototype(
    features: Tensor, episodes: Episodes, centres: Tensor | None = None, support: str = SUPPORT[0]
) -> Tensor:
    """Accuracy in [0, 1] of the nearest `prototype` by cosine, float32 [S, E], of each of E episodes; higher is better.

    features: [N, D]. centres: [S, P, C, D] of S selections, P pools of generated features and C classes; episode e has
    those of pool e mod P. Without centres the prototypes are of the support alone, and S is 1.
    The cosine of a query q with P is (a q.s + b q.g) / |a s + b g|: q.s is found once for all selections and q.g once
    for all episodes, so that an episode more costs little, and so does a selection.
    """
    count, ways, shots = episodes.support.shape
    used, places = torch.unique(torch.cat([episodes.support, episodes.query], 2), return_inverse=True)
    unit = F.normalize(features[used], dim=1)
    if centres is None:
        centres, a, b = features.new_zeros(1, 1, int(episodes.classes.max()) + 1, features.shape[1]), 1.0, 0.0
    else:
        a, b = shots / (shots + 1), 1 / (shots + 1)
    accuracy = torch.empty(len(centres), count)
    truth = torch.arange(ways).repeat_interleave(episodes.query.shape[2])[:, None]
    pools = centres.shape[1]
    for pool in range(pools):
        near = torch.stack([unit @ of_class.T for of_class in centres[:, pool].unbind(1)])  # [C, N, S]
        for rows in torch.split(torch.arange(pool, count, pools), max(1, BLOCK // features.shape[1])):
            classes, known, asked = episodes.classes[rows], places[rows, :, :shots], places[rows, :, shots:].flatten(1)
            shares = _shares(features[used[known]], support)  # [B, W, K]
            s = (shares[..., None] * unit[known]).sum(2)  # [B, W, D]
            s_to_centre = (shares[..., None] * near[classes[..., None], known]).sum(2)  # [B, W, S]
            length = a**2 * s.square().sum(2, keepdim=True) + 2 * a * b * s_to_centre + b**2  # |g| = 1
            to_support = unit[asked] @ s.transpose(1, 2)  # [B, W Q, W]
            best, answer = torch.tensor(-torch.inf), torch.tensor(0)
            for way in range(ways):
                to_centre = near[classes[:, way, None], asked]  # [B, W Q, S]
                cosine = (a * to_support[:, :, way, None] + b * to_centre) * length[:, None, way].rsqrt()
                answer = torch.where(cosine > best, way, answer)
                best = torch.maximum(cosine, best)
            accuracy[:, rows] = (answer == truth).float().mean(1).T
    return accuracy


def logistic_regression(
    features: Tensor,
    episodes: Episodes,
    generated: Sequence[Tensor] | None = None,
    regularisation: float = 1.0,
) -> Tensor:
    """Accuracy, in [0, 1], of logistic regression on shots and generated features of each episode: float32 [E].

    features [N, D]; generated: features [n_c, D] of each class. All are brought to length 1. A shot weighs 1, and so do
    the generated features of a class together: K to 1, as in the prototype. scikit-learn's L2 penalty, C =
    `regularisation`. Without generated features the shots are alone.
    """
    unit = F.normalize(features, dim=1)
    made = [F.normalize(part, dim=1) for part in generated or ()]
    accuracy = torch.empty(len(episodes.classes))
    from sklearn.linear_model import LogisticRegression  # here, because it loads for a second

    for e, (classes, support, query) in enumerate(zip(*episodes, strict=True)):
        ways, shots = support.shape
        x, y, weight = (
            [unit[support.flatten()]],
            [torch.arange(ways).repeat_interleave(shots)],
            [torch.ones(ways * shots)],
        )
        if made:
            of_way = [made[int(place)] for place in classes]
            x += of_way
            y += [torch.full((len(part),), way) for way, part in enumerate(of_way)]
            weight += [torch.full((len(part),), 1 / len(part)) for part in of_way]
        model = LogisticRegression(C=regularisation, max_iter=1000)
        with threadpool_limits(1):  # a fit takes milliseconds: threads would wait for each other longer than that
            model.fit(torch.cat(x).numpy(), torch.cat(y).numpy(), torch.cat(weight).numpy())
        answers = model.predict(unit[query.flatten()].numpy())
        accuracy[e] = float(np.mean(answers == np.arange(ways).repeat(query.shape[1])))
    return accuracy
