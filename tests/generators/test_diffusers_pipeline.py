"""Pipelines of diffusers as generators: against the official call, for tiny random ones that diffusers itself makes."""

import copy
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.generators.diffusers_pipeline import OTHERS, from_pipeline, pipeline, recognise
from assay.generators.networks.pipelines import Pipeline
from assay.generators.networks.seeds import torch_generator
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator
from assay.harness.formats.checkpoint import read_checkpoint

from ..tiny_pipelines import BETAS, MAKERS, clip_tokenizer, tiny, unet, vae

pytestmark = pytest.mark.usefixtures("no_network")

with warnings.catch_warnings(action="ignore"):
    import diffusers as d

STEPS = 3
PROMPTS = ["a cat", "dog", "a dog"]
SMALL = {"height": 16, "width": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    "sd": {"prompts": PROMPTS, "negative_prompt": "dog", "guidance": 5.0},
    "sd_ancestral": {"prompts": PROMPTS},
    "sdxl": {"prompts": PROMPTS, "guidance": 4.0},
    "sd3": {"prompts": PROMPTS, **SMALL, "arguments": {"max_sequence_length": 16}},
    "flux": {"prompts": PROMPTS, **SMALL, "arguments": {"max_sequence_length": 16}},
    "pixart": {"prompts": PROMPTS, "arguments": {"use_resolution_binning": False, "max_sequence_length": 16}},
    "lcm": {"prompts": PROMPTS},
    "ldm_text": {"prompts": PROMPTS, **SMALL, "guidance": 3.0},
}
TEXT, CONDITIONAL = tuple(OPTIONS), ("dit", "consistency")
NOISY = ("sd_ancestral", "lcm", "consistency", "ddpm")
"""Samplers that draw fresh noise."""
PIXELS = ("consistency", "ddpm", "ddim")
WITHOUT_LATENTS = ("dit", "ddpm", "ddim", "ldm")


def options(kind: str) -> dict[str, Any]:
    return {"steps": STEPS, "batch": 3, **OPTIONS.get(kind, {})}


def determined(kind: str) -> dict[str, Any]:
    """Options with which x_T alone determines an image."""
    found = options(kind) | ({"label": 2} if kind in CONDITIONAL else {})
    return found | ({"prompts": "", "prompt": "a cat"} if kind in TEXT else {})


@pytest.fixture(scope="module")
def pipes() -> dict[str, Any]:
    return {kind: tiny(kind) for kind in MAKERS}


@pytest.fixture(scope="module")
def models(pipes: dict[str, Any]) -> dict[str, Pipeline]:
    return {kind: from_pipeline(pipe, **options(kind)) for kind, pipe in pipes.items()}


def official(pipe: Any, seeds: list[int], chosen: dict[str, Any], kind: str = "pt", **more: Any) -> Tensor:
    """The official call, as a user of diffusers writes it, with a generator for each seed."""
    name = type(pipe).__name__
    given = dict(chosen.get("arguments", {})) | {"num_inference_steps": chosen["steps"]}
    if prompts := chosen.get("prompts") or [chosen["prompt"]] if "prompt" in chosen or "prompts" in chosen else []:
        given["prompt"] = [prompts[seed % len(prompts)] for seed in seeds]
        if "negative_prompt" in chosen:
            given["negative_prompt"] = [chosen["negative_prompt"]] * len(seeds)
        given |= {side: chosen[side] for side in SMALL if side in chosen}
    elif name == "DiTPipeline":
        given["class_labels"] = [chosen.get("label", seed % 1000) for seed in seeds]
    else:
        given["batch_size"] = len(seeds)
        if name == "ConsistencyModelPipeline":
            given["class_labels"] = [chosen.get("label", seed % 4) for seed in seeds]
    if "guidance" in chosen:
        given["guidance_scale"] = chosen["guidance"]
    pipe = copy.deepcopy(pipe)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    with warnings.catch_warnings(action="ignore"):
        images = pipe(**given, generator=generators, output_type=kind, **more).images
    return images if isinstance(images, Tensor) else torch.from_numpy(images).permute(0, 3, 1, 2)


