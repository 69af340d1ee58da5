"""Class- and text-conditional CompVis files: small random ones against what the official code computed from them."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import assay
from assay.generators.ldm import ldm, recognise
from assay.generators.networks.compvis import LDM, Guided
from assay.generators.networks.seeds import normal

from ..compvis import BETAS, Case, case, write

NAMES = ("cin", "cin_width", "cin_kl", "text")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"]
"""30 words, so that "[CLS] a b [SEP]" is 2 5 6 3, the tokens of the official outputs."""


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {name: case(name) for name in NAMES}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join([word.lower() if len(word) == 1 else word for word in WORDS]) + "\n")
    return str(folder)


def opened(path: str, **options: Any) -> LDM:
    made = ldm("", path, **options)
    assert isinstance(made, LDM)
    return made


def changed(config: dict[str, Any], part: str | None = None, **options: Any) -> dict[str, Any]:
    """A config with other options of the model, or of one of its parts; "target" is the name of the class."""
    new = copy.deepcopy(config)
    where = new["model"] if part is None else new["model"]["params"][part]
    for name, value in options.items():
        (where if name == "target" else where.setdefault("params", {}))[name] = value
    return new


@pytest.mark.parametrize(
    ("name", "guidance", "steps"), [("cin", 1, 4), ("cin", 3, 6), ("cin_width", 3, 4), ("cin_kl", 3, 4)]
)
def test_classes_are_those_of_the_official_code(
    cases: dict[str, Case], tmp_path: Path, name: str, guidance: float, steps: int
) -> None:
    """With heads by number and by width, VQ and KL, with a moving average, guided or not; z is up to 300."""
    tensors, config, found = cases[name]
    path = write(tmp_path, tensors, config)
    for i, label in enumerate(found["labels"].tolist()):
        null = None if name == "cin" else 4
        g = opened(path, steps=steps, label=label, null_label=null, guidance=guidance)
        x, z = found["x"][i : i + 1], found[f"z_{guidance}_{steps}"][i : i + 1]
        torch.testing.assert_close(g._sample(x, g._labels(x)), z, rtol=0, atol=1e-5 * float(z.abs().max()))
        torch.testing.assert_close(
            g.decode(x, "x_T"), found[f"images_{guidance}_{steps}"][i : i + 1], rtol=0, atol=2e-5
        )
        assert g.card["averaged"] == (name == "cin_width")


def test_texts_are_those_of_the_official_code(cases: dict[str, Case], tmp_path: Path, words: str) -> None:
    tensors, config, found = cases["text"]
    g = opened(write(tmp_path, tensors, config), steps=4, guidance=5, prompt="A b", tokenizer=words)
    assert isinstance(g.network, Guided)
    assert g.network.null is not None
    embedded = torch.stack([g.network.contexts[0], g.network.null])
    torch.testing.assert_close(embedded, found["embedded"], rtol=0, atol=1e-5)
    torch.testing.assert_close(g.decode(found["x"], "x_T"), found["images_5_4"], rtol=0, atol=2e-5)
    assert g.scale == 0.18215
    assert torch.equal(g.decode(g.latents([3, 4]), "z_0"), g.decode(normal([3, 4], 4, 4, 4), "x_T"))


def test_seeds_draw_classes(cases: dict[str, Case], tmp_path: Path) -> None:
    path = write(tmp_path, cases["cin_width"].tensors, cases["cin_width"].config)
    drawn = opened(path, steps=2)
    z = drawn.latents([3, 4, 5, 9])
    for i, (seed, label) in enumerate(((3, 3), (4, 4), (5, 0), (9, 4))):
        of_class = opened(path, steps=2, label=label).latents([seed])
        torch.testing.assert_close(z[i : i + 1], of_class, rtol=1e-5, atol=1e-4)
    assert torch.equal(drawn.latents([9]), drawn.latents([9]))
    without = opened(path, steps=2, null_label=0)
    assert without.classes == [1, 2, 3, 4]
    torch.testing.assert_close(without.latents([4]), opened(path, steps=2, label=1).latents([4]), rtol=1e-5, atol=1e-4)
    for call in (lambda: drawn.decode(z, "x_T"), lambda: drawn.invert(z)):
        with pytest.raises(ValueError, match=r"conditional: choose generator\.ldm\.label=CLASS"):
            call()
    assert drawn.decode(z, "z_0").shape == (4, 3, 8, 8)
    made = [opened(path, steps=2, **o) for o in ({}, {"label": 1}, {"null_label": 1}, {"null_label": 1, "guidance": 2})]
    assert len({g.fingerprint for g in made}) == 4


def test_the_published_number_of_classes_has_one_that_stands_for_none(cases: dict[str, Case], tmp_path: Path) -> None:
    path = write(tmp_path, cases["cin"].tensors, cases["cin"].config)
    g = opened(path, guidance=2)
    assert (list(g.classes), g.card["classes"]) == (list(range(1000)), 1000)
    assert isinstance(g.network, Guided)
    assert g.network.null is not None
    assert torch.equal(g.network.null, cases["cin"].tensors["cond_stage_model.embedding.weight"][1000:])
    with pytest.raises(ValueError, match=r"guidance=2 needs generator\.ldm\.null_label=CLASS"):
        opened(write(tmp_path, cases["cin_kl"].tensors, cases["cin_kl"].config), guidance=2)


def test_guidance_is_the_formula() -> None:
    class Echo(torch.nn.Module):
        context = 5

        def forward(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
            return x * context.mean((1, 2))[:, None, None, None] + t[:, None, None, None]

    x, t = torch.rand(3, 1, 2, 2), torch.full((3,), 2.0)
    contexts = torch.arange(1.0, 5).view(4, 1, 1).expand(4, 2, 5)
    guided = Guided(Echo(), contexts, torch.full((2, 5), 0.5), 7.0)  # type: ignore[arg-type]
    choice = torch.tensor([2, 0, 3])
    weight = (0.5 + 7 * (torch.tensor([3.0, 1, 4]) - 0.5)).view(3, 1, 1, 1)
    torch.testing.assert_close(guided(x, t, choice), weight * x + 2)
    torch.testing.assert_close(guided(x, t), (0.5 + 7 * 0.5) * x + 2)
    torch.testing.assert_close(
        Guided(Echo(), contexts)(x, t, choice), torch.tensor([3.0, 1, 4]).view(3, 1, 1, 1) * x + 2
    )  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="conditions have 4 channels, cross-attention takes 5"):
        Guided(Echo(), contexts[..., :4])  # type: ignore[arg-type]


def test_the_moving_average_is_used_unless_the_config_says_no(cases: dict[str, Case], tmp_path: Path) -> None:
    tensors, config, _ = cases["cin_width"]
    plain = {name: x for name, x in tensors.items() if not name.startswith("model_ema.")}
    z = [
        opened(write(tmp_path, each, config_), steps=2, label=0).latents([0])
        for each, config_ in ((tensors, config), (tensors, changed(config, use_ema=False)), (plain, config))
    ]
    assert torch.equal(z[1], z[2])
    assert (z[0] - z[1]).abs().max() > 0.1


def test_the_noise_schedule(cases: dict[str, Case], tmp_path: Path) -> None:
    """The config's, if the file agrees up to rounding; the file's where the config tells none, unless it is rounded."""
    tensors, config, _ = cases["cin_kl"]
    names = ("alphas_cumprod", "betas")
    bare = {name: x for name, x in tensors.items() if name not in names}
    rounded = {**bare, **{name: tensors[name].half() for name in names}}
    signal = (1 - BETAS).cumprod(0)[[751, 501, 251, 1, 0]]
    unknown = copy.deepcopy(config)
    del unknown["model"]["params"]["linear_end"]
    again = {name: x.float() for name, x in rounded.items()}
    betas = {**bare, "betas": tensors["betas"].bfloat16()}
    for each, told in ((tensors, config), (tensors, unknown), (again, config), (betas, config), (bare, config)):
        levels = opened(write(tmp_path, each, told), steps=4, label=0).levels
        assert levels.times == [751, 501, 251, 1]
        torch.testing.assert_close(torch.tensor(levels.signal, dtype=torch.float64), signal, rtol=1e-5, atol=0)
    with pytest.raises(ValueError, match="its noise schedule in half precision, so its noise schedule is not known"):
        opened(write(tmp_path, rounded, unknown))
    with pytest.raises(ValueError, match=r"alphas_cumprod must fall from 1 and stay above 0"):
        opened(write(tmp_path, {**tensors, "alphas_cumprod": tensors["alphas_cumprod"] - 0.01}, config))
    for options in ({"linear_end": 0.0155}, {"linear_start": 0.00085}, {"timesteps": 999}):
        with pytest.raises(ValueError, match="is not that of linear_start, linear_end and timesteps"):
            opened(write(tmp_path, tensors, changed(config, **options)))
    assert len(opened(write(tmp_path, tensors, config), steps=30).levels.times) == 31, "as in the public sampler"
    with pytest.raises(ValueError, match=r"steps=501 begins at timestep 1000 of 1000; give fewer steps"):
        opened(write(tmp_path, tensors, config), steps=501)


def test_files_are_recognised(cases: dict[str, Case]) -> None:
    for name in NAMES:
        assert recognise({"state_dict": cases[name].tensors})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cin", {"label": 1001}, r"label=1001 must be a class 0\.\.1000"),
        ("cin", {"null_label": -1}, r"null_label=-1 must be a class 0\.\.1000"),
        ("cin", {"prompt": "a"}, r"prompt=a has no effect on this model; leave generator\.ldm\.prompt out"),
        ("text", {"label": 3}, "label=3 has no effect"),
        ("text", {}, r"give generator\.ldm\.tokenizer=FOLDER with the vocab\.txt of bert-base-uncased"),
        ("text", {"tokenizer": "WORDS", "prompt": "a b c d e f g"}, r"a prompt has 9 tokens, the limit is 8; shorten"),
    ],
)
def test_options_that_do_not_fit(
    cases: dict[str, Case], tmp_path: Path, words: str, name: str, options: dict[str, Any], message: str
) -> None:
    path = write(tmp_path, cases[name].tensors, cases[name].config)
    options = {key: words if value == "WORDS" else value for key, value in options.items()}
    with pytest.raises(ValueError, match=message):
        opened(path, **options)


def test_another_tokenizer_is_refused(cases: dict[str, Case], tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join([*WORDS, "z"]) + "\n")
    path = write(tmp_path, cases["text"].tensors, cases["text"].config)
    with pytest.raises(ValueError, match="has 31 tokens, the text encoder 30; give the folder"):
        opened(path, tokenizer=str(tmp_path))
    with pytest.raises(ValueError, match="absent does not exist"):
        opened(path, tokenizer=str(tmp_path / "absent"))


def test_conditions_that_are_not_supported(cases: dict[str, Case], tmp_path: Path) -> None:
    tensors, config, _ = cases["cin_kl"]
    bare = {name: x for name, x in tensors.items() if not name.startswith("cond_stage_model.")}
    with pytest.raises(ValueError, match="the UNet has cross-attention, but the file has no cond_stage_model"):
        opened(write(tmp_path, bare, config))
    with pytest.raises(ValueError, match=r"cond_stage_model\.channel_mapper\.weight belongs to a condition"):
        opened(write(tmp_path, {**bare, "cond_stage_model.channel_mapper.weight": torch.zeros(3)}, config))
    wide = {**tensors, "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(32, 6, 3, 3)}
    with pytest.raises(ValueError, match=r"takes 6 and gives 3 channels.*conditioning_key=concat"):
        opened(write(tmp_path, wide, config))
    name = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    with pytest.raises(ValueError, match=r"contexts of several widths, \[24, 25\]"):
        opened(write(tmp_path, {**tensors, name: torch.zeros(32, 25)}, config))
    name = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_k.weight"
    with pytest.raises(ValueError, match="disable_self_attentions"):
        opened(write(tmp_path, {**tensors, name: torch.zeros(32, 24)}, config))


@pytest.mark.parametrize(
    ("part", "options", "message"),
    [
        (None, {"target": "ldm.models.diffusion.ddpm.LatentUpscaleDiffusion"}, "model 'LatentUpscaleDiffusion'"),
        (None, {"parameterization": "v"}, "parameterization='v' is not supported, only 'eps'"),
        (None, {"conditioning_key": "hybrid"}, "conditioning_key='hybrid' is not supported"),
        (None, {"beta_schedule": "cosine"}, "beta_schedule='cosine' is not supported"),
        ("unet_config", {"target": "ldm.modules.diffusionmodules.openaimodel.EncoderUNetModel"}, "'EncoderUNetModel'"),
        ("unet_config", {"num_attention_blocks": [1]}, "option num_attention_blocks of unet_config is not known"),
        ("unet_config", {"num_classes": 4}, "num_classes=4 is not supported"),
        ("unet_config", {"model_channels": 64}, "model_channels=64 of the config is 32 in the weights"),
        ("unet_config", {"num_heads": 3}, "cannot be divided into"),
        ("unet_config", {"num_heads": -3}, "num_heads=-3 must be positive"),
        ("unet_config", {"num_heads_upsample": 2}, "num_heads_upsample with legacy=false is not supported"),
        ("unet_config", {"image_size": 5}, "image_size=5 must be divisible by 2"),
        ("unet_config", {"image_size": 10**9}, "image_size=1000000000 must be .* at most 4,096"),
        ("cond_stage_config", {"target": "ldm.modules.encoders.modules.SpatialRescaler"}, "'SpatialRescaler'"),
        ("cond_stage_config", {"mixing": 2}, "option mixing of cond_stage_config is not known"),
        ("first_stage_config", {"target": "ldm.models.autoencoder.IdentityFirstStage"}, "'IdentityFirstStage'"),
    ],
)
def test_configs_that_are_not_understood(
    cases: dict[str, Case], tmp_path: Path, part: str | None, options: dict[str, Any], message: str
) -> None:
    tensors, config, _ = cases["cin_kl"]
    with pytest.raises(ValueError, match=message) as error:
        opened(write(tmp_path, tensors, changed(config, part, **options)))
    assert "\n" not in str(error.value)


def test_layers_that_do_not_fit_each_other(cases: dict[str, Case], tmp_path: Path) -> None:
    """Each fits its tensors; the file is refused before anything is computed."""
    tensors, config, _ = cases["cin_kl"]
    block = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2"
    with pytest.raises(ValueError, match=r"model\.ckpt: the layers of the UNet do not fit each other"):
        opened(write(tmp_path, {**tensors, f"{block}.to_k.weight": torch.zeros(33, 24)}, config))
    wide = {"post_quant_conv.weight": torch.zeros(3, 3, 1, 1), "quant_conv.weight": torch.zeros(8, 6, 1, 1)}
    wide["quant_conv.bias"] = torch.zeros(8)
    with pytest.raises(ValueError, match=r"the layers of the FirstStage do not fit each other"):
        opened(write(tmp_path, {**tensors, **{f"first_stage_model.{name}": x for name, x in wide.items()}}, config))


def test_where_configs_are_found(cases: dict[str, Case], tmp_path: Path) -> None:
    tensors, config, _ = cases["cin_kl"]
    path = write(tmp_path, tensors)
    with pytest.raises(ValueError, match="does not contain the training flags"):
        opened(path)
    (tmp_path / "config.yaml").write_text("defaults: [evaluate]\n")
    with pytest.raises(ValueError, match="does not contain the training flags"):
        opened(path)
    (tmp_path / "model.yaml").write_text(json.dumps(config))
    assert opened(path).shape == (3, 4, 4)
    (tmp_path / "model.args.yaml").write_text(json.dumps(changed(config, "unet_config", image_size=6)))
    with pytest.raises(ValueError, match=r"model\.args\.yaml and model\.yaml .* disagree: image_size is 6 and 4"):
        opened(path)
    assert opened(path, args=str(tmp_path / "model.args.yaml")).shape == (3, 6, 6)
    assert opened(path, args=str(tmp_path / "model.yaml")).shape == (3, 4, 4)


def test_files_open_without_naming_the_family(cases: dict[str, Case], tmp_path: Path) -> None:
    path = write(tmp_path, cases["cin_kl"].tensors, cases["cin_kl"].config)
    assert isinstance(assay.load(path), LDM)


def test_configs_are_bounded(cases: dict[str, Case], tmp_path: Path) -> None:
    path = write(tmp_path, cases["cin_kl"].tensors)
    (tmp_path / "model.yaml").write_text("a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]\n")
    with pytest.raises(ValueError, match=r"model\.yaml holds no settings .*uses the alias \*a"):
        opened(path)
    (tmp_path / "model.yaml").write_text("model: " + "x" * 2**18)
    with pytest.raises(ValueError, match=r"more than 262,144 bytes"):
        opened(path)
    (tmp_path / "model.yaml").write_text("[" * 200_000)
    with pytest.raises(ValueError, match="more than 100 lists and mappings are inside one another"):
        opened(path)
    (tmp_path / "model.yaml").write_text("model: !!python/object/apply:os.system [ls]\n")
    with pytest.raises(ValueError, match=r"model\.yaml holds no settings"):
        opened(path)
