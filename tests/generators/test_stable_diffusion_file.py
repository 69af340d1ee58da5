"""Stable Diffusion 1 in one file: a small random one against diffusers, which converts the same file itself."""

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from assay.generators import first_stage, ldm
from assay.generators.networks.compvis import LDM
from assay.generators.stable_diffusion import recognise, stable_diffusion
from assay.harness.formats.checkpoint import read_checkpoint

from ..compvis import case, drawn

pytestmark = pytest.mark.usefixtures("no_network")

with warnings.catch_warnings(action="ignore"):
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        PNDMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from diffusers.loaders.single_file_utils import (
        create_unet_diffusers_config_from_ldm,
        create_vae_diffusers_config_from_ldm,
    )
    from transformers import CLIPTextConfig, CLIPTextModel

FLAGS = {"image_size": 4}
"""Codes of 4 × 4, not 64 × 64; all else is what files of version 1 share."""
TEXT, UNET = "cond_stage_model.transformer.text_model.", "model.diffusion_model."
SCHEDULE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1}
BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
Write = Callable[..., str]


def write_tokenizer(folder: Path) -> None:
    """The two files that any tokenizer of CLIP has: letters, and one word; 56 tokens."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")


def text_config() -> Any:
    ids = {"bos_token_id": 54, "eos_token_id": 55, "pad_token_id": 55}
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 1}
    return CLIPTextConfig(vocab_size=56, max_position_embeddings=16, hidden_act="quick_gelu", **shape, **ids)


def text_tensors() -> dict[str, Tensor]:
    names = {name.removeprefix("text_model."): x.shape for name, x in CLIPTextModel(text_config()).state_dict().items()}
    return drawn({name: shape for name, shape in names.items() if "position_ids" not in name}, seed=4)


def state() -> dict[str, Tensor]:
    """The UNet and first stage of the official text-conditional model, which Stable Diffusion has too, with CLIP."""
    tensors = {name: x for name, x in case("text").tensors.items() if not name.startswith("cond_stage_model.")}
    tensors |= {"betas": BETAS.float(), "alphas_cumprod": (1 - BETAS).cumprod(0).float()}
    tensors |= {f"{TEXT}{name}": x for name, x in text_tensors().items()}
    return {**tensors, f"{TEXT}embeddings.position_ids": torch.arange(16)[None]}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return state()


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("words") / "tokenizer"
    write_tokenizer(folder)
    return str(folder)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(tensors, name, flags) saves a file, with the flags beside it."""

    def save(tensors: dict[str, Any], name: str = "model.safetensors", flags: Any = FLAGS) -> str:
        if name.endswith(".safetensors"):
            save_file({key: x.contiguous() for key, x in tensors.items()}, tmp_path / name)
        else:
            torch.save({"state_dict": tensors, "global_step": 3}, tmp_path / name)
        (tmp_path / "model.args.json").unlink(missing_ok=True)
        if flags:
            (tmp_path / "model.args.json").write_text(json.dumps(flags))
        return str(tmp_path / name)

    return save


def opened(path: str, tokenizer: str = "", **options: Any) -> LDM:
    made = stable_diffusion("any", path, tokenizer=tokenizer, **options)
    assert isinstance(made, LDM)
    return made