@pytest.mark.parametrize("kind", MAKERS)
def test_samples_are_those_of_the_official_call(pipes: dict[str, Any], models: dict[str, Pipeline], kind: str) -> None:
    """With the same seeds, prompts and classes, also where the sampler draws fresh noise."""
    model, seeds = models[kind], [0, 1, 5]
    assert isinstance(model, Generator)
    assert isinstance(model, Encoder) == (kind not in PIXELS)
    space = model.spaces[0]
    images = model.decode(model.latents(seeds, space), space)
    expected = official(pipes[kind], seeds, options(kind))
    torch.testing.assert_close(images.clamp(0, 1), expected, rtol=0, atol=1e-6)
    assert images.std(0).mean() > 0.01


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind not in (*NOISY, *WITHOUT_LATENTS)])
def test_noise_and_codes_are_those_of_the_official_call(pipes: dict[str, Any], kind: str) -> None:
    """x_T given as `latents`, which Flux takes packed; z_0 is what output_type="latent" gives."""
    chosen, pipe = determined(kind), pipes[kind]
    model = from_pipeline(pipe, **chosen)
    noise = torch.randn(3, *model.noise.shape, generator=torch.Generator().manual_seed(3))
    packed = noise
    if kind == "flux":
        packed = pipe._pack_latents(noise, 3, *noise.shape[1:])
    codes = official(pipe, [0, 1, 2], chosen, "latent", latents=packed.clone()) if kind != "ldm_text" else None
    images = official(pipe, [0, 1, 2], chosen, latents=packed.clone())
    torch.testing.assert_close(model.decode(noise, "x_T").clamp(0, 1), images, rtol=0, atol=1e-6)
    if codes is not None:
        codes = pipe._unpack_latents(codes, 16, 16, pipe.vae_scale_factor) if kind == "flux" else codes
        torch.testing.assert_close(model._from_noise(noise), codes, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(model.decode(codes, "z_0").clamp(0, 1), images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", MAKERS)
def test_a_sample_depends_on_its_seed_alone(pipes: dict[str, Any], models: dict[str, Pipeline], kind: str) -> None:
    """In batches of 1, 3 and all, to the last bit, fresh noise included; of several made together, to rounding."""
    model, seeds = from_pipeline(pipes[kind], **options(kind) | {"batch": 1}), [4, 0, 7, 2**63 + 1, 9]
    for space in model.spaces:
        together = model.latents(seeds, space)
        for size in (1, 3):
            parts = [seeds[start : start + size] for start in range(0, len(seeds), size)]
            assert torch.equal(torch.cat([model.latents(part, space) for part in parts]), together)
        if space == model.spaces[0]:
            images = model.decode(together, space)
            for size in (1, 3):
                assert torch.equal(torch.cat([model.decode(part, space) for part in together.split(size)]), images)
    assert len({tuple(noise.flatten().tolist()) for noise in together}) == len(seeds)
    at_once, alone = models[kind].latents(seeds, model.spaces[0]), model.latents(seeds, model.spaces[0])
    assert (at_once - alone).abs().max() < 1e-5 * alone.abs().max()


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind not in NOISY])
def test_images_of_noise_are_images_of_its_codes(pipes: dict[str, Any], kind: str) -> None:
    model = from_pipeline(pipes[kind], **determined(kind))
    noise = model.latents([3, 8], "x_T")
    assert noise.shape == (2, *model.noise.shape)
    assert torch.equal(noise[:1], torch.randn(noise[:1].shape, generator=torch.Generator().manual_seed(3)))
    images = model.decode(noise, "x_T")
    if kind in PIXELS:
        assert model.spaces == ("x_T",)
    else:
        assert model.spaces == ("z_0", "x_T")
        assert torch.equal(images, model.decode(model.latents([3, 8], "z_0"), "z_0"))
    assert (images[0] - images[1]).abs().mean() > 1e-3


