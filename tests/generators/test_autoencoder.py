"""Autoencoders of diffusers as generators: codes, images and scale against the library's own networks."""

import importlib
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.generators.autoencoder import autoencoder, recognise
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator
from assay.harness.formats.checkpoint import read_checkpoint

with warnings.catch_warnings(action="ignore"):
    import diffusers as d

DOWN, UP = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2
BLOCKS = {"down_block_types": DOWN, "up_block_types": UP, "block_out_channels": (8, 16), "norm_num_groups": 4}
SIZED = {"sample_size": 16, "scaling_factor": 0.4}
KINDS: dict[str, dict[str, Any]] = {
    "AutoencoderKL": {**BLOCKS, **SIZED, "latent_channels": 4, "shift_factor": 0.1},
    "VQModel": {**BLOCKS, **SIZED, "latent_channels": 3, "num_vq_embeddings": 32},
    "AsymmetricAutoencoderKL": {
        "down_block_types": DOWN,
        "down_block_out_channels": (8, 16),
        "up_block_types": UP,
        "up_block_out_channels": (8, 16),
        "norm_num_groups": 4,
        **SIZED,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "num_encoder_blocks": (1, 1),
        "num_decoder_blocks": (1, 1),
        "scaling_factor": 0.4,
    },
    "AutoencoderDC": {
        "latent_channels": 4,
        "attention_head_dim": 2,
        "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "encoder_qkv_multiscales": ((), (5,)),
        "decoder_qkv_multiscales": ((), (5,)),
        "encoder_layers_per_block": (1, 1),
        "decoder_layers_per_block": (1, 1),
        "upsample_block_type": "interpolate",
        "downsample_block_type": "stride_conv",
        "decoder_norm_types": "rms_norm",
        "decoder_act_fns": "silu",
        "scaling_factor": 0.4,
    },
}
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        for kind, options in KINDS.items():
            made[kind] = tmp_path_factory.mktemp(kind)
            getattr(d, kind)(**options).save_pretrained(made[kind])
    return made


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_codes_and_images_are_those_of_the_library(folders: dict[str, Path], kind: str) -> None:
    """Scaled codes are (z - shift_factor) · scaling_factor."""
    model: Any = autoencoder("any", str(folders[kind]), size=16)
    assert isinstance(model, Generator)
    assert isinstance(model, Encoder)
    network = getattr(d, kind).from_pretrained(folders[kind], low_cpu_mem_usage=False).eval()
    shift = 0.1 if kind == "AutoencoderKL" else 0.0
    encoded = network.encode(2 * IMAGES - 1)
    posterior = getattr(encoded, "latent_dist", None)
    codes = posterior.mean if posterior is not None else getattr(encoded, "latents", getattr(encoded, "latent", None))
    torch.testing.assert_close(model.encode(IMAGES), (codes - shift) * 0.4)
    if posterior is None:
        assert torch.equal(model.encode(IMAGES, "sample", [0, 1, 2]), model.encode(IMAGES))
        with pytest.raises(ValueError, match=f"{kind} encodes to points, so there is no log variance"):
            model.encode(IMAGES, "logvar")
    else:
        torch.testing.assert_close(model.encode(IMAGES, "logvar").exp(), posterior.var * 0.4**2)
    z = model.latents([3, 1, 2], "z")
    assert z.shape == codes.shape
    assert torch.equal(z[1:], model.latents([1, 2], "z"))
    images = model.decode(z, "z")
    torch.testing.assert_close(images, network.decode(z / 0.4 + shift).sample / 2 + 0.5)
    assert images.shape == IMAGES.shape
    with pytest.raises(ValueError, match=r"takes \[N, 3, H, W\] with H and W divisible by 2"):
        model.encode(IMAGES[..., :15])


@pytest.mark.parametrize("kind", KINDS)
def test_the_folder_is_recognised_and_its_size_is_an_option(folders: dict[str, Path], kind: str) -> None:
    assert recognise(read_checkpoint(folders[kind]).content)
    made: list[Any] = [autoencoder("any", str(folders[kind]), size=size) for size in (8, 16, None)]
    usual = 8 if "sample_size" in KINDS[kind] else 256
    assert [model.shape[1:] for model in made] == [(4, 4), (8, 8), (usual, usual)]
    assert made[0].fingerprint != made[1].fingerprint
    with pytest.raises(ValueError, match=r"size=9 must be divisible by 2, the factor of"):
        autoencoder("any", str(folders[kind]), size=9)


@pytest.mark.parametrize("kind", ["AutoencoderKLCogVideoX", "AutoencoderOobleck", "UNet2DModel", "Absent"])
def test_other_networks_are_named(folders: dict[str, Path], tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": kind}))
    with pytest.raises(ValueError, match=f"holds a {kind}, not an autoencoder of images: AsymmetricAutoencoderKL, "):
        autoencoder("any", str(tmp_path))
    assert not recognise(read_checkpoint(tmp_path).content)


def test_a_folder_describes_no_more_than_it_holds(folders: dict[str, Path], tmp_path: Path) -> None:
    for changes in ({"latent_channels": 10**10}, {"encoder_block_out_channels": [10**6, 10**6]}):
        config = json.loads((folders["AutoencoderTiny"] / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(
            (folders["AutoencoderTiny"] / "diffusion_pytorch_model.safetensors").read_bytes()
        )
        with pytest.raises(ValueError, match="numbers, but its files have"):
            autoencoder("any", str(tmp_path))


def test_the_module_is_found_under_its_old_name() -> None:
    assert importlib.import_module("assay.generators.autoencoder_kl").autoencoder is autoencoder