@pytest.fixture(scope="module")
def pipeline(tensors: dict[str, Tensor], words: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return from_single_file(tensors, words, tmp_path_factory.mktemp("configs"))


def from_single_file(tensors: dict[str, Tensor], words: str, folder: Path) -> Any:
    """What `StableDiffusionPipeline.from_single_file` makes of the file; its configs are in a folder, not on a hub."""
    original = case("text").config
    index = {
        "_class_name": "StableDiffusionPipeline",
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index |= {"scheduler": ["diffusers", "PNDMScheduler"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    shutil.copytree(words, folder / "tokenizer")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 16, "unk_token": "<|endoftext|>", **special}
    (folder / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(settings))
    with warnings.catch_warnings(action="ignore"):
        unet = create_unet_diffusers_config_from_ldm(original, tensors, image_size=8)
        UNet2DConditionModel.from_config(unet).save_config(folder / "unet")
        vae = create_vae_diffusers_config_from_ldm(original, tensors, image_size=8)
        AutoencoderKL.from_config(vae).save_config(folder / "vae")
        text_config().save_pretrained(folder / "text_encoder")
        PNDMScheduler(**SCHEDULE, skip_prk_steps=True).save_config(folder / "scheduler")
        file = folder / "model.safetensors"
        save_file({key: x.contiguous() for key, x in tensors.items()}, file)
        made = StableDiffusionPipeline.from_single_file(str(file), config=str(folder), local_files_only=True)
        made.scheduler = DDIMScheduler(**SCHEDULE, clip_sample=False, set_alpha_to_one=False)
    made.set_progress_bar_config(disable=True)
    return made


@pytest.mark.parametrize(
    ("prompt", "negative", "guidance", "steps"),
    [("a cat", "dog", 5.0, 4), ("a cat", "", 7.5, 3), ("cat", "dog", 1.0, 4), ("", "", 7.5, 4)],
    ids=["two prompts", "one prompt, 3 steps", "no guidance", "no prompt"],
)
@pytest.mark.parametrize("name", ["model.safetensors", "model.ckpt"])
def test_it_is_what_diffusers_makes_of_the_same_file(
    write: Write,
    tensors: dict[str, Tensor],
    words: str,
    pipeline: Any,
    name: str,
    prompt: str,
    negative: str,
    guidance: float,
    steps: int,
) -> None:
    options = {"prompt": prompt, "negative_prompt": negative, "guidance": guidance, "steps": steps}
    model = opened(write(tensors, name), words, **options)
    noise = model.latents(range(4), "x_T")
    given = {"prompt": [prompt] * 4, "negative_prompt": [negative] * 4, "guidance_scale": guidance}
    with warnings.catch_warnings(action="ignore"):
        z, images = (
            pipeline(**given, num_inference_steps=steps, latents=noise.clone(), output_type=kind).images
            for kind in ("latent", "pt")
        )
    torch.testing.assert_close(model.latents(range(4), "z_0"), z, rtol=0, atol=1e-5 * float(z.abs().max()))
    torch.testing.assert_close(model.decode(noise, "x_T").clamp(0, 1), images, rtol=0, atol=1e-5)


def test_what_all_files_of_version_1_share(write: Write, tensors: dict[str, Tensor], words: str) -> None:
    """Without flags: codes of 64 × 64, 8 heads, a scale of 0.18215, and the schedule where the file has none."""
    told, assumed = (opened(write(tensors, flags=flags), words, steps=2) for flags in (FLAGS, None))
    assert (assumed.shape, assumed.scale) == ((4, 64, 64), 0.18215)
    assert assumed.card["flags_from"] == "assumed: those of version 1"
    assert assumed.card["heads"]["count"] == 8
    bare = {name: x for name, x in tensors.items() if name not in ("betas", "alphas_cumprod")}
    rounded = {name: x.half() for name, x in tensors.items() if name != "x"}
    assert rounded["alphas_cumprod"].dtype == torch.float16
    for each in (bare, rounded):
        levels = opened(write(each), words, steps=2).levels
        torch.testing.assert_close(torch.tensor(levels.signal), torch.tensor(told.levels.signal), rtol=1e-5, atol=0)


def test_a_config_beside_the_file(write: Write, tensors: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    path = write(tensors, flags=None)
    config = case("text").config
    config["model"]["params"]["cond_stage_config"] = {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"}
    config["model"]["params"] |= {"linear_start": 0.00085, "linear_end": 0.0120}
    (tmp_path / "model.yaml").write_text(json.dumps(config))
    model = opened(path, words, steps=2)
    assert model.shape == (4, 4, 4)
    assert model.card["flags_from"] == "config"
    config["model"]["params"]["parameterization"] = "v"
    (tmp_path / "model.yaml").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="parameterization='v' is not supported"):
        opened(path, words)
    config["model"]["params"]["parameterization"] = "eps"
    config["model"]["params"]["cond_stage_config"]["params"] = {"layer": "penultimate"}
    (tmp_path / "model.yaml").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="layer='penultimate' is not supported, only 'last'"):
        opened(path, words)


def test_which_weights_of_the_unet(write: Write, tensors: dict[str, Tensor], words: str) -> None:
    """The weights themselves, as diffusers takes them; with ema=true the moving average."""
    unet = {name: x for name, x in tensors.items() if name.startswith(UNET)}
    average = {name: x + 0.01 for name, x in unet.items()}
    both = tensors | {f"model_ema.{name.removeprefix('model.').replace('.', '')}": x for name, x in average.items()}
    both |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(3)}
    z = {}
    for name, each, ema in (("one", tensors, True), ("trained", both, False), ("average", both, True)):
        model = opened(write(each), words, steps=2, ema=ema)
        z[name] = model.latents([0])
        assert model.card["averaged"] == (name == "average")
    assert torch.equal(z["one"], z["trained"])
    assert (z["average"] - z["one"]).abs().max() > 0.1
    assert torch.equal(z["average"], opened(write(tensors | average), words, steps=2).latents([0]))


def test_codes_of_images(write: Write, tensors: dict[str, Tensor], words: str, pipeline: Any) -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    model = opened(write(tensors), words)
    with torch.no_grad():
        posterior = pipeline.vae.encode(2 * images - 1).latent_dist
    torch.testing.assert_close(model.encode(images), posterior.mode() * 0.18215, rtol=0, atol=1e-5)
    torch.testing.assert_close((model.encode(images, "logvar") / 2).exp(), posterior.std * 0.18215, rtol=1e-4, atol=0)


def test_options_are_part_of_the_fingerprint(write: Write, tensors: dict[str, Tensor], words: str) -> None:
    path = write(tensors)
    options: list[dict[str, Any]] = [{}, {"prompt": "cat"}, {"negative_prompt": "cat"}, {"steps": 4}]
    options += [{"prompt": "cat", "guidance": 2}, {"prompt": "cat", "guidance": 3}]
    made = [opened(path, words, **each) for each in options] + [
        opened(write(tensors, flags=FLAGS | {"num_heads": 4}), words)
    ]
    assert len({model.fingerprint for model in made}) == len(made)


def test_files_are_recognised_by_one_family(write: Write, tensors: dict[str, Tensor]) -> None:
    content = read_checkpoint(write(tensors)).content
    families = (recognise, ldm.recognise, first_stage.recognise)
    assert [family(content) for family in families] == [True, False, False]
    text = {"state_dict": case("text").tensors}
    assert [family(text) for family in families] == [False, True, False]
    alone = {"state_dict": case("kl16").tensors}
    assert [family(alone) for family in families] == [False, False, True]
    assert not any(family({"weight": torch.zeros(3)}) for family in families)


def renamed(tensors: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {name.replace(old, new): x for name, x in tensors.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: {**t, f"{UNET}input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)},
            "an inpainting model: its UNet takes 9",
        ),
        (
            lambda t: {**t, f"{UNET}input_blocks.0.0.weight": torch.zeros(32, 8, 3, 3)},
            "InstructPix2Pix: its UNet takes 8",
        ),
        (lambda t: {**t, f"{UNET}input_blocks.0.0.weight": torch.zeros(32, 5, 3, 3)}, "depth maps: its UNet takes 5"),
        (
            lambda t: renamed(t, TEXT, "cond_stage_model.model."),
            r"this is Stable Diffusion 2 \(text encoder of OpenCLIP\)",
        ),
        (lambda t: renamed(t, "cond_stage_model.", "conditioner.embedders.0."), "this is Stable Diffusion XL"),
        (lambda t: {f"{UNET}joint_blocks.0.x": torch.zeros(1)}, "this is Stable Diffusion 3"),
        (lambda t: {"lora_unet_mid.lora_down.weight": torch.zeros(1)}, "this is LoRA, a change of a model"),
        (lambda t: {"unet.mid.lora_A.weight": torch.zeros(1)}, "this is LoRA, a change of a model"),
        (lambda t: {**t, "control_model.x": torch.zeros(1)}, "this is ControlNet"),
        (lambda t: {**t, "v_pred": torch.zeros(1)}, "v_pred stands for prediction of v"),
        (lambda t: {**t, "ztsnr": torch.zeros(1)}, "ztsnr stands for zero terminal SNR"),
        (lambda t: {k: v[:, :, 0, 0] if "proj_in.w" in k else v for k, v in t.items()}, "use_linear_in_transformer"),
        (lambda t: {k: v for k, v in t.items() if not k.endswith("fc2.bias")}, r"mlp\.fc2\.bias"),
        (lambda t: {**t, "first_stage_model.decoder.more": torch.zeros(1)}, r"the first is decoder\.more"),
        (lambda t: {**t, f"{TEXT}more": torch.zeros(1)}, "the first is more"),
    ],
)
def test_what_is_not_supported_is_named(
    write: Write, tensors: dict[str, Tensor], words: str, change: Callable[..., dict[str, Tensor]], message: str
) -> None:
    path = write(change(tensors))
    assert recognise(read_checkpoint(path).content), "or nobody would say what it is"
    with pytest.raises(ValueError, match=message) as error:
        opened(path, words)
    assert "\n" not in str(error.value)
    assert path in str(error.value)


def test_options_that_do_not_fit(write: Write, tensors: dict[str, Tensor], words: str, tmp_path: Path) -> None:
    path = write(tensors)
    for options, message in (
        (
            {"tokenizer": ""},
            r"needs CLIP's tokenizer.*give generator\.stable_diffusion\.tokenizer=FOLDER with vocab\.json",
        ),
        ({"tokenizer": str(tmp_path / "absent")}, "absent does not exist"),
        ({"guidance": 0.5}, "guidance=0.5 must be at least 1"),
        ({"steps": 1000}, "steps=1000 begins at timestep 1000 of 1000"),
        ({"prompt": " ".join("abcdefghijklmno")}, r"a prompt has 17 tokens, the limit is 16; shorten 'a b c"),
        ({"args": str(tmp_path / "absent.yaml")}, r"absent\.yaml does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            opened(path, **{"tokenizer": words, **options})
    larger = {**tensors, f"{TEXT}embeddings.token_embedding.weight": torch.zeros(57, 64)}
    with pytest.raises(ValueError, match="has 56 tokens, the text encoder 57"):
        opened(write(larger), words)
    for name, value in (("tokenizer", words), ("args", "a.yaml"), ("ema", True)):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
        with pytest.raises(ValueError, match=f"is a folder: generator.stable_diffusion.{name} is for single files"):
            stable_diffusion("any", str(tmp_path / "folder"), **{name: value})