@pytest.mark.parametrize("kind", NOISY)
def test_noise_alone_is_no_image_of_a_sampler_that_draws_more(pipes: dict[str, Any], kind: str) -> None:
    model = from_pipeline(pipes[kind], **determined(kind))
    assert model.spaces == (("x_0" if kind in PIXELS else "z_0"), "x_T")
    with pytest.raises(ValueError, match=r"draws fresh noise while it samples, .* work in space [xz]_0"):
        model.decode(model.latents([0], "x_T"), "x_T")


def test_a_consistency_model_of_one_step_draws_no_more(pipes: dict[str, Any]) -> None:
    model = from_pipeline(pipes["consistency"], **determined("consistency") | {"steps": 1})
    assert model.spaces == ("x_T",)
    expected = official(pipes["consistency"], [3], determined("consistency") | {"steps": 1})
    torch.testing.assert_close(model.decode(model.latents([3], "x_T"), "x_T").clamp(0, 1), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["sd", "dit", "consistency"])
def test_prompts_and_classes_that_go_by_seed_are_no_part_of_the_noise(models: dict[str, Pipeline], kind: str) -> None:
    with pytest.raises(ValueError, match="prompts or classes go by seed, so x_T alone does not determine an image"):
        models[kind].decode(models[kind].latents([0], "x_T"), "x_T")


