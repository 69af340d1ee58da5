"""Diffusion on the codes of the VAE: what the zoo's model promises, and that training learns a distribution."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from assay.generators.latent_diffusion import (
    SIGNAL,
    LatentDiffusion,
    LatentDiffusionTraining,
    frechet,
    latent_diffusion,
    train_latent_diffusion,
)
from assay.generators.networks import ddim
from assay.generators.vae import vae
from assay.harness import train as module
from assay.harness.core.abilities import Encoder
from assay.harness.core.files import sha256_of
from assay.harness.core.protocols import Dataset, Generator, Samples
from assay.harness.core.registry import DATASETS, discover
from assay.harness.formats.weights import ZOO, read_weights
from assay.harness.train import train

discover()
VAE = ZOO["generator"] / "vae-digits.safetensors"
OPTIONS = {"vae": str(VAE), "width": 16, "depth": 1, "epochs": 2, "batch": 64}


class Small:
    """The first 200 training and 50 test images of the digits."""

    def __init__(self) -> None:
        self.whole: Dataset = DATASETS["digits"].function()
        self.classes, self.name, self.fingerprint = self.whole.classes, "small", self.whole.fingerprint

    def count(self, split: Any) -> int:
        return {"train": 200, "test": 50}[split]

    def take(self, split: Any, start: int, stop: int) -> Samples:
        return self.whole.take(split, start, stop)


@pytest.fixture(scope="module")
def zoo() -> LatentDiffusion:
    generator = latent_diffusion("fashion_mnist")
    assert isinstance(generator, LatentDiffusion)
    return generator


@pytest.fixture(scope="module")
def data() -> Small:
    return Small()


def run(data: Small, out: Path, **options: Any) -> Path:
    return train("latent_diffusion", {**OPTIONS, **options}, data, 0, out, torch.device("cpu"))


def test_what_a_generator_promises(zoo: LatentDiffusion) -> None:
    assert isinstance(zoo, Generator)
    assert isinstance(zoo, Encoder)
    assert zoo.spaces == ("z_0", "x_T")
    for space in zoo.spaces:
        latents = zoo.latents(range(6), space)
        assert latents.shape == (6, 16)
        parts = torch.cat([zoo.latents([0, 1], space), zoo.latents([2, 3, 4, 5], space)])
        torch.testing.assert_close(latents, parts, rtol=0, atol=1e-5)
    x, z = zoo.latents(range(6), "x_T"), zoo.latents(range(6), "z_0")
    assert torch.equal(zoo.decode(x, "x_T"), zoo.decode(z, "z_0"))
    assert zoo.decode(z, "z_0").shape == (6, 1, 28, 28)
    again = latent_diffusion("fashion_mnist")
    assert again.fingerprint == zoo.fingerprint != latent_diffusion("fashion_mnist", steps=20).fingerprint
    assert torch.equal(again.latents(range(6), "z_0"), z)


def test_noise_is_standard_normal(zoo: LatentDiffusion) -> None:
    x = zoo.latents(range(1000), "x_T")
    # 32 statistics with standard errors 0.032 and 0.022: one beyond 4.5 of them has a chance of 2e-4
    assert x.mean(0).abs().max() < 4.5 * 0.032
    assert (x.std(0) - 1).abs().max() < 4.5 * 0.0225


def test_the_vae_inside_is_that_of_the_zoo(zoo: LatentDiffusion) -> None:
    alone = vae("fashion_mnist")
    images = torch.rand(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    assert isinstance(alone, Encoder)
    for how in ("mean", "logvar", "sample"):
        assert torch.equal(zoo.encode(images, how, [1, 2, 3]), alone.encode(images, how, [1, 2, 3]))
    codes = zoo.encode(images, "mean")
    assert torch.equal(zoo.decode(codes, "z_0"), alone.decode(codes, "z"))
    card = json.loads((ZOO["generator"] / "latent_diffusion-fashion_mnist.json").read_text())
    assert card["architecture"]["vae_sha256"] == sha256_of(ZOO["generator"] / "vae-fashion_mnist.safetensors")


def test_samples_have_the_moments_of_the_codes(zoo: LatentDiffusion) -> None:
    """Mean and deviation of each dimension, as stored from the training images, within a tenth of a deviation."""
    standardised = (zoo.latents(range(2000), "z_0") - zoo.network.mean) / zoo.network.scale
    assert standardised.mean(0).abs().max() < 0.1
    assert (standardised.std(0) - 1).abs().max() < 0.1


def test_the_zoo_card_tells_that_it_works() -> None:
    """Sampled codes are nearer to codes of test images than the VAE's prior is; nothing beats training codes."""
    test = json.loads((ZOO["generator"] / "latent_diffusion-fashion_mnist.json").read_text())["test"]
    assert test["frechet_of_training_codes"] < test["frechet"] < 0.7 * test["frechet_of_prior"]
    assert (ZOO["generator"] / "latent_diffusion-fashion_mnist.safetensors").stat().st_size < 4e6


def test_gradients_reach_the_noise(zoo: LatentDiffusion) -> None:
    x = zoo.latents([3], "x_T").requires_grad_()
    brightness = zoo.decode(x, "x_T").mean()
    (gradient,) = torch.autograd.grad(brightness, x)
    direction = gradient / gradient.norm()
    with torch.no_grad():
        ends = [zoo.decode(x + e * direction, "x_T").mean().item() for e in (0.01, -0.01)]
    assert (ends[0] - ends[1]) / 0.02 == pytest.approx(gradient.norm().item(), rel=0.02)


