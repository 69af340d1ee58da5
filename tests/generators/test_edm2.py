"""EDM2: files in the published layout against the numbers of the authors' code."""

import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.generators.edm2 import EDM2, edm2, recognise
from assay.generators.networks.edm2_unet import Precond, UNet
from assay.generators.networks.seeds import normal
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator
from assay.harness.core.registry import GENERATORS, discover
from assay.harness.formats.checkpoint import read_checkpoint

from ..nvlabs import dump, persistent, record
from ..official import drawn, names, noise, require_gradient_of_images

with warnings.catch_warnings(action="ignore"):
    from diffusers import AutoencoderKL

SIZE = 8
SMALL = {"model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "channels_per_head": 8}
PLAIN = {"img_resolution": SIZE, "img_channels": 3, "label_dim": 0, "use_fp16": True, **SMALL}
COND = {
    "img_resolution": SIZE, "img_channels": 4, "label_dim": 5, "use_fp16": True, "dropout": 0.1, "sigma_data": 0.6,
    "channel_mult_noise": 2, "channel_mult_emb": 3, "logvar_channels": 16, "label_balance": 0.4, "concat_balance": 0.6,
    "res_balance": 0.35, "attn_balance": 0.25, "resample_filter": [1, 3, 3, 1], **SMALL,
}  # fmt: skip
CASES: Mapping[str, dict[str, Any]] = {"plain": PLAIN, "cond": COND}
OFFICIAL = np.load(Path(__file__).with_name("official_edm2.npz"))


def weights(options: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors that the authors' code was given."""
    sizes = {name: options[name] for name in ("img_resolution", "img_channels", "label_dim")}
    outer = {name: options[name] for name in ("sigma_data", "logvar_channels") if name in options}
    left_out = (*sizes, *outer, "use_fp16", "dropout")
    network = UNet(**sizes, **{name: value for name, value in options.items() if name not in left_out})
    return drawn({name: t.shape for name, t in Precond(**sizes, **outer, network=network).state_dict().items()})


def stage(class_name: str, **options: Any) -> Any:
    return persistent(class_name, {"_init_args": (), "_init_kwargs": options})


def written(path: Path, case: str, encoder: Any = None, tensors: Any = None, **options: Any) -> str:
    """A snapshot as the public training code leaves it; None leaves an option out."""
    kwargs = {name: value for name, value in {**CASES[case], **options}.items() if value is not None}
    if encoder is None and case == "cond":
        encoder = stage("StabilityVAEEncoder", vae_name="stabilityai/sd-vae-ft-mse")
    ema = record("Precond", tensors or weights(kwargs), kwargs, ("freqs", "phases"))
    return str(dump(path / f"{case}.pkl", {"ema": ema, "encoder": encoder, "loss_fn": None, "dataset_kwargs": {}}))


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An AutoencoderKL of 16 pixels and codes [4, 8, 8], with the weights that the authors' code was given."""
    folder = tmp_path_factory.mktemp("vae")
    made: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
        block_out_channels=(4, 4), norm_num_groups=2, latent_channels=4,
    )  # fmt: skip
    made.load_state_dict(drawn({name: t.shape for name, t in made.state_dict().items()}))
    made.save_pretrained(folder)
    return str(folder)


def opened(path: str, **options: Any) -> EDM2:
    made = edm2("", path, **options)
    assert isinstance(made, EDM2)
    return made


def same(found: Tensor, expected: Any) -> None:
    scale = float(np.abs(expected).max())
    torch.testing.assert_close(found / scale, torch.from_numpy(expected) / scale, rtol=0, atol=1e-5)


LABELS = torch.tensor([3, 1])


@pytest.mark.parametrize("case", CASES)
def test_denoising_and_sampling_equal_the_authors_code(tmp_path: Path, vae: str, case: str) -> None:
    """Largest errors measured: 3e-7 of one evaluation, 5e-6 of images up to 5; with guidance 2.4e-5."""
    assert names({name: t.shape for name, t in weights(CASES[case]).items()}) == str(OFFICIAL[f"{case}/names"])
    g = opened(written(tmp_path, case), steps=5, vae=vae if case == "cond" else "")
    hot = torch.nn.functional.one_hot(LABELS, 5).float() if case == "cond" else None
    x = noise(case, 2, g.shape[0], SIZE, SIZE)
    same(torch.stack([g.network(x * s, torch.tensor(s), hot) for s in (0.05, 2.0, 50.0)]), OFFICIAL[f"{case}/D"])
    same(g.sample(x, LABELS if g.classes else None), OFFICIAL[f"{case}/heun"])


@pytest.mark.parametrize(
    ("channels", "millions", "digest"),
    [(128, 124.7, "739af557072bff54"), (192, 280.2, "361ece9fbdee4431"), (448, 1523.2, "9ba7761ef2489c01")],
    ids=["XS", "S", "XXL"],
)
def test_published_networks_have_the_tensors_of_the_authors_code(channels: int, millions: float, digest: str) -> None:
    """The published sizes."""
    with torch.device("meta"):
        network = Precond(64, 4, 1000, network=UNet(64, 4, 1000, channels))
    assert names({name: t.shape for name, t in network.state_dict().items()}).startswith(digest)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_guidance_equals_the_authors_code(tmp_path: Path, vae: str) -> None:
    guide = written(tmp_path, "plain", img_channels=4)
    path = written(tmp_path, "cond")
    g = opened(path, steps=5, vae=vae, guidance=1.4, guide=guide)
    same(g.sample(noise("cond", 2, 4, SIZE, SIZE), LABELS), OFFICIAL["guided/heun"])
    itself = opened(path, steps=5, vae=vae, guidance=1.4, guide=path)
    same(itself.sample(noise("cond", 2, 4, SIZE, SIZE), LABELS), OFFICIAL["cond/heun"])


def test_codes_are_decoded_as_by_the_authors_code(tmp_path: Path, vae: str) -> None:
    """Their images are bytes, rounded down."""
    g = opened(written(tmp_path, "cond"), vae=vae)
    images = g.decode(0.5 * noise("z", 2, 4, SIZE, SIZE), "z_0")
    gaps = images.clamp(0, 1) * 255 - torch.from_numpy(OFFICIAL["vae/pixels"]).float()
    assert gaps.min() > -1e-3
    assert gaps.max() < 1 + 1e-3
    mean, std = [1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 1.5, 2.0]
    stored = stage("StabilityVAEEncoder", raw_mean=mean, raw_std=std, final_mean=0.25, final_std=2, batch_size=4)
    other = opened(written(tmp_path, "cond", stored), vae=vae)
    raw = torch.tensor([5.81, 3.25, 0.12, -2.15])[:, None, None] + torch.tensor([4.17, 4.62, 3.71, 3.28])[
        :, None, None
    ] * noise("z", 2, 4, SIZE, SIZE)
    code = 0.25 + 2 * (raw - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(other.decode(code, "z_0"), images, rtol=0, atol=1e-4)
    assert other.fingerprint != g.fingerprint


def test_weights_count_by_their_direction_alone(tmp_path: Path) -> None:
    """Their scale is divided out, except for gains and the fixed frequencies (eq. 47), up to the ε of 1e-4."""
    images = []
    for scale in (100, 10_000):
        fixed = ("gain", "freqs", "phases")
        scaled = {name: x if name.endswith(fixed) else scale * x for name, x in weights(PLAIN).items()}
        g = opened(written(tmp_path, "plain", tensors=scaled), steps=3)
        images.append(g.sample(noise("plain", 2, 3, SIZE, SIZE), None))
    torch.testing.assert_close(images[0], images[1], rtol=0, atol=1e-3)


def test_half_precision_is_only_how_weights_are_stored(tmp_path: Path) -> None:
    half = {name: x.half() for name, x in weights(PLAIN).items()}
    x = noise("plain", 2, 3, SIZE, SIZE)
    short = opened(written(tmp_path, "plain", tensors=half), steps=3).sample(x, None)
    whole = opened(written(tmp_path, "plain", tensors={n: x.float() for n, x in half.items()}), steps=3)
    assert torch.equal(short, whole.sample(x, None))


def test_what_a_generator_promises(tmp_path: Path, vae: str) -> None:
    g = opened(written(tmp_path, "plain"), steps=3)
    assert isinstance(g, Generator)
    assert not isinstance(g, Encoder)
    assert g.spaces == ("x_T",)
    x = g.latents(range(5), "x_T")
    images = g.decode(x, "x_T")
    assert torch.equal(images[3:4], g.decode(g.latents([3], "x_T"), "x_T"))
    latent = opened(written(tmp_path, "cond"), steps=3, vae=vae)
    assert latent.spaces == ("z_0", "x_T")
    codes = latent.latents(range(18), "z_0")
    assert torch.equal(codes[[2, 17]], latent.latents([2, 17], "z_0"))
    assert latent.decode(codes[:2], "z_0").shape == (2, 3, 16, 16)
    chosen = opened(written(tmp_path, "cond"), steps=3, vae=vae, label=2)
    assert torch.equal(chosen.latents([2, 7], "z_0"), codes[[2, 7]])
    whole = chosen.decode(normal([2, 7], 4, SIZE, SIZE), "x_T")
    torch.testing.assert_close(whole, latent.decode(codes[[2, 7]], "z_0"), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"choose generator\.edm2\.label=CLASS, or work in space z_0"):
        latent.decode(latent.latents([0], "x_T"), "x_T")
    pixels = opened(written(tmp_path, "plain", label_dim=4), steps=3)
    assert pixels.spaces == ("x_0", "x_T")


def test_gradients_are_those_of_the_images(tmp_path: Path) -> None:
    g = opened(written(tmp_path, "plain"), steps=3)
    require_gradient_of_images(g)


def test_fingerprints_follow_all_that_changes_images(tmp_path: Path, vae: str) -> None:
    path, guide = written(tmp_path, "cond"), written(tmp_path, "plain", img_channels=4)
    changes: list[dict[str, Any]] = [
        {}, {"steps": 9}, {"sigma_min": 0.01}, {"sigma_max": 70.0}, {"rho": 6.0}, {"solver": "euler"}, {"label": 1},
        {"guidance": 2.0, "guide": path}, {"guidance": 2.0, "guide": guide}, {"guidance": 1.5, "guide": guide},
    ]  # fmt: skip
    assert len({opened(path, vae=vae, **change).fingerprint for change in changes}) == 10
    assert opened(path, vae=vae).fingerprint == opened(path, vae=vae).fingerprint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wavelets": 3}, "option wavelets=3 is not supported"),
        ({"num_blocks": 10**9}, "num_blocks=1000000000 must be a whole number"),
        ({"channels_per_head": 0}, "describes no network that assay can build"),
        ({"channels_per_head": 5}, "cannot be divided into 3 heads"),
        ({"clip_act": None, "res_balance": "much"}, "option res_balance=much must be a number"),
        ({"label_dim": None}, "it has no 'label_dim'"),
        ({"sigma_data": -1}, r"sigma_data=-1\.0 must be positive"),
        ({"img_resolution": 7}, "img_resolution=7 cannot be halved on the way through 2 sizes"),
        ({"resample_filter": [1, -1]}, "must have an even number of taps and a sum"),
        ({"attn_resolutions": []}, r"unexpected tensors such as unet\.dec\.4x4_block0\.attn_proj\.weight"),
        ({"label_dim": 3}, r"lacks 1 tensors such as unet\.emb_label\.weight"),
    ],
)
def test_files_that_are_not_understood_name_the_option_or_tensor(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        edm2("", written(tmp_path, "plain", tensors=weights(PLAIN), **options))


def test_encoders_that_do_not_fit(tmp_path: Path, vae: str) -> None:
    def file(*given: Any, **options: Any) -> str:
        return written(tmp_path, "cond", stage(*given, **options))

    with pytest.raises(ValueError, match=r"give generator\.edm2\.vae=FOLDER .* that of stabilityai/sd-vae-ft-mse"):
        edm2("", written(tmp_path, "cond"))
    with pytest.raises(ValueError, match="encoder=OtherEncoder is not supported"):
        edm2("", file("OtherEncoder"), vae)
    bare = persistent("StabilityVAEEncoder", {})
    with pytest.raises(ValueError, match=r"encoder beside the network: .* no stored options"):
        edm2("", written(tmp_path, "cond", bare), vae)
    with pytest.raises(ValueError, match="option whitening=7 is not supported"):
        edm2("", file("StabilityVAEEncoder", whitening=7), vae)
    with pytest.raises(ValueError, match="statistics of 3 channels do not fit"):
        edm2("", file("StabilityVAEEncoder", raw_mean=[0, 0, 0]), vae)
    for wrong in (10**400, math.nan, "one", torch.ones(2), True):
        with pytest.raises(ValueError, match=r"option final_std=.* must be a number"):
            edm2("", file("StabilityVAEEncoder", final_std=wrong), vae)
    for wrong in (0, math.inf):
        with pytest.raises(ValueError, match="do not fit"):
            edm2("", file("StabilityVAEEncoder", final_std=wrong), vae)
    with pytest.raises(ValueError, match="option white space=a b is not supported"):
        edm2("", file("StabilityVAEEncoder", **{"white\nspace": "a\nb"}), vae)
    with pytest.raises(ValueError, match="makes 4 channels, but its encoder is that of images"):
        edm2("", file("StandardRGBEncoder"))
    with pytest.raises(ValueError, match="option gamma of StandardRGBEncoder is not supported"):
        edm2("", file("StandardRGBEncoder", gamma=2.2))
    with pytest.raises(ValueError, match=r"makes images, not codes; leave out generator\.edm2\.vae"):
        edm2("", written(tmp_path, "plain"), vae)


def test_other_wrong_calls(tmp_path: Path) -> None:
    path = written(tmp_path, "plain")
    for options in ({"guidance": 2.0}, {"guide": path}):
        with pytest.raises(ValueError, match="give both, or neither for no guidance"):
            opened(path, **options)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(ValueError, match="is for images or classes of another number"):
        opened(path, guidance=2.0, guide=written(other, "plain", label_dim=4))
    with pytest.raises(ValueError, match=r"sigma_min=90 must be positive and below sigma_max=80"):
        opened(path, sigma_min=90.0)
    with pytest.raises(ValueError, match="sigma_max=inf must be"):
        opened(path, sigma_max=math.inf)
    with pytest.raises(ValueError, match="this file has no classes"):
        opened(path, label=0)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    discover()
    content = read_checkpoint(written(tmp_path, "plain")).content
    assert [name for name, entry in GENERATORS.items() if entry.recognise and entry.recognise(content)] == ["edm2"]
    other = dump(tmp_path / "other.pkl", {"ema": persistent("Precond", {"_modules": {"model": None}})})
    assert not recognise(read_checkpoint(other).content)
    with pytest.raises(ValueError, match="holds no edm2 generator"):
        edm2("", str(other))