def test_prompts_come_from_a_file(pipes: dict[str, Any], models: dict[str, Pipeline], tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a cat\n\n  dog \r\na dog\n")
    model = from_pipeline(pipes["sd"], **options("sd") | {"prompts": str(file)})
    assert model.fingerprint == models["sd"].fingerprint
    for content, message in (("\n \n", "has no prompts"), (b"\xff\xfe\xfa", "is not UTF-8")):
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(ValueError, match=message):
            from_pipeline(pipes["sd"], prompts=str(file))
    with pytest.raises(FileNotFoundError, match="give a text file with one prompt a line"):
        from_pipeline(pipes["sd"], prompts=str(tmp_path / "absent.txt"))
    with pytest.raises(ValueError, match="not both"):
        from_pipeline(pipes["sd"], prompts=["a"], prompt="b")


@pytest.mark.parametrize(("kind", "space"), [("sd", "x_T"), ("sd", "z_0"), ("flux", "x_T"), ("ddim", "x_T")])
def test_gradient_is_the_finite_difference(pipes: dict[str, Any], kind: str, space: str) -> None:
    pipe = copy.copy(pipes[kind])
    if kind == "ddim":
        pipe.scheduler = d.DDIMScheduler(clip_sample=False)
    model = from_pipeline(pipe, **determined(kind))
    codes = model.latents([3], space).requires_grad_()
    weights = torch.randn(model.decode(codes.detach(), space).shape, generator=torch.Generator().manual_seed(1))
    direction = torch.randn(codes.shape, generator=torch.Generator().manual_seed(0))
    (gradient,) = torch.autograd.grad((model.decode(codes, space) * weights).sum(), codes)
    with torch.no_grad():
        up, down = ((model.decode(codes + h * direction, space) * weights).double().sum() for h in (1e-2, -1e-2))
    assert float((gradient * direction).sum()) == pytest.approx(float(up - down) / 2e-2, rel=3e-2)


@pytest.mark.parametrize("kind", ["sd", "ddpm"])
def test_a_pipeline_in_memory_is_left_as_it_was(pipes: dict[str, Any], kind: str) -> None:
    pipe = pipes[kind]
    pipe.unet.train()
    before = {name: x.clone() for name, x in pipe.unet.state_dict().items()}
    settings, scheduler, random = str(pipe.config), str(vars(pipe.scheduler)), torch.get_rng_state()
    model = from_pipeline(pipe, **options(kind))
    model.decode(model.latents([0], model.spaces[0]), model.spaces[0])
    assert pipe.unet.training
    pipe.unet.eval()
    assert (str(pipe.config), str(vars(pipe.scheduler))) == (settings, scheduler)
    assert all(torch.equal(x, before[name]) for name, x in pipe.unet.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())
    assert "decode" not in vars(getattr(pipe, "vae", pipe))


def test_images_are_not_clamped(models: dict[str, Pipeline]) -> None:
    images = models["sd3"].decode(3 * models["sd3"].latents(range(3), "z_0"), "z_0")
    assert images.min() < -0.01 or images.max() > 1.01


def test_encoding_is_the_encoder_in_scaled_codes(pipes: dict[str, Any], models: dict[str, Pipeline]) -> None:
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    model: Any = models["sd3"]
    posterior = pipes["sd3"].vae.encode(2 * images - 1).latent_dist
    torch.testing.assert_close(model.encode(images), (posterior.mean - 0.06) * 1.5)
    torch.testing.assert_close(model.encode(images, "logvar").exp(), posterior.var * 1.5**2)
    assert model.encode(images, "sample", [0, 1]).shape == (2, 4, 8, 8)


def test_the_fingerprint_is_that_of_weights_and_options(pipes: dict[str, Any]) -> None:
    chosen = [{}, {"prompt": "cat"}, {"negative_prompt": "cat"}, {"guidance": 2}, {"steps": 4}, SMALL]
    chosen += [{"prompts": ["a", "b"]}, {"prompts": ["b", "a"]}, {"arguments": {"eta": 0.5}}, {"batch": 2}]
    made = [from_pipeline(pipes["sd"], **given).fingerprint for given in chosen]
    assert made[0] == from_pipeline(tiny("sd")).fingerprint
    other = tiny("sd")
    with torch.no_grad():
        next(other.text_encoder.parameters()).view(-1)[0] += 1
    made.append(from_pipeline(other).fingerprint)
    other = tiny("sd")
    other.scheduler = d.DDIMScheduler(**BETAS | {"beta_end": 0.013})
    made.append(from_pipeline(other).fingerprint)
    assert len(set(made)) == len(made)


def test_half_precision_is_the_official_one(pipes: dict[str, Any]) -> None:
    """In bfloat16 the public pipeline draws its noise in bfloat16; the decoder computes in it too."""
    pipe = copy.deepcopy(pipes["sd"]).to(dtype=torch.bfloat16)
    chosen = options("sd") | {"prompts": PROMPTS}
    model = from_pipeline(pipe, **chosen)
    images = model.decode(model.latents([0, 1, 2], "z_0"), "z_0")
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.clamp(0, 1), official(pipe, [0, 1, 2], chosen).float(), rtol=0, atol=1 / 64)


