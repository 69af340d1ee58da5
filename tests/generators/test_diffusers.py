"""diffusers folders, written here with random weights: against the library's own pipeline and the formula of DDIM."""

import ast
import json
import os
import pickle
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import assay
from assay.generators import autoencoder as kl_module
from assay.generators import ddpm as ddpm_module
from assay.generators import stable_diffusion as sd_module
from assay.generators.autoencoder import autoencoder
from assay.generators.ddpm import ddpm
from assay.generators.networks.diffusers_kl import KLAutoencoder
from assay.generators.networks.diffusers_ldm import LatentDiffusion, VQAutoencoder, unconditional
from assay.generators.networks.seeds import normal
from assay.generators.stable_diffusion import Guided, stable_diffusion
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator
from assay.harness.formats.checkpoint import read_checkpoint

pytestmark = pytest.mark.usefixtures("no_network")

with warnings.catch_warnings(action="ignore"):
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        DDPMScheduler,
        PNDMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
        UNet2DModel,
        VQModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

BLOCKS = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
AUTOENCODER = BLOCKS | {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "sample_size": 16,
}
UNET = BLOCKS | {
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": 8,
    "in_channels": 3,
    "out_channels": 3,
    "sample_size": 8,
}
LDM_SCHEDULE = {"beta_start": 0.0015, "beta_end": 0.0195, "beta_schedule": "scaled_linear"}
SD_SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STEPS = 3

Writer = Callable[..., Path]


def edit(file: Path, **changes: Any) -> None:
    """Change a JSON file; None removes a key."""
    content = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def write_index(folder: Path, name: str) -> Path:
    (folder / "model_index.json").write_text(json.dumps({"_class_name": name}))
    return folder


def write_tokenizer(folder: Path) -> None:
    """Letters, and one word; at most 16 tokens."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    special = {"bos_token": words[-2], "eos_token": words[-1], "pad_token": words[-1], "unk_token": words[-1]}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def text_encoder() -> Any:
    ids = {"bos_token_id": 54, "eos_token_id": 55, "pad_token_id": 55}
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return CLIPTextModel(CLIPTextConfig(vocab_size=56, max_position_embeddings=16, **shape, **ids))


def write(folder: Path, kind: str) -> None:
    torch.manual_seed(0)
    if kind == "sd":
        write_index(folder, "StableDiffusionPipeline")
        blocks = {"down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D")}
        blocks["up_block_types"] = ("CrossAttnUpBlock2D", "UpBlock2D")
        channels = {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 16}
        UNet2DConditionModel(**UNET | blocks | channels).save_pretrained(folder / "unet")
        AutoencoderKL(**AUTOENCODER, latent_channels=4).save_pretrained(folder / "vae")
        text_encoder().save_pretrained(folder / "text_encoder")
        write_tokenizer(folder / "tokenizer")
        PNDMScheduler(**SD_SCHEDULE, steps_offset=1, skip_prk_steps=True).save_pretrained(folder / "scheduler")
        return
    UNet2DModel(**UNET).save_pretrained(folder / "unet")
    if kind == "ddpm":
        write_index(folder, "DDPMPipeline")
        DDPMScheduler().save_pretrained(folder / "scheduler")
        return
    write_index(folder, "LDMPipeline")
    DDIMScheduler(**LDM_SCHEDULE, clip_sample=False).save_pretrained(folder / "scheduler")
    if kind == "ldm_kl":
        AutoencoderKL(**AUTOENCODER, latent_channels=3).save_pretrained(folder / "vae")
    else:
        VQModel(**AUTOENCODER, latent_channels=3, num_vq_embeddings=32).save_pretrained(folder / "vqvae")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in ("sd", "ldm", "ldm_kl", "ddpm")}
    with warnings.catch_warnings(action="ignore"):
        for kind, folder in made.items():
            write(folder, kind)
    return made


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Writer:
    """copied(kind): the folder once more, to be changed."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(folders[kind], tmp_path / kind, dirs_exist_ok=True))

    return copy


