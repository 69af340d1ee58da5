"""EDM: files in the published layout against the numbers of the authors' code, and sampling against closed forms."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.generators.edm import EDM, edm, recognise
from assay.generators.networks.edm_precond import KINDS, Preconditioned
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator
from assay.harness.core.registry import GENERATORS, discover
from assay.harness.formats.checkpoint import read_checkpoint

from ..nvlabs import dump, persistent, record
from ..official import drawn, names, noise, require_gradient_of_images

SIZE = 8
SONG = {"model_type": "SongUNet", "model_channels": 8, "channel_mult": [1, 2], "channel_mult_emb": 2, "num_blocks": 1,
        "attn_resolutions": [4]}  # fmt: skip
ADM = {"model_type": "DhariwalUNet", "model_channels": 16, "channel_mult": [1, 4], "channel_mult_emb": 1,
       "num_blocks": 1, "attn_resolutions": [4]}  # fmt: skip
NCSN = {"resample_filter": [1, 3, 3, 1], "embedding_type": "fourier", "encoder_type": "residual",
        "channel_mult_noise": 2, "label_dim": 0}  # fmt: skip
SKIP = {"resample_filter": [1, 3, 3, 1], "encoder_type": "skip", "decoder_type": "skip", "label_dim": 0}
CASES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "ddpmpp": ("EDMPrecond", {**SONG, "label_dim": 5, "augment_dim": 9, "dropout": 0.13, "use_fp16": True}),
    "ncsnpp": ("EDMPrecond", {**SONG, **NCSN}),
    "ve": ("VEPrecond", {**SONG, **NCSN}),
    "vp_skip": ("VPPrecond", {**SONG, **SKIP}),
    "adm": ("EDMPrecond", {**ADM, "label_dim": 5, "label_dropout": 0.1}),
    "iddpm": ("iDDPMPrecond", {**ADM, "label_dim": 0}),
}
UNUSED = ("use_fp16", "dropout", "label_dropout")
OFFICIAL = np.load(Path(__file__).with_name("official_edm.npz"))
BUFFERS = ("resample_filter", "u", "freqs")


def levels(count: int = 1000) -> Tensor:
    """The noise levels of iDDPM: ᾱ(j) = sin²(π j / (2 M (C_2 + 1))), and each step divides ᾱ by C_1 at the least."""
    power = [math.sin(math.pi / 2 * j / count / 1.008) ** 2 for j in range(count + 1)]
    u = [0.0]
    for j in range(count, 0, -1):
        u.append(math.sqrt((u[-1] ** 2 + 1) / max(power[j - 1] / power[j], 0.001) - 1))
    return torch.tensor(u[::-1])


def weights(name: str) -> dict[str, Tensor]:
    """The tensors that the authors' code was given."""
    kind, kwargs = CASES[name]
    own = {key: value for key, value in kwargs.items() if key in ("label_dim", "model_type")}
    rest = {key: value for key, value in kwargs.items() if key not in (*own, *UNUSED)}
    shapes = {n: t.shape for n, t in KINDS[kind](SIZE, 3, **own, options=rest).state_dict().items()}
    taps = torch.tensor(kwargs.get("resample_filter", [1, 1])).float()
    tensors = drawn(shapes)
    for n in shapes.keys() - tensors.keys():
        tensors[n] = levels() if n == "u" else (torch.outer(taps, taps) / taps.sum() ** 2)[None, None]
    return tensors


def written(path: Path, name: str, tensors: Mapping[str, Tensor] | None = None, **options: Any) -> str:
    """A snapshot as the public training code leaves it."""
    kind, kwargs = CASES[name]
    kwargs = {"img_resolution": SIZE, "img_channels": 3, **kwargs, **options}
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    ema = record(kind, tensors or weights(name), kwargs, BUFFERS)
    return str(dump(path / f"{name}.pkl", {"ema": ema, "loss_fn": None, "augment_pipe": None, "dataset_kwargs": {}}))


def opened(path: str, **options: Any) -> EDM:
    made = edm("", path, **options)
    assert isinstance(made, EDM)
    return made


@pytest.mark.parametrize("name", CASES)
def test_denoising_and_sampling_equal_the_authors_code(tmp_path: Path, name: str) -> None:
    """Largest error measured: 4e-7 of the largest number."""
    path = written(tmp_path, name)
    g = opened(path, steps=5)
    assert names({n: t.shape for n, t in g.network.state_dict().items()}) == str(OFFICIAL[f"{name}/names"])
    labels = torch.tensor([3, 1]) if g.classes else None
    x = noise(name, 2, 3, SIZE, SIZE)
    hot = None if labels is None else torch.nn.functional.one_hot(labels, 5).float()
    denoised = torch.stack([g.network(x * s, torch.tensor(s), hot) for s in (0.05, 2.0, 50.0)])
    found = {"D": denoised, "heun": g.sample(x, labels)}
    found["euler"] = opened(path, steps=5, solver="euler").sample(x, labels)
    for what, images in found.items():
        expected = torch.from_numpy(OFFICIAL[f"{name}/{what}"])
        torch.testing.assert_close(images / expected.abs().max(), expected / expected.abs().max(), rtol=0, atol=2e-6)