def test_inversion_finds_the_noise(zoo: LatentDiffusion) -> None:
    x, z = zoo.latents(range(20), "x_T"), zoo.latents(range(20), "z_0")
    once, often = ((zoo.invert(z, repeats) - x).abs().mean() for repeats in (1, 12))
    assert often < 1e-4 < once < 0.1


def test_frechet_distance() -> None:
    draw = torch.Generator().manual_seed(0)
    a = torch.randn(50, 3, generator=draw) @ torch.randn(3, 3, generator=draw)
    b = torch.randn(60, 3, generator=draw) + 1
    A, B = a.double().T.cov(), b.double().T.cov()
    root = torch.as_tensor(sqrtm((A @ B).numpy())).real
    expected = (a.double().mean(0) - b.double().mean(0)).square().sum() + (A + B - 2 * root).trace()
    assert frechet(a, b) == pytest.approx(expected.item(), rel=1e-5)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, a + torch.tensor([3.0, 0, 4.0])) == pytest.approx(25, rel=1e-5)


def test_training_learns_two_clusters(data: Small) -> None:
    """Codes at (2, 2, …) and (-2, -2, …) with deviation 0.2: after 400 steps 97 % of samples lie near one of the two, a
    third or more near each, with the deviation right within a factor of 2.
    """
    training = train_latent_diffusion(data, 0, str(VAE), 32, 2, epochs=1, batch=256, lr=3e-3, ema=0.98)
    steps, half, dimensions = 400, 200 * 256, training.codes.shape[1]
    training.codes = torch.cat([torch.full((half, dimensions), c) for c in (2.0, -2.0)])
    training.deviation = torch.full((2 * half, dimensions), 0.2)
    training.network.mean.zero_()
    training.network.scale.fill_((4 + 0.04) ** 0.5)
    torch.manual_seed(0)
    batches: list[tuple[Tensor, Tensor | None]] = [(torch.zeros(256, 1), None)] * steps
    losses = list(training.epoch(iter(batches)))
    assert losses[-1]["denoising"] < 0.5 * losses[0]["denoising"]
    noise = torch.randn(500, dimensions, generator=torch.Generator().manual_seed(1))
    samples = training.network.sample(noise, ddim.respaced(SIGNAL, 50))
    positive = samples.mean(1) > 0
    # of 500 fair draws, less than a third have a chance below 1e-13
    assert 1 / 3 < positive.float().mean() < 2 / 3
    there = (samples.mean(1).abs() - 2).abs() < 0.5
    assert there.float().mean() > 0.97
    for side in (positive, ~positive):
        assert 0.1 < samples[there & side].std(0).mean() < 0.4


def test_a_killed_training_goes_on_to_the_same_weights(
    data: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(data, tmp_path / "a")
    save = module._save

    class Killed(BaseException):
        pass

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module, "_save", save_and_die)
        with pytest.raises(Killed):
            run(data, tmp_path / "b")
    resumed = run(data, tmp_path / "b")
    assert resumed.read_bytes() == undisturbed.read_bytes()
    opened = latent_diffusion("small", str(resumed), steps=3)
    assert opened.decode(opened.latents([0], "z_0"), "z_0").shape == (1, 1, 8, 8)


def test_what_training_leaves_behind(data: Small, tmp_path: Path) -> None:
    path = run(data, tmp_path)
    card = json.loads(path.with_suffix(".json").read_text())
    assert f"trainer.latent_diffusion.vae={VAE}" in card["command"]
    assert card["architecture"]["vae_sha256"] == sha256_of(VAE)
    test = card["test"]
    assert set(test) == {"denoising", "frechet", "frechet_of_prior", "frechet_of_training_codes"}
    # an untrained network stands for the average one: of no use, but its codes are finite
    assert 0 < test["frechet_of_training_codes"] < test["frechet"] < 100
    tensors = read_weights(path, "latent_diffusion").tensors
    inner = {name.removeprefix("vae."): x for name, x in tensors.items() if name.startswith("vae.")}
    whole = read_weights(VAE, "vae").tensors
    assert inner.keys() == whole.keys()
    assert all(torch.equal(inner[name], whole[name]) for name in whole)


def test_codes_are_standardised_by_their_own_moments(data: Small) -> None:
    training = train_latent_diffusion(data, 0, **OPTIONS)
    assert isinstance(training, LatentDiffusionTraining)
    torch.manual_seed(0)
    shape = (500, *training.codes.shape)
    samples = (training.codes + training.deviation * torch.randn(shape)).flatten(0, 1)
    standardised = (samples - training.network.mean) / training.network.scale
    assert standardised.mean(0).abs().max() < 0.02
    assert (standardised.std(0) - 1).abs().max() < 0.02


def test_wrong_calls(data: Small, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"assay train generator=latent_diffusion dataset=small` .*path=PATH"):
        latent_diffusion("small")
    with pytest.raises(LookupError, match=r"no weights of 'vae' for data set 'small'"):
        train_latent_diffusion(data, 0)
    with pytest.raises(ValueError, match="holds weights of 'vae', not of 'latent_diffusion'"):
        latent_diffusion("digits", str(VAE))
    with pytest.raises(ValueError, match="steps=0 must be between 1 and 1000"):
        latent_diffusion("fashion_mnist", steps=0)
