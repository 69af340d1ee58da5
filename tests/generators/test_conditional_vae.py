"""The conditional VAE on features: published layers and loss, the repaired variant, collapse told, training seeded."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from assay.generators.conditional_vae import ConditionalVAE, ConditionalVAENetwork, divergence
from assay.harness.core.abilities import FeatureGenerator
from assay.harness.core.registry import GENERATORS, discover

discover()


def opened(**options: Any) -> ConditionalVAE:
    made: ConditionalVAE = GENERATORS["conditional_vae"].function(
        "none", **{"latent": 4, "hidden": 32, "epochs": 60, "batch": 64, **options}
    )
    return made


def ring(count: int = 256) -> tuple[Tensor, Tensor]:
    """Features on a two-dimensional sheet in ten dimensions, around a centre that the condition tells."""
    generator = torch.Generator().manual_seed(0)
    conditions = F.one_hot(torch.arange(count) % 3, 3).float()
    inner = torch.randn(count, 2, generator=generator)
    mix, means = torch.randn(2, 10, generator=generator), 3 * torch.rand(3, 10, generator=generator)
    return F.relu(conditions @ means + inner @ mix), conditions


@pytest.mark.parametrize(("decoder", "layers"), [("mini", 2), ("tiered", 1)])
def test_layers_are_the_published_ones(decoder: str, layers: int) -> None:
    torch.manual_seed(0)
    network = ConditionalVAENetwork(512, 512, 512, 4096, True, decoder)
    assert [tuple(p.shape) for p in network.encoder.parameters()] == [(4096, 1024), (4096,)]
    assert network.mean.weight.shape == network.logvar.weight.shape == (512, 4096)
    linear = [module for module in network.decoder if isinstance(module, nn.Linear)]
    assert [module.in_features for module in linear] == [1024, 4096][:layers]
    assert [type(module) for module in network.decoder][-2:] == [nn.BatchNorm1d, nn.ReLU]
    weights = torch.cat([m.weight.flatten() for m in network.modules() if isinstance(m, nn.Linear)])
    # Several million draws: the standard error of their deviation is below 1e-5.
    assert weights.std().item() == pytest.approx(0.02, abs=1e-4)
    with torch.no_grad():
        mean, logvar = network.posterior(torch.randn(8, 512), torch.randn(8, 512))
    assert mean.min() >= 0
    assert logvar.min() >= 0, "the published posterior is nowhere narrower than the prior"


def test_losses() -> None:
    x, made = torch.tensor([[1.0, 2.0], [0.0, 4.0]]), torch.tensor([[1.0, 1.0], [1.0, 4.0]])
    mean, logvar = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [math.log(2.0)]])
    kl = (0.5 + 0.5 * (2 - 1 - math.log(2))) / 2
    torch.testing.assert_close(divergence(mean, logvar).sum() / 2, torch.tensor(kl))
    published, repaired = opened(variant="published", beta=0.1), opened()
    assert published.loss(x, made, mean, logvar).item() == pytest.approx(0.5 + 0.1 * kl)
    assert repaired.loss(x, made, mean, logvar).item() == pytest.approx(math.log(0.5) + kl)
    assert repaired.loss(x, made, mean, logvar, 0.25).item() == pytest.approx(math.log(0.5) + 0.25 * kl)
    # Features ten times as large: the repaired loss only gains a constant, so that its optimum is the same.
    larger = repaired.loss(10 * x, 10 * made, mean, logvar).item()
    assert larger - repaired.loss(x, made, mean, logvar).item() == pytest.approx(2 * math.log(10))


def test_the_divergence_is_that_of_torch_distributions() -> None:
    mean, logvar = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    normal = torch.distributions.Normal(mean, (logvar / 2).exp())
    prior = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    torch.testing.assert_close(divergence(mean, logvar), torch.distributions.kl_divergence(normal, prior))


def test_the_repaired_variant_has_codes_and_a_collapse_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    x, a = ring()
    found = opened(lr=1e-2).learn(x, a, 0).assess(x, a)
    assert found["used dimensions"] == 2, "as many as the sheet has"
    assert found["error"] < 0.2 * found["error of any code"]
    assert capsys.readouterr().err == ""
    collapsed = opened(lr=1e-2, variant="published", beta=5.0).learn(x, a, 0).assess(x, a)
    assert collapsed["used dimensions"] == 0
    assert collapsed["KL a dimension"] < 0.01
    assert collapsed["error"] == pytest.approx(collapsed["error of any code"], rel=0.02)
    assert "posterior collapse: the standard deviation of mean codes is at most" in capsys.readouterr().err


def test_it_learns_the_same_again_and_takes_over_a_state() -> None:
    x, a = ring(65)  # a last batch of one, which has no variance, is left out
    model, again, other = (opened(epochs=3).learn(x, a, seed) for seed in (0, 0, 1))
    taken = opened(epochs=3).learn(x, a, 5, model.state)
    z = opened().latents(range(6))
    assert torch.equal(model.decode(z, a[:6]), again.decode(z, a[:6]))
    assert torch.equal(model.decode(z, a[:6]), taken.decode(z, a[:6]))
    assert not torch.equal(model.decode(z, a[:6]), other.decode(z, a[:6]))
    torch.testing.assert_close(model.decode(z, a[:6])[2:3], model.decode(z[2:3], a[2:3]))
    assert model.decode(z, a[:6]).min() >= 0


def test_what_it_promises() -> None:
    generator = opened()
    assert isinstance(generator, FeatureGenerator)
    assert torch.equal(generator.latents(range(4)), torch.cat([generator.latents([0, 1]), generator.latents([2, 3])]))
    assert opened().fingerprint == generator.fingerprint != opened(beta=0.05).fingerprint
    with pytest.raises(ValueError, match="use study=few_shot"):
        generator.decode(generator.latents([0]))
    for options, said in (({"variant": "mended"}, "variant='mended'"), ({"decoder": "big"}, "decoder='big'"),
                          ({"batch": 1}, "batch=1 2 or more")):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            opened(**options)