@pytest.mark.parametrize(
    ("size", "label_dim", "kind", "options", "millions", "digest"),
    [
        (32, 10, "SongUNet", {"augment_dim": 9, "channel_mult": [2, 2, 2]}, 55.7, "e4252090165199d2"),
        (
            64, 0, "SongUNet",
            {"augment_dim": 9, "embedding_type": "fourier", "encoder_type": "residual", "channel_mult_noise": 2,
             "resample_filter": [1, 3, 3, 1]},
            62.8, "4062343698335123",
        ),
        (64, 1000, "DhariwalUNet", {}, 295.9, "a6c2c23fa4053eb3"),
    ],
    ids=["CIFAR-10 DDPM++", "FFHQ NCSN++", "ImageNet ADM"],
)  # fmt: skip
def test_published_networks_have_the_tensors_of_the_authors_code(
    size: int, label_dim: int, kind: str, options: dict[str, Any], millions: float, digest: str
) -> None:
    with torch.device("meta"):
        network = KINDS["EDMPrecond"](size, 3, label_dim, model_type=kind, options=options)
    assert names({n: t.shape for n, t in network.state_dict().items()}).startswith(digest)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


class Gaussian(Preconditioned):
    """The exact denoiser of images N(0, 0.3²): the flow only changes their size."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.img_channels, self.img_resolution, self.label_dim = 3, 4, 0
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        return x * 0.09 / (0.09 + sigma**2)


@pytest.mark.parametrize(("solver", "order"), [("heun", 2), ("euler", 1)])
def test_samplers_have_their_order_of_convergence(solver: Any, order: int) -> None:
    from assay.generators.networks.karras import noise_levels

    x = noise("x", 1, 3, 4, 4)
    exact = 0.3 * 80 / math.sqrt(0.09 + 80**2) * x / 2 + 0.5
    errors = []
    for steps in (40, 80):
        g = EDM(Gaussian(), noise_levels(steps, 0.002, 80.0, 7.0), solver, None, "", {})
        errors.append(float((g.decode(x, "x_T") - exact).abs().max()))
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


def test_what_a_generator_promises(tmp_path: Path) -> None:
    path = written(tmp_path, "ncsnpp")
    g = opened(path, steps=3)
    assert isinstance(g, Generator)
    assert not isinstance(g, Encoder)
    assert g.spaces == ("x_T",)
    x = g.latents(range(5), "x_T")
    assert torch.equal(x[3:], g.latents([3, 4], "x_T"))
    images = g.decode(x, "x_T")
    assert images.shape == (5, 3, SIZE, SIZE)
    assert images.dtype == torch.float32
    assert torch.equal(images[3:4], g.decode(x[3:4], "x_T"))
    assert g.card["sigma_max"] == 80
    assert opened(written(tmp_path, "ve"), steps=3).card["sigma_min"] == 0.02


def test_gradients_are_those_of_the_images(tmp_path: Path) -> None:
    g = opened(written(tmp_path, "ncsnpp"), steps=3)
    require_gradient_of_images(g)


def test_classes_are_drawn_by_seed_or_chosen(tmp_path: Path) -> None:
    path = written(tmp_path, "ddpmpp")
    g = opened(path, steps=3)
    assert g.spaces == ("x_0", "x_T")
    images = g.decode(g.latents(range(8), "x_0"), "x_0")
    chosen = opened(path, steps=3, label=2)
    assert chosen.spaces == ("x_T",)
    assert torch.equal(chosen.decode(chosen.latents([2, 7], "x_T"), "x_T"), images[[2, 7]])
    assert (chosen.decode(chosen.latents([3], "x_T"), "x_T") - images[3:4]).abs().max() > 1e-3
    assert chosen.fingerprint != g.fingerprint
    with pytest.raises(ValueError, match=r"choose generator\.edm\.label=CLASS, or work in space x_0"):
        g.decode(g.latents([0], "x_T"), "x_T")
    with pytest.raises(ValueError, match=r"generator\.edm\.label=5 must be a class 0\.\.4"):
        opened(path, label=5)
    with pytest.raises(ValueError, match="this file has no classes"):
        opened(written(tmp_path, "ncsnpp"), label=0)


def test_fingerprints_follow_all_that_changes_images(tmp_path: Path) -> None:
    path = written(tmp_path, "ncsnpp")
    seen = {opened(path).fingerprint}
    changes: list[dict[str, Any]] = [
        {"steps": 19}, {"sigma_min": 0.01}, {"sigma_max": 70.0}, {"rho": 6.0}, {"solver": "euler"},
    ]  # fmt: skip
    seen |= {opened(path, **change).fingerprint for change in changes}
    assert opened(path).fingerprint in seen
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ncsnpp", {"resample_filter": None}, "tensors of other shapes such as model.dec.8x8_up.conv0.resample_filter"),
        ("ncsnpp", {"wavelets": 3}, "option wavelets=3 is not supported"),
        ("ncsnpp", {"embedding_type": "learned"}, "embedding_type='learned' is not supported"),
        ("ncsnpp", {"encoder_type": "dense"}, "encoder_type='dense' is not supported"),
        ("ncsnpp", {"decoder_type": "residual"}, "decoder_type='residual' is not supported"),
        ("ncsnpp", {"model_type": "ViT"}, "model_type='ViT' is not supported"),
        ("ncsnpp", {"num_blocks": 10**9}, "num_blocks=1000000000 must be a whole number"),
        ("ncsnpp", {"num_blocks": "many"}, "num_blocks=many must be a whole number"),
        ("ncsnpp", {"channel_mult": 3}, "option channel_mult=3 must be a list"),
        ("ncsnpp", {"channel_mult": [1] * 1000}, "must be a list of at most 64 numbers"),
        ("ncsnpp", {"channel_mult": []}, "img_resolution=8 cannot be halved on the way through 0 sizes"),
        ("ncsnpp", {"img_resolution": 9}, "img_resolution=9 cannot be halved on the way through 2 sizes"),
        ("ncsnpp", {"resample_filter": [1, 2, 1]}, r"resample_filter=\[1.0, 2.0, 1.0\] must have an even number"),
        ("ncsnpp", {"channel_mult_noise": 0}, "0 channels for the noise level"),
        ("ncsnpp", {"sigma_data": 0}, r"sigma_data=0\.0 must be positive"),
        ("vp_skip", {"beta_d": 0}, r"beta_d=0\.0, .* are no schedule"),
        ("vp_skip", {"beta_d": 1e9}, "are no schedule"),
        ("vp_skip", {"epsilon_t": 0}, "are no schedule"),
        ("iddpm", {"M": 0}, "M=0 must be positive"),
        ("iddpm", {"M": 999}, r"tensors of other shapes such as u \(\[1001\], expected \[1000\]\)"),
        ("ncsnpp", {"sigma_data": "half"}, "option sigma_data=half must be a number"),
        ("ncsnpp", {"img_channels": None}, "describes no network that assay can build"),
        ("ncsnpp", {"num_blocks": 2}, "lacks 56 tensors such as model.dec.4x4_block2.affine.bias"),
        ("adm", {"encoder_type": "skip"}, "option encoder_type=skip is not supported"),
        ("adm", {"attn_resolutions": []}, "unexpected tensors such as model.dec.4x4_block0.norm2.bias"),
    ],
)
def test_files_that_are_not_understood_name_the_option_or_tensor(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        edm("", written(tmp_path, name, weights(name), **options))


def test_files_of_other_kinds(tmp_path: Path) -> None:
    discover()
    content = read_checkpoint(written(tmp_path, "adm")).content
    assert [name for name, entry in GENERATORS.items() if entry.recognise and entry.recognise(content)] == ["edm"]
    other = dump(tmp_path / "other.pkl", {"ema": persistent("Precond", {"_modules": {}})})
    assert not recognise(read_checkpoint(other).content)
    with pytest.raises(ValueError, match="holds no edm generator"):
        edm("", str(other))
    bare = dump(tmp_path / "bare.pkl", {"ema": persistent("EDMPrecond", {"_modules": {}, "_init_args": (8, 3)})})
    with pytest.raises(ValueError, match="no stored options"):
        edm("", str(bare))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 1}, "steps=1 must be .* at least 2 and at most 10000"),
        ({"sigma_min": 0.0}, r"sigma_min=0\.0 must be .* above 0"),
        ({"sigma_min": 90.0}, "sigma_min=90 must be positive and below sigma_max=80"),
        ({"sigma_max": math.inf}, "sigma_max=inf must be"),
        ({"rho": 0.0}, r"rho=0\.0 must be .* above 0"),
        ({"solver": "dopri5"}, "solver='dopri5' must be heun or euler"),
    ],
)
def test_options_are_checked(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edm("", written(tmp_path, "ncsnpp"), **options)