# --- refused, in one line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("ddpm", {"prompt": "cat"}, "DDPMPipeline takes no prompt=: leave the option prompt out"),
        ("ddpm", {"guidance": 2.0}, "DDPMPipeline takes no guidance_scale=: leave the option guidance out"),
        ("dit", {"height": 8, "width": 8}, "DiTPipeline takes no height="),
        ("dit", {"label": 1000}, "DiTPipeline: label=1000 must be a class 0..999"),
        ("ddpm", {"label": 0}, "DDPMPipeline: label=0 must be null: it has no classes"),
        ("sd", {"arguments": {"latents": 3}}, "latents is set by the options of this generator"),
        ("sd", {"arguments": {"etta": 3}}, "StableDiffusionPipeline takes no etta="),
        ("sd", {"height": 16}, "give both height= and width=, or neither"),
        (
            "sd",
            {"height": 17, "width": 17},
            "cannot be called with text, classes and noise alone: .*divisible by 8 but are 17",
        ),
        ("sd", {"height": 2**20, "width": 2**20}, "starts from noise of shape .*; it is too large"),
        ("pixart", {}, "PixArtAlphaPipeline cannot be called with text, classes and noise alone: Invalid sample size"),
    ],
)
def test_what_a_pipeline_does_not_take_is_named(
    pipes: dict[str, Any], kind: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        from_pipeline(pipes[kind], **given)
    assert "\n" not in str(error.value)


def test_pipelines_that_need_more_than_noise_are_named(pipes: dict[str, Any]) -> None:
    parts = pipes["sd"].components
    with warnings.catch_warnings(action="ignore"):
        variation = d.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
        upscaler = d.LDMSuperResolutionPipeline(tiny("ldm").vqvae, pipes["ldm"].unet, pipes["ldm"].scheduler)
    with pytest.raises(ValueError, match="StableDiffusionImg2ImgPipeline takes no latents=; pipelines without it"):
        from_pipeline(variation)
    with pytest.raises(ValueError, match="LDMSuperResolutionPipeline takes no latents="):
        from_pipeline(upscaler)
    with pytest.raises(ValueError, match="a UNet2DModel is no pipeline of diffusers"):
        from_pipeline(pipes["ddpm"].unet)
    with pytest.raises(TypeError, match="from_pipeline takes no dtype="):
        from_pipeline(pipes["sd"], dtype="float16")
    with pytest.raises(ValueError, match="steps=0 must be a whole number, at least 1"):
        from_pipeline(pipes["sd"], steps=0)


def test_a_scheduler_whose_noise_has_no_seed_is_refused(pipes: dict[str, Any]) -> None:
    """DiTPipeline calls its scheduler without a generator."""
    pipe = tiny("dit")
    pipe.scheduler = d.DDPMScheduler(**BETAS)
    model = from_pipeline(pipe, steps=STEPS)
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="DiTPipeline with DDPMScheduler draws noise from no generator of its own"):
        model.latents([0], "z_0")
    assert torch.equal(before, torch.get_rng_state())


