"""What every generator of the zoo promises: sample i depends on seed i alone, whatever and whoever is beside it."""

import hashlib
import subprocess
import sys

import pytest
import torch

from assay.harness.core.abilities import Discriminating, Encoder
from assay.harness.core.protocols import Generator
from assay.harness.core.registry import GENERATORS, discover

discover()
ZOO = ("vae", "stylegan2", "latent_diffusion", "held_out")
DATASETS = ("digits", "fashion_mnist")
HASH = """
import hashlib, sys
from assay.harness.registry import GENERATORS, discover
discover()
made = GENERATORS[sys.argv[1]].function("digits")
space = made.spaces[0]
images = made.decode(made.latents(range(8), space), space)
print(made.fingerprint, hashlib.sha256(images.numpy().tobytes()).hexdigest())
"""


def opened(name: str, dataset: str) -> Generator:
    found: Generator = GENERATORS[name].function(dataset)
    return found


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", ZOO)
def test_latents_depend_on_their_own_seed(name: str, dataset: str) -> None:
    made = opened(name, dataset)
    for space in made.spaces:
        whole = made.latents(range(8), space)
        parts = torch.cat([made.latents(range(4), space), made.latents(range(4, 8), space)])
        if space == "z_0":  # out of a network: equal to rounding
            torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)
        else:
            assert torch.equal(parts, whole), space
        assert len(whole.flatten(1).unique(dim=0)) == 8


@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("name", ZOO)
def test_images_do_not_depend_on_the_batch(name: str, dataset: str) -> None:
    made = opened(name, dataset)
    for space in made.spaces:
        latents = made.latents(range(8), space)
        whole = made.decode(latents, space)
        for size in (1, 3):
            parts = torch.cat([made.decode(part, space) for part in torch.split(latents, size)])
            torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ZOO)
def test_two_processes_make_the_same_bytes(name: str) -> None:
    made = opened(name, "digits")
    space = made.spaces[0]
    images = made.decode(made.latents(range(8), space), space)
    ours = f"{made.fingerprint} {hashlib.sha256(images.detach().numpy().tobytes()).hexdigest()}"
    done = subprocess.run([sys.executable, "-c", HASH, name], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == ours


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_discriminator_prefers_real_images(dataset: str) -> None:
    """Means of 300 logits each, more than four standard errors apart (false alarm below 1e-4)."""
    made, real = opened("stylegan2", dataset), opened("held_out", dataset)
    assert isinstance(made, Discriminating)
    count = 300
    logits = [
        made.discriminate(g.decode(g.latents(range(count), g.spaces[0]), g.spaces[0]).clamp(0, 1)) for g in (real, made)
    ]
    error = torch.stack([x.var() / count for x in logits]).sum().sqrt()
    assert logits[0].mean() - logits[1].mean() > 4 * error


def test_codes_of_latent_diffusion_are_those_of_its_autoencoder() -> None:
    made, images = opened("latent_diffusion", "digits"), opened("held_out", "digits")
    assert isinstance(made, Encoder)
    real = images.decode(images.latents(range(100), "sample"), "sample")
    again = made.decode(made.encode(real, "mean", ()), "z_0")
    other = real.roll(1, 0)
    assert (again - real).square().mean() < 0.3 * (other - real).square().mean()
