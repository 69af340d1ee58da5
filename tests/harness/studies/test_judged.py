"""Sets judged together: halves that belong to each other, and intervals of gains that cover."""

import math

import pytest
import torch
from torch import Tensor

from assay.harness.stats.intervals import half_samples, proportion, share
from assay.harness.studies.judged import Judged, fewest, judge
from assay.metrics.neighbours import precision, recall

N, KEPT, K = 300, 60, 3


def of(fake: Tensor, real: Tensor, rows: Tensor, halves: int, seed: int) -> Judged:
    return judge(fake[rows], real, K, rows, len(rows), halves, seed)


def test_halves_are_judged_as_they_would_be_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    fake, real = torch.randn(N, 4, generator=generator), torch.randn(KEPT, 4, generator=generator)
    rows = torch.randperm(N, generator=generator)[:KEPT].sort().values
    judged = of(fake, real, rows, 6, 1)
    assert judged.precision == precision(fake[rows], real, k=K).value
    assert judged.recall == recall(fake[rows], real, k=K).value
    assert judged.halves.shape == (6, 2)
    assert (judged.halves * (KEPT // 2) % 1 == 0).all()
    torch.testing.assert_close(of(fake, real, rows, 6, 1).halves, judged.halves)
    assert not torch.equal(of(fake, real, rows, 6, 2).halves, judged.halves)


def test_small_sets_and_large_ones_have_the_same_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    fake, real = torch.randn(N, 2, 3, generator=generator), torch.randn(KEPT + 5, 2, 3, generator=generator)
    rows = torch.randperm(N, generator=generator)[:KEPT].sort().values
    small = of(fake.flatten(1), real.flatten(1), rows, 5, 1).halves
    monkeypatch.setattr("assay.harness.studies.judged.SMALL", 0)
    assert torch.equal(of(fake.flatten(1), real.flatten(1), rows, 5, 1).halves, small)


def test_halves_of_equal_sets_are_equal_whatever_else_is_judged() -> None:
    """So what two sets have in common is not between them: the interval of their difference knows it."""
    generator = torch.Generator().manual_seed(1)
    fake, real = torch.randn(N, 4, generator=generator), torch.randn(KEPT, 4, generator=generator)
    rows = torch.arange(KEPT)
    most = torch.cat([rows[:-1], torch.tensor([N - 1])])
    apart = of(fake, real, rows, 30, 0).halves - of(fake, real, most, 30, 0).halves
    others = of(fake, real, rows, 30, 0).halves - of(fake, real, rows + KEPT, 30, 0).halves
    assert (apart.std(0) < 0.5 * others.std(0)).all()


def test_a_share_is_nowhere_surer_than_for_fixed_balls() -> None:
    hits = torch.arange(20) < 13
    narrow, wide = torch.full((9,), 0.65, dtype=torch.float64), torch.linspace(0.2, 1, 9, dtype=torch.float64)
    assert share(hits, narrow).interval == proportion(hits).interval
    assert all(map(math.isnan, share(hits, narrow + 0.1).interval)), "halves that agree on something else tell nothing"
    low, high = share(hits, wide).interval
    assert low == pytest.approx(max(0, half_samples(0.65, wide, 20).interval[0]))
    assert high == 1


def test_fewest() -> None:
    assert [fewest(k) for k in (1, 3, 5)] == [10, 10, 14]
    assert len(of(torch.randn(20, 2), torch.randn(10, 2), torch.arange(10), 3, 0).halves) == 3


def test_gains_of_an_informative_score_are_covered() -> None:
    """The third nearest to the middle, which raises precision and lowers recall, less one by chance: 80 times, with 12
    halves. At 95 % fewer than 68 are covered in 1 of 1,000 seeds."""
    found: list[tuple[Tensor, Tensor]] = []
    for seed in range(80):
        generator = torch.Generator().manual_seed(seed)
        fake, real = 1.3 * torch.randn(180, 5, generator=generator), torch.randn(KEPT, 5, generator=generator)
        near = (-fake.norm(dim=1)).argsort(descending=True)[:KEPT].sort().values
        sets = [of(fake, real, rows, 12, seed) for rows in (near, torch.arange(KEPT))]
        gains = [torch.tensor([one.precision, one.recall]).double() for one in sets]
        found.append((gains[0] - gains[1], sets[0].halves - sets[1].halves))
    values = torch.stack([value for value, _ in found])
    for quantity, sense in ((0, 1), (1, -1)):
        truth = float(values[:, quantity].mean())
        assert sense * truth > 0.1
        ends = [half_samples(float(v[quantity]), h[:, quantity], KEPT).interval for v, h in found]
        assert sum(low <= truth <= high for low, high in ends) >= 68