def open_kind(kind: str, folder: Path, steps: int = STEPS) -> Any:
    if kind == "sd":
        return stable_diffusion("any", str(folder), "a cat", "dog", 5.0, steps)
    if kind == "ddpm":
        return ddpm("any", str(folder), steps)
    if kind == "kl":
        return autoencoder("any", str(folder))
    return unconditional(folder, steps, 1.0 if kind == "ldm" else None)


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Any]:
    return {kind: open_kind(kind, folder) for kind, folder in folders.items()} | {"kl": open_kind("kl", folders["sd"])}


KINDS = ("sd", "ldm", "ldm_kl", "ddpm", "kl")
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5))


def codes_like(images: Tensor) -> Tensor:
    return torch.randn(len(images), 4, 8, 8, generator=torch.Generator().manual_seed(6))


# --- what every family promises --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_depends_on_its_seed_alone(models: dict[str, Any], kind: str) -> None:
    model = models[kind]
    assert isinstance(model, Generator)
    for space in model.spaces:
        codes = model.latents(range(6), space)
        apart = [model.latents(seeds, space) for seeds in ([0, 1], [2], [3, 4, 5])]
        assert torch.equal(codes, torch.cat(apart))
        together = model.decode(codes, space)
        apart = [model.decode(part, space) for part in codes.split([1, 2, 3])]
        torch.testing.assert_close(torch.cat(apart), together, rtol=0, atol=1e-5)
        assert together.shape[:2] == (6, 3)
        assert together.std(0).mean() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_two_constructions_are_one_generator(
    models: dict[str, Any], folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    moved = shutil.copytree(folders["sd" if kind == "kl" else kind], tmp_path / "moved")
    (moved / "README.md").write_text("not read")
    again, model = open_kind(kind, moved), models[kind]
    space = model.spaces[0]
    assert again.fingerprint == model.fingerprint
    assert torch.equal(again.decode(again.latents([3], space), space), model.decode(model.latents([3], space), space))
    assert set(again.card["files"].values()) == set(model.card["files"].values())


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_the_finite_difference(models: dict[str, Any], kind: str) -> None:
    """In every space; a VQModel is differentiated as if it did not quantise, so it is asked without its codebook."""
    model = models[kind]
    for space in model.spaces if kind != "ldm" else ():
        codes = model.latents([3], space).requires_grad_()
        direction = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
        (gradient,) = torch.autograd.grad(model.decode(codes, space).square().sum(), codes)
        with torch.no_grad():
            up, down = (model.decode(codes + h * direction, space).double().square().sum() for h in (3e-3, -3e-3))
        assert float((gradient * direction).sum()) == pytest.approx(float(up - down) / 6e-3, rel=2e-2)
    if kind == "ldm":
        codes = model.latents([3], "x_T").requires_grad_()
        (gradient,) = torch.autograd.grad(model.decode(codes, "x_T").sum(), codes)
        assert gradient.abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["sd", "ldm", "ldm_kl"])
def test_images_of_noise_are_images_of_its_codes(models: dict[str, Any], kind: str) -> None:
    model = models[kind]
    noise, codes = model.latents([4, 9], "x_T"), model.latents([4, 9], "z_0")
    assert torch.equal(noise, normal([4, 9], *model.shape))
    assert torch.equal(model.decode(noise, "x_T"), model.decode(codes, "z_0"))
    assert not torch.equal(noise, codes)


def test_formats_are_recognised(folders: dict[str, Path]) -> None:
    content = {kind: read_checkpoint(folder).content for kind, folder in folders.items()}
    content["kl"] = read_checkpoint(folders["sd"] / "vae").content
    for module, kind in ((sd_module, "sd"), (ddpm_module, "ddpm"), (kl_module, "kl")):
        assert [name for name in content if module.recognise(content[name])] == [kind]
        assert not any(module.recognise(other) for other in ({}, [], None, {"model_index.json": 3, "config.json": 4}))


def test_nothing_of_the_process_is_changed(folders: dict[str, Path]) -> None:
    from transformers import logging

    before = dict(os.environ), list(warnings.filters), logging.is_progress_bar_enabled(), torch.get_rng_state().tolist()
    open_kind("sd", folders["sd"])
    after = dict(os.environ), list(warnings.filters), logging.is_progress_bar_enabled(), torch.get_rng_state().tolist()
    assert before == after