def test_images_that_are_not_those_of_the_decoder_are_refused(pipes: dict[str, Any]) -> None:
    class Inverting(d.DDIMPipeline):  # type: ignore[misc]
        def __call__(self, batch_size: int = 1, generator: Any = None, latents: Any = None) -> Any:
            found = super().__call__(batch_size, generator, num_inference_steps=STEPS, output_type="pt")
            found.images = 1 - found.images
            return found

    model = from_pipeline(Inverting(pipes["ddim"].unet, pipes["ddim"].scheduler))
    with pytest.raises(ValueError, match="Inverting makes other images of its last codes than its decoder"):
        model.latents([0], "x_0")


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(pipes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {kind: tmp_path_factory.mktemp(kind) for kind in MAKERS}
    for kind, folder in made.items():
        pipes[kind].save_pretrained(folder)
    return made


@pytest.mark.parametrize("kind", MAKERS)
def test_a_folder_is_the_pipeline_that_was_saved(
    folders: dict[str, Path], models: dict[str, Pipeline], kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model: Any = pipeline("any", str(folders[kind]), **options(kind))
    space = model.spaces[0]
    codes = models[kind].latents([1, 2], space)
    # Weights lie elsewhere in memory, which changes the last bits of products.
    torch.testing.assert_close(model.latents([1, 2], space), codes, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model.decode(codes, space), models[kind].decode(codes, space), rtol=0, atol=1e-5)
    content = read_checkpoint(folders[kind]).content
    assert recognise(content) == (content["model_index.json"]["_class_name"] not in OTHERS)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def copied(folders: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda kind: Path(shutil.copytree(folders[kind], tmp_path / kind))


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model_index.json", {"_class_name": "Absent"}, "Absent is no pipeline of the diffusers that is installed"),
        ("model_index.json", {"_class_name": ["mine", "Own"]}, "is no pipeline of the diffusers"),
        ("model_index.json", {"_class_name": "UNet2DModel"}, "UNet2DModel is no pipeline"),
        ("model_index.json", {"unet": ["mine", "Own"]}, "part unet is a mine.Own; only classes of diffusers and"),
        ("model_index.json", {"unet": ["os", "system"]}, "part unet is a os.system; only classes"),
        ("model_index.json", {"unet": ["diffusers", "utils"]}, "part unet is a diffusers.utils; only classes"),
        ("text_encoder/config.json", {"num_hidden_layers": 10**8}, "far more (tensors|modules) than"),
        ("text_encoder/config.json", {"vocab_size": 10**10}, "numbers, but its files have"),
        ("unet/config.json", {"layers_per_block": 10**7}, "far more (tensors|modules) than"),
        ("unet/config.json", {"cross_attention_dim": 10**10}, "numbers, but its files have"),
        ("unet/config.json", {"sample_size": 10**9}, "starts from noise of shape .*; it is too large"),
        (
            "unet/config.json",
            {"quantization_config": {}},
            "quantization_config, which is not supported",
        ),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": int(1.5e9)}, "num_train_timesteps=1.5e"),
        ("scheduler/scheduler_config.json", {"beta_end": float("nan")}, "beta_end=nan; give a finite number"),
        ("scheduler/scheduler_config.json", {"beta_end": float("inf")}, "beta_end=inf; give a finite number"),
    ],
)
def test_hostile_folders_are_refused_in_one_line(
    copied: Callable[[str], Path], file: str, changes: dict[str, Any], message: str
) -> None:
    folder = copied("sd")
    edit(folder / file, **changes)
    with pytest.raises(ValueError, match=message) as error:
        pipeline("any", str(folder))
    assert "\n" not in str(error.value)


def test_pickles_are_not_read(copied: Callable[[str], Path]) -> None:
    folder = copied("ddpm")
    weights = next((folder / "unet").glob("*.safetensors"))
    torch.save(tiny("ddpm").unet.state_dict(), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ValueError, match="unet cannot be opened as UNet2DModel"):
        pipeline("any", str(folder))


def test_the_safety_checker_is_off_and_this_is_said(
    copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not even opened: there is no such part in the folder."""
    folder = copied("lcm")
    edit(folder / "model_index.json", safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"])
    model: Any = pipeline("any", str(folder), steps=1)
    assert model.card["safety_checker"] == "off"
    assert "the safety checker is off" in capsys.readouterr().err


def test_large_seeds_have_noise_of_their_own() -> None:
    """torch.Generator drops all but 32 bits of a seed: the prior's seed 2^63 would be seed 0 again."""
    assert torch.equal(*(torch.randn(9, generator=torch.Generator().manual_seed(seed)) for seed in (0, 2**63)))
    seeds = [0, 1, 2**32 - 1, 2**32, 2**63, 2**63 + 1, 2**80]
    draws = [torch.randn(1000, generator=torch_generator(seed)) for seed in seeds]
    assert torch.equal(draws[1], torch.randn(1000, generator=torch.Generator().manual_seed(1)))
    # Standard errors are 0.032: a bound of 5 of them is passed by chance in less than one of 10^5 cases.
    assert (torch.corrcoef(torch.stack(draws)) - torch.eye(len(seeds))).abs().max() < 0.16
    assert all(abs(x.mean()) < 0.16 and abs(x.std() - 1) < 0.16 for x in draws)


def test_the_state_of_a_generator_is_that_of_the_twister() -> None:
    import numpy as np

    from assay.generators.networks.seeds import mersenne_twister

    for seed in (0, 7, 2**32 - 1):
        key = np.random.RandomState(seed).get_state(legacy=False)["state"]["key"]
        expected = torch.randn(2000, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(torch.randn(2000, generator=mersenne_twister(key)), expected)


def test_parts_of_tiny_pipelines_are_tiny() -> None:
    assert sum(x.numel() for part in (vae(), unet()) for x in part.parameters()) < 200_000
    assert len(clip_tokenizer()("a cat")["input_ids"]) == 4
