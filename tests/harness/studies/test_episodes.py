"""Episodes are what they say, whoever draws them and however many; classifiers are the published formulas."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from assay.harness.studies.few_shot.episodes import Episodes, draw_episodes
from assay.harness.studies.few_shot.measure import by_pool
from assay.harness.studies.few_shot.prototypes import SUPPORT, centre, logistic_regression, nearest_prototype, prototype

LABELS = torch.arange(9).repeat_interleave(30)
NOVEL = [1, 3, 4, 5, 7, 8]


def features(spread: float = 1.0, dimension: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(9, dimension, generator=generator)[LABELS] + spread * torch.randn(
        len(LABELS), dimension, generator=generator
    )


def test_episodes_keep_to_their_classes_and_never_ask_what_they_show() -> None:
    found = draw_episodes(LABELS, NOVEL, 300, ways=4, shots=3, queries=7)
    assert [tuple(part.shape) for part in found] == [(300, 4), (300, 4, 3), (300, 4, 7)]
    assert all(len(set(classes)) == 4 for classes in found.classes.tolist())
    drawn = torch.cat([found.support, found.query], 2)
    assert all(len(set(rows)) == 10 for rows in drawn.flatten(0, 1).tolist())
    assert torch.equal(LABELS[drawn], torch.tensor(NOVEL)[found.classes][..., None].expand_as(drawn))
    # A class is in 4 of 6 episodes: 200 of 300, standard deviation 8.2; 5 of them, false alarm 6 in 10^7 each.
    counts = torch.bincount(found.classes.flatten(), minlength=6)
    assert ((counts - 200).abs() < 41).all()


def test_an_episode_depends_on_its_own_seed_alone() -> None:
    many, few = (draw_episodes(LABELS, NOVEL, count, seed=(3, 1)) for count in (40, 7))
    assert all(torch.equal(part[:7], other) for part, other in zip(many, few, strict=True))
    other = draw_episodes(LABELS, NOVEL, 40, seed=(3, 2))
    assert not torch.equal(many.query, other.query)


def test_impossible_episodes() -> None:
    with pytest.raises(ValueError, match="7 ways need as many novel classes; there are 6"):
        draw_episodes(LABELS, NOVEL, 3, ways=7)
    with pytest.raises(ValueError, match="class 1 has 30 features; 16 shots and 15 queries need 31"):
        draw_episodes(LABELS, NOVEL, 3, shots=16)
    with pytest.raises(ValueError, match="0 shots"):
        draw_episodes(LABELS, NOVEL, 3, shots=0)


def slow_accuracy(x: Tensor, episodes: Episodes, centres: Tensor | None, support: str, e: int) -> float:
    """One episode, one query after the other, float64, as section 7 of the released test script has it."""
    hits = []
    for way in range(episodes.support.shape[1]):
        for row in episodes.query[e, way]:
            cosines = []
            for other in range(episodes.support.shape[1]):
                shots = x[episodes.support[e, other]].double()
                k = len(shots)
                if support == "normalised shots":
                    s = torch.stack([shot / shot.norm() for shot in shots]).mean(0)
                else:
                    s = shots.mean(0) / shots.mean(0).norm()
                p = s
                if centres is not None:
                    g = centres[e % len(centres), episodes.classes[e, other]].double()
                    p = k / (k + 1) * s + 1 / (k + 1) * g
                cosines.append(float(x[row].double() @ p / p.norm()))
            hits.append(int(np.argmax(cosines)) == way)
    return float(np.mean(hits))


@pytest.mark.parametrize("support", SUPPORT)
@pytest.mark.parametrize("shots", [1, 4])
def test_nearest_prototype_is_the_formula(support: str, shots: int) -> None:
    """All at once in float32 against one query at a time in float64: the same answers, hence the same accuracy."""
    x = features()
    episodes = draw_episodes(LABELS, NOVEL, 10, shots=shots)
    centres = F.normalize(torch.randn(3, 4, 6, 12, generator=torch.Generator().manual_seed(1)), dim=-1)
    found, alone = nearest_prototype(x, episodes, centres, support), nearest_prototype(x, episodes, None, support)
    assert found.shape == (3, 10)
    for e in range(10):
        assert alone[0, e].item() == pytest.approx(slow_accuracy(x, episodes, None, support, e))
        for s in range(3):
            assert found[s, e].item() == pytest.approx(slow_accuracy(x, episodes, centres[s], support, e))


def test_the_two_readings_of_the_support_agree_for_one_shot_only() -> None:
    x = features() * (1 + torch.arange(len(LABELS)) % 5)[:, None]  # lengths that differ within a class
    for shots, same in ((1, True), (5, False)):
        episodes = draw_episodes(LABELS, NOVEL, 60, shots=shots)
        first, second = (nearest_prototype(x, episodes, None, support) for support in SUPPORT)
        assert torch.equal(first, second) == same
    with pytest.raises(ValueError, match="support='mean' must be 'normalised shots' or 'normalised mean'"):
        nearest_prototype(x, episodes, None, "mean")


def test_prototype_weighs_one_shot_like_the_centre_and_five_shots_five_times() -> None:
    s, g = torch.eye(3)[0], torch.eye(3)[1]
    one, five = prototype(2 * s[None], g), prototype(torch.stack([s] * 5), g)
    torch.testing.assert_close(one, torch.tensor([1.0, 1.0, 0.0]) / 2**0.5)
    torch.testing.assert_close(five, torch.tensor([5.0, 1.0, 0.0]) / 26**0.5)


def test_centre_is_the_mean_of_what_is_kept() -> None:
    generated = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [5.0, 5.0]]])
    kept = torch.tensor([[[True, True, False]], [[True, False, False]], [[False, False, False]]])
    found = centre(generated, kept)
    torch.testing.assert_close(found[0, 0], torch.tensor([2.0, 1.0]) / 5**0.5)
    torch.testing.assert_close(found[1, 0], torch.tensor([1.0, 0.0]))
    assert found[2].isnan().all()


def test_logistic_regression_without_generated_features_is_scikit_learns() -> None:
    x = features(spread=1.5)
    episodes = draw_episodes(LABELS, NOVEL, 6, shots=3)
    unit = F.normalize(x, dim=1).numpy()
    for e, accuracy in enumerate(logistic_regression(x, episodes)):
        rows, asked = episodes.support[e].flatten(), episodes.query[e].flatten()
        model = LogisticRegression(max_iter=1000).fit(unit[rows], np.arange(5).repeat(3))
        assert accuracy.item() == pytest.approx(np.mean(model.predict(unit[asked]) == np.arange(5).repeat(15)))


def test_generated_features_of_a_class_weigh_one_shot_together() -> None:
    x = features(spread=1.5)
    episodes = draw_episodes(LABELS, NOVEL, 10)
    generator = torch.Generator().manual_seed(2)
    made = [torch.randn(4, 12, generator=generator) for _ in NOVEL]
    once = logistic_regression(x, episodes, made)
    torch.testing.assert_close(once, logistic_regression(x, episodes, [part.repeat(3, 1) for part in made]))
    truth = [x[label == LABELS] for label in NOVEL]
    assert logistic_regression(x, episodes, truth).mean() > once.mean() + 0.1


def alarms(pools: int, repetitions: int) -> int:
    """How often a choice by chance, against another one, has a gain whose 95 % interval leaves out 0.

    The episodes stay as they are; what is generated differs from one repetition to the next.
    """
    x, episodes = features(spread=1.2), draw_episodes(LABELS, NOVEL, 120)
    generator = torch.Generator().manual_seed(5)
    means = torch.stack([x[label == LABELS].mean(0) for label in NOVEL])
    found = 0
    for _ in range(repetitions):
        made = means[:, None] + 3 * torch.randn(pools, len(NOVEL), 30, 12, generator=generator)
        kept = torch.zeros(2, len(NOVEL), 30, dtype=torch.bool)
        kept[0, :, :6], kept[1, :, 6:12] = True, True
        centres = torch.stack([centre(of_pool, kept) for of_pool in made], 1)
        chosen, by_chance = nearest_prototype(x, episodes, centres)
        low, high = by_pool(chosen - by_chance, pools if pools > 1 else 120).interval
        found += not low <= 0 <= high
    return found


def test_intervals_over_pools_raise_few_false_alarms() -> None:
    """By design 5 %: of 120 repetitions 6, 17 or more once in 10^4; an interval over the episodes of one pool does not
    know what chance gave that pool, and alarms far more often."""
    assert alarms(12, 120) <= 16
    assert alarms(1, 40) >= 12