def test_opening_is_silent(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    for kind, folder in folders.items():
        open_kind(kind, folder)
    assert capfd.readouterr() == ("", "")


def test_diffusers_is_imported_when_it_is_needed(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for file in Path(sd_module.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith(("diffusers.", "transformers")) or name == "diffusers" for name in names), (
                file
            )
    monkeypatch.setitem(sys.modules, "diffusers", None)
    for kind, folder in folders.items():
        with pytest.raises(ImportError, match=r"pip install 'assay\[diffusers\]'"):
            open_kind(kind, folder)


# --- stable diffusion ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipeline(folders: dict[str, Path]) -> Any:
    """The library's own pipeline; it turns off the clipping that the folder's scheduler does not mention."""
    folder = folders["sd"]
    with warnings.catch_warnings(action="ignore"):
        parts = {
            "vae": AutoencoderKL.from_pretrained(folder / "vae", low_cpu_mem_usage=False),
            "unet": UNet2DConditionModel.from_pretrained(folder / "unet", low_cpu_mem_usage=False),
            "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
            "tokenizer": CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler"),
            "safety_checker": None,
            "feature_extractor": None,
        }
        made = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(
    ("prompt", "negative", "guidance"),
    [("a cat", "dog", 5.0), ("a cat", "", 7.5), ("a cat", "dog", 1.0), ("", "", 7.5)],
    ids=["two prompts", "one prompt", "no guidance", "no prompt"],
)
def test_stable_diffusion_is_the_pipeline(
    folders: dict[str, Path], pipeline: Any, prompt: str, negative: str, guidance: float
) -> None:
    model = stable_diffusion("any", str(folders["sd"]), prompt, negative, guidance, STEPS)
    noise = model.latents(range(4), "x_T")
    given = {"prompt": [prompt] * 4, "negative_prompt": [negative] * 4, "guidance_scale": guidance}
    with warnings.catch_warnings(action="ignore"):
        made = [
            pipeline(**given, num_inference_steps=STEPS, latents=noise.clone(), output_type=kind).images
            for kind in ("latent", "pt")
        ]
    torch.testing.assert_close(model.latents(range(4), "z_0"), made[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.decode(noise, "x_T").clamp(0, 1), made[1], rtol=0, atol=1e-6)
    torch.testing.assert_close(model.decode(made[0], "z_0").clamp(0, 1), made[1], rtol=0, atol=1e-6)


def test_the_prompt_matters_and_guidance_between_equal_prompts_does_not(folders: dict[str, Path]) -> None:
    def latents(*options: Any) -> Tensor:
        return stable_diffusion("any", str(folders["sd"]), *options, steps=STEPS).latents([0], "z_0")

    assert torch.equal(latents("dog", "dog", 7.5), latents("dog", "", 1.0))
    assert (latents("dog", "", 7.5) - latents("dog", "", 1.0)).abs().max() > 1e-4
    assert (latents("dog", "", 1.0) - latents("cat", "", 1.0)).abs().max() > 1e-4


def test_options_are_part_of_the_fingerprint(folders: dict[str, Path], copied: Writer) -> None:
    folder = copied("sd")
    edit(folder / "scheduler" / "scheduler_config.json", beta_end=0.013)
    options: list[dict[str, Any]] = [{}, {"prompt": "cat"}, {"negative_prompt": "cat"}, {"guidance": 2}, {"steps": 4}]
    made = [stable_diffusion("any", str(folders["sd"]), **given) for given in options]
    made += [stable_diffusion("any", str(folder)), open_kind("kl", folder)]
    made += [unconditional(folders["ldm"], steps, scale) for steps in (3, 4) for scale in (1.0, 2.0)]
    made += [ddpm("any", str(folders["ddpm"]), steps) for steps in (3, 4)]
    assert len({model.fingerprint for model in made}) == len(made)


def test_stable_diffusion_encodes_to_z_0(models: dict[str, Any]) -> None:
    model, kl = models["sd"], models["kl"]
    assert isinstance(model, Encoder)
    for how in ("mean", "logvar", "sample"):
        assert torch.equal(model.encode(IMAGES, how, range(3)), kl.encode(IMAGES, how, range(3)))


def test_a_prompt_that_would_be_cut_is_refused(folders: dict[str, Path]) -> None:
    fits, too_long = " ".join("abcdefghijklmn"), " ".join("abcdefghijklmno")
    assert stable_diffusion("any", str(folders["sd"]), fits, steps=1)
    with pytest.raises(ValueError, match=r"a prompt has 17 tokens, the limit is 16; shorten 'a b c"):
        stable_diffusion("any", str(folders["sd"]), too_long, steps=1)
    with pytest.raises(ValueError, match=r"guidance=0.5 must be at least 1"):
        stable_diffusion("any", str(folders["sd"]), guidance=0.5)


# --- autoencoder -----------------------------------------------------------------------------------------------------


def test_autoencoder_of_a_pipeline_and_by_itself(folders: dict[str, Path], models: dict[str, Any]) -> None:
    alone = autoencoder("any", str(folders["sd"] / "vae"))
    assert alone.fingerprint == models["kl"].fingerprint
    assert alone.latents([1, 2], "z").shape == (2, 4, 8, 8)
    assert "not trained" in models["kl"].card["prior"]


def test_codes_are_those_of_the_library_times_the_scaling_factor(
    folders: dict[str, Path], models: dict[str, Any]
) -> None:
    vae = AutoencoderKL.from_pretrained(folders["sd"] / "vae", low_cpu_mem_usage=False).requires_grad_(False)
    posterior = vae.encode(2 * IMAGES - 1).latent_dist
    model = models["kl"]
    mean, logvar = model.encode(IMAGES), model.encode(IMAGES, "logvar")
    torch.testing.assert_close(mean, posterior.mode() * 0.18215)
    torch.testing.assert_close((logvar / 2).exp(), posterior.std * 0.18215)
    noise = (model.encode(IMAGES, "sample", [7, 8, 9]) - mean) / (logvar / 2).exp()
    torch.testing.assert_close(noise, normal([7, 8, 9], 4, 8, 8), rtol=1e-3, atol=1e-4)
    codes = codes_like(IMAGES)
    torch.testing.assert_close(model.decode(codes), (vae.decode(codes / 0.18215).sample + 1) / 2)
    apart = torch.cat([model.encode(image[None]) for image in IMAGES])
    torch.testing.assert_close(apart, mean, rtol=0, atol=1e-5)


def test_shifted_codes(copied: Writer, models: dict[str, Any]) -> None:
    """z = (mean - shift) · scale, as newer autoencoders have it; decoding undoes it."""
    folder = copied("sd")
    edit(folder / "vae" / "config.json", shift_factor=0.5, scaling_factor=0.25)
    plain, shifted = models["kl"], open_kind("kl", folder)
    torch.testing.assert_close(shifted.encode(IMAGES), (plain.encode(IMAGES) / 0.18215 - 0.5) * 0.25)
    codes = codes_like(IMAGES)
    torch.testing.assert_close(shifted.decode((codes / 0.18215 - 0.5) * 0.25), plain.decode(codes), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 1, 16, 16), (2, 3, 15, 16), (3, 16, 16)])
@pytest.mark.parametrize("kind", ["kl", "ldm"])
def test_images_that_do_not_fit_are_refused(models: dict[str, Any], kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes \[N, 3, H, W\] with H and W divisible by 2"):
        models[kind].encode(torch.zeros(shape), "mean", ())


# --- unconditional diffusion -----------------------------------------------------------------------------------------


def ddim_by_formula(unet: Any, x: Tensor, beta: Tensor, clip: bool) -> Tensor:
    """arXiv:2010.02502 eq. 12 with σ = 0, in float64 but for the network; timesteps 0, T/S, 2T/S … backwards."""
    signal = [1.0, *(1 - beta.double()).cumprod(0)[:: len(beta) // STEPS][:STEPS].tolist()]
    x = x.double()
    for i in reversed(range(STEPS)):
        noise = unet(x.float(), i * (len(beta) // STEPS)).sample.double()
        clean = (x - (1 - signal[i + 1]) ** 0.5 * noise) / signal[i + 1] ** 0.5
        x = signal[i] ** 0.5 * (clean.clamp(-1, 1) if clip else clean) + (1 - signal[i]) ** 0.5 * noise
    return x.float()


def test_sampling_is_the_formula(folders: dict[str, Path], models: dict[str, Any]) -> None:
    linear = torch.linspace(1e-4, 0.02, 1000)
    scaled = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000).square()
    for kind, beta in (("ldm", scaled), ("ddpm", linear)):
        unet = UNet2DModel.from_pretrained(folders[kind] / "unet", low_cpu_mem_usage=False).requires_grad_(False)
        noise = models[kind].latents(range(3), "x_T")
        expected = ddim_by_formula(unet, noise, beta, clip=kind == "ddpm")
        if kind == "ddpm":
            torch.testing.assert_close(models[kind].decode(noise), (expected + 1) / 2, rtol=0, atol=1e-4)
        else:
            torch.testing.assert_close(models[kind].latents(range(3), "z_0"), expected, rtol=1e-4, atol=1e-4)


def test_first_stage_quantises_when_it_decodes(folders: dict[str, Path], models: dict[str, Any]) -> None:
    model = models["ldm"]
    vq = VQModel.from_pretrained(folders["ldm"] / "vqvae", low_cpu_mem_usage=False).requires_grad_(False)
    codes = model.encode(IMAGES, "mean", ())
    torch.testing.assert_close(codes, vq.encode(2 * IMAGES - 1).latents)
    assert torch.equal(codes, model.encode(IMAGES, "sample", range(3)))
    nearest = vq.quantize(codes)[0]
    assert (nearest - codes).abs().max() > 0.1
    torch.testing.assert_close(model.decode(codes), model.decode(nearest), rtol=0, atol=1e-5)
    torch.testing.assert_close(model.decode(codes), (vq.decode(codes).sample + 1) / 2, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="no log variance; choose encode=mean"):
        model.encode(IMAGES, "logvar", ())


def test_scale_of_the_first_stage(copied: Writer, capfd: pytest.CaptureFixture[str]) -> None:
    """diffusers writes 0.18215 into every VQModel; the published ones used 1. A KL autoencoder's is its own."""
    folder = copied("ldm")

    def opened(scale: float | None) -> LatentDiffusion:
        model = unconditional(folder, STEPS, scale)
        assert isinstance(model, LatentDiffusion)
        assert isinstance(model.first_stage, VQAutoencoder)
        assert model.first_stage.scale == model.card["scale_factor"]
        return model

    assumed = opened(None)
    assert assumed.card["scale_factor"] == 1
    assert "published VQ models were trained with 1" in assumed.card["scale_factor_from"]
    assert capfd.readouterr().err.count("generator.ldm.scale_factor=0.18215 takes the default") == 1
    given = opened(0.18215)
    assert given.card["scale_factor"] == 0.18215
    torch.testing.assert_close(given.encode(IMAGES), 0.18215 * assumed.encode(IMAGES))
    torch.testing.assert_close(given.decode(given.encode(IMAGES)), assumed.decode(assumed.encode(IMAGES)))
    edit(folder / "vqvae" / "config.json", scaling_factor=0.5)
    assert opened(None).card["scale_factor"] == 0.5
    edit(folder / "vqvae" / "config.json", scaling_factor=None)
    capfd.readouterr()
    assert opened(None).card["scale_factor"] == 1
    kl = unconditional(copied("ldm_kl"), STEPS, None)
    assert isinstance(kl, LatentDiffusion)
    assert isinstance(kl.first_stage, KLAutoencoder)
    assert kl.first_stage.scale == kl.card["scale_factor"] == 0.18215
    with pytest.raises(ValueError, match=r"scale_factor=0.0 must be positive"):
        opened(0)


def test_old_folders(copied: Writer, models: dict[str, Any]) -> None:
    """Their pipeline had another name, attention layers were called query, key, value, proj_attn, weights were .bin."""
    folder = write_index(copied("ldm"), "LatentDiffusionUncondPipeline")
    for part, network in (("unet", UNet2DModel), ("vqvae", VQModel)):
        with warnings.catch_warnings(action="ignore"):
            tensors = network.from_pretrained(folder / part, low_cpu_mem_usage=False).state_dict()
        for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            tensors = {name.replace(f".{new}.", f".{old}."): tensor for name, tensor in tensors.items()}
        assert any(".proj_attn." in name for name in tensors)
        (folder / part / "diffusion_pytorch_model.safetensors").unlink()
        torch.save(tensors, folder / part / "diffusion_pytorch_model.bin")
    model = open_kind("ldm", folder)
    codes = model.latents([0, 1], "z_0")
    assert torch.equal(codes, models["ldm"].latents([0, 1], "z_0"))
    assert torch.equal(model.decode(codes), models["ldm"].decode(codes))


def test_learned_variance_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(0)
    UNet2DModel(**UNET | {"out_channels": 6}).save_pretrained(tmp_path / "unet")
    DDPMScheduler(variance_type="learned").save_pretrained(tmp_path / "scheduler")
    model = open_kind("ddpm", write_index(tmp_path, "DDPMPipeline"))
    unet = UNet2DModel.from_pretrained(tmp_path / "unet", low_cpu_mem_usage=False).requires_grad_(False)
    x = model.latents([0])
    assert torch.equal(model.network(x, torch.tensor(5)), unet(x, 5).sample[:, :3])
    assert model.decode(x).shape == (1, 3, 8, 8)


# --- folders that do not fit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [stable_diffusion, autoencoder, ddpm])
def test_a_missing_folder_names_the_option(family: Callable[..., Generator], tmp_path: Path) -> None:
    name = family.__name__
    with pytest.raises(ValueError, match=rf"give generator.{name}.path=FOLDER"):
        family("any")
    with pytest.raises(FileNotFoundError, match=rf"is not a folder; give generator.{name}.path=FOLDER"):
        family("any", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match=r"json does not exist; give a complete diffusers folder"):
        family("any", str(tmp_path))


def test_another_pipeline_is_named(folders: dict[str, Path], copied: Writer) -> None:
    with pytest.raises(ValueError, match="holds a LDMPipeline, not a StableDiffusionPipeline"):
        stable_diffusion("any", str(folders["ldm"]))
    with pytest.raises(ValueError, match="holds a StableDiffusionPipeline, not a DDPMPipeline or DDIMPipeline"):
        ddpm("any", str(folders["sd"]))
    with pytest.raises(ValueError, match="holds a DDPMPipeline, not a LDMPipeline or LatentDiffusionUncondPipeline"):
        unconditional(folders["ddpm"], STEPS, None)
    with pytest.raises(ValueError, match="holds a UNet2DModel, not an autoencoder of images"):
        autoencoder("any", str(folders["ldm"] / "unet"))
    folder = copied("ddpm")
    edit(folder / "unet" / "config.json", sample_size=None)
    with pytest.raises(ValueError, match="no sample_size"):
        ddpm("any", str(folder))
    UNet2DModel(**UNET, num_class_embeds=4).save_pretrained(folder / "unet")
    with pytest.raises(ValueError, match="unet is a network of several classes"):
        ddpm("any", str(folder))


def damage_weights(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def leave_weights_out(file: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(file)
    del tensors[next(name for name in tensors if "conv_in.weight" in name or "token_embedding.weight" in name)]
    save_file(tensors, file)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(copied: Writer, part: str) -> None:
    folder = copied("sd")
    shutil.rmtree(folder / part)
    with pytest.raises(ValueError, match=rf"{part}.* does not exist"):
        open_kind("sd", folder)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_damaged_weights_and_missing_ones_are_one_line(copied: Writer, part: str) -> None:
    for harm in (damage_weights, leave_weights_out, Path.unlink):
        folder = copied("sd")
        harm(next((folder / part).glob("*.safetensors")))
        with pytest.raises(ValueError, match=rf"{part} cannot be opened as \w+ \(.*is the folder complete") as error:
            open_kind("sd", folder)
        assert "\n" not in str(error.value)


def test_a_file_that_wants_to_run_something_is_refused(copied: Writer, tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "executed"),)

    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")):
        folder = copied("sd")
        next((folder / part).glob("*.safetensors")).unlink()
        for write_file in (torch.save, lambda payload, file: file.write_bytes(pickle.dumps(payload))):
            write_file({"conv_in.weight": Attack()}, folder / part / f"{name}.bin")
            with pytest.raises(ValueError, match=f"{part} cannot be opened"):
                open_kind("sd", folder)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("steps", "changes", "message"),
    [
        (0, {}, "steps=0 must be from 1 to 1000"),
        (1001, {}, "steps=1001 must be from 1 to 1000"),
        (1000, {}, "steps=1000 begins at timestep 1000 of 1000; give fewer steps"),
        (
            5,
            {"num_train_timesteps": int(1.5e9)},
            "num_train_timesteps=1500000000 must be a whole number from",
        ),
        (5, {"beta_end": float("nan")}, "beta_end=nan; give a finite number"),
        (5, {"beta_start": None, "_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatch.* has no beta_start"),
    ],
)
def test_schedules_that_do_not_fit_are_refused(
    copied: Writer, steps: int, changes: dict[str, Any], message: str
) -> None:
    folder = copied("sd")
    edit(folder / "scheduler" / "scheduler_config.json", **changes)
    with pytest.raises(ValueError, match=message):
        open_kind("sd", folder, steps)


def test_guidance_is_the_formula() -> None:
    """ε(x, negative) + w (ε(x, prompt) - ε(x, negative)), with a network that multiplies by the mean of its context."""

    class Echo(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Any:
            return type("Output", (), {"sample": x * context.mean((1, 2))[:, None, None, None] + t})

    x, t = torch.rand(3, 1, 2, 2), torch.tensor(2.0)
    context = torch.stack([torch.full((4, 5), 2.0), torch.full((4, 5), 3.0)])
    torch.testing.assert_close(Guided(Echo(), context, 7.5)(x, t), 2 * x + 2 + 7.5 * x)
    torch.testing.assert_close(Guided(Echo(), context[1:], 7.5)(x, t), 3 * x + 2)


@pytest.mark.parametrize(
    ("kind", "file", "changes", "match"),
    [
        ("ddpm", "scheduler/scheduler_config.json", {"num_train_timesteps": 1_500_000_000}, "num_train_timesteps=1500"),
        ("ddpm", "scheduler/scheduler_config.json", {"num_train_timesteps": -1}, "num_train_timesteps=-1 must be"),
        ("ddpm", "scheduler/scheduler_config.json", {"beta_start": float("nan")}, "has beta_start=nan"),
        ("ddpm", "scheduler/scheduler_config.json", {"beta_start": "small"}, "configuration cannot be used"),
        ("ddpm", "unet/config.json", {"layers_per_block": 10_000_000}, "far more (tensors|modules) than files"),
        ("ddpm", "unet/config.json", {"block_out_channels": [1 << 14, 1 << 16]}, "but its files have"),
        ("ddpm", "unet/config.json", {"sample_size": 1 << 20}, "sample_size=1048576 must be"),
        ("ddpm", "unet/config.json", {"norm_eps": float("inf")}, "has norm_eps=inf"),
        ("ddpm", "unet/config.json", {"quantization_config": {"quant_method": "x"}}, "has quantization_config"),
        ("ldm_kl", "vae/config.json", {"scaling_factor": float("nan")}, "has scaling_factor=nan"),
        ("sd", "text_encoder/config.json", {"hidden_size": 1 << 20}, "but its files have"),
        ("sd", "text_encoder/config.json", {"num_hidden_layers": 10_000_000}, "far more (tensors|modules)"),
    ],
)  # fmt: skip
def test_sizes_and_numbers_of_a_configuration_are_not_believed(
    copied: Writer, kind: str, file: str, changes: dict[str, Any], match: str
) -> None:
    folder = copied(kind)
    edit(folder / file, **changes)
    with pytest.raises(ValueError, match=match) as error:
        assay.load(folder)
    assert "\n" not in str(error.value)


def test_attention_is_computed_by_the_library_itself(copied: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration may name a repository of kernels, whose code would be downloaded and run."""
    import transformers.integrations.hub_kernels as hub
    import transformers.modeling_utils as modeling

    def ask(*arguments: Any, **options: Any) -> None:
        raise AssertionError(f"asked for {arguments}")

    for module in (hub, modeling):
        for name in ("load_and_register_attn_kernel", "lazy_import_flash_attention", "get_kernel"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, ask)
    folder = copied("sd")
    expected = sd_module.embeddings(folder, ["cat"])
    for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        edit(folder / "text_encoder" / "config.json", **{key: "org/repo"})
        assert torch.equal(sd_module.embeddings(folder, ["cat"]), expected)


def test_a_folder_that_no_family_opens_names_its_pipeline(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be opened as AudioLDMPipeline"):
        assay.load(write_index(tmp_path, "AudioLDMPipeline"))
