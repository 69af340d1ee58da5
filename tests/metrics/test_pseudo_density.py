"""Pseudo density: the definition, its invariances, lattices, copies, and its ancestor KNN-GIQA."""

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from assay.metrics.pseudo_density import DensityNetwork, pseudo_density, reference_density


def gauss(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_it_is_the_definition() -> None:
    real, fake = gauss(150, 6), gauss(40, 6, seed=1)
    own = torch.cdist(real.double(), real.double()).fill_diagonal_(torch.inf).topk(10, largest=False).values.mean(1)
    other = torch.cdist(fake.double(), real.double()).topk(10, largest=False).values.mean(1)
    torch.testing.assert_close(pseudo_density(fake, real), (1 / other) / (1 / own).mean(), rtol=1e-8, atol=0)
    torch.testing.assert_close(reference_density(real).density, (1 / own) / (1 / own).mean(), rtol=1e-8, atol=0)


def test_mean_one_over_the_references_and_no_clipping_of_distinct_rows() -> None:
    known = reference_density(gauss(300, 4))
    assert known.density.mean().item() == pytest.approx(1, abs=1e-12)
    assert known.clipped == 0


def test_scale_shift_and_order_do_not_matter() -> None:
    real, fake = gauss(100, 5).double(), gauss(20, 5, seed=1).double()
    value = pseudo_density(fake, real)
    torch.testing.assert_close(pseudo_density(7 * fake + 3, 7 * real + 3), value, rtol=1e-10, atol=0)
    torch.testing.assert_close(pseudo_density(fake, real[torch.randperm(100)]), value, rtol=1e-12, atol=0)


def test_a_reference_is_left_out_of_its_own_neighbours() -> None:
    real = gauss(50, 3)
    for i in (0, 20):
        rest = torch.cat([real[:i], real[i + 1 :]])
        left_out = pseudo_density(real[i : i + 1], rest, k=5) * reference_density(rest, 5).normaliser
        own = reference_density(real, 5).density[i] * reference_density(real, 5).normaliser
        assert left_out.item() == pytest.approx(own.item(), rel=1e-12)


def test_a_closed_lattice_is_equally_dense_everywhere() -> None:
    angle = torch.arange(60) * (2 * torch.pi / 60)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    torch.testing.assert_close(reference_density(ring).density, torch.ones(60).double(), rtol=1e-5, atol=0)


def test_copies_are_clipped_and_counted() -> None:
    real = torch.cat([gauss(100, 4), torch.ones(12, 4)])
    known = reference_density(real)
    assert known.clipped == 12
    assert torch.isfinite(known.density).all()
    assert known.density.mean().item() == pytest.approx(1, abs=1e-12)
    assert torch.isfinite(pseudo_density(torch.ones(1, 4), real)).all()
    with pytest.raises(ValueError, match="more than half of its 30 rows have 10 exact copies"):
        reference_density(torch.ones(30, 4))


def test_k_must_leave_neighbours() -> None:
    with pytest.raises(ValueError, match="reference has 10 rows; k=10 needs at least 11"):
        pseudo_density(gauss(5, 3), gauss(10, 3))


def test_it_ranks_like_knn_giqa() -> None:
    real, fake = gauss(2000, 16), 1.3 * gauss(400, 16, seed=1)
    giqa = (1 / torch.cdist(fake.double(), real.double()).topk(20, largest=False).values).mean(1)
    assert spearmanr(pseudo_density(fake, real, k=20), giqa).statistic > 0.995


def test_the_network_learns_exact_density_and_reports_its_error() -> None:
    centres = 4 * gauss(5, 8)
    real = centres[torch.arange(1500) % 5] + gauss(1500, 8, seed=1) * (0.3 + 0.2 * (torch.arange(1500) % 5)[:, None])
    network = DensityNetwork.fit(real, epochs=30)
    fresh = centres[torch.arange(300) % 5] + gauss(300, 8, seed=2) * (0.3 + 0.2 * (torch.arange(300) % 5)[:, None])
    with torch.no_grad():
        assert spearmanr(network(fresh), pseudo_density(fresh, real)).statistic > 0.9
    assert network.held_out_error < 0.3 * reference_density(real).density.var().item()
    assert [m.out_features for m in network.layers if hasattr(m, "out_features")] == [512, 256, 128, 1]


def test_the_network_is_seeded_and_leaves_the_global_stream_alone() -> None:
    real, state = gauss(100, 4), torch.random.get_rng_state()
    first, second = (DensityNetwork.fit(real, epochs=2)(real) for _ in "ab")
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)
