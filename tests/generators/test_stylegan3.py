"""StyleGAN3: files in the published layout against the formulas in float64, image by image."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.generators.stylegan3 import StyleGAN3Network, levels, stylegan3
from assay.harness.core.registry import GENERATORS, discover
from assay.harness.formats.checkpoint import read_checkpoint

from ..nvlabs import dump, record

R, LAYERS, CRITICAL, MARGIN = 32, 5, 2, 3
SMALL = {"resolution": R, "layers": LAYERS, "critical": CRITICAL, "margin": MARGIN, "base": 128, "max_channels": 6}
INIT = {"img_resolution": R, "num_layers": LAYERS, "num_critical": CRITICAL, "margin_size": MARGIN,
        "channel_base": 128, "channel_max": 6, "num_fp16_res": 4, "magnitude_ema_beta": 0.99}  # fmt: skip
BUFFERS = ("transform", "freqs", "phases", "magnitude_ema", "up_filter", "down_filter", "w_avg")
T = ({}, {})
RADIAL = ({"kernel": 1, "radial": True}, {"conv_kernel": 1, "use_radial_filters": True})


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def weights(c_dim: int = 0, shape: Mapping[str, Any] = {}, seed: int = 0) -> dict[str, Tensor]:
    """A state dict in which nothing is 0, 1 or symmetric, so that a term left out or a filter turned round shows."""
    draws = torch.Generator().manual_seed(seed)
    network = StyleGAN3Network(8, c_dim, 10, image_channels=3, **SMALL, **shape)
    tensors = {}
    for name, tensor in network.state_dict().items():
        drawn = torch.randn(tensor.shape, generator=draws)
        if name.endswith("filter"):
            drawn = (drawn.abs() + 0.1) / (drawn.abs() + 0.1).sum()
        elif name.endswith("magnitude_ema"):
            drawn = drawn.abs() + 0.5
        elif ".fc" in name:
            drawn = drawn * 100
        elif name.endswith("affine.bias"):
            drawn = 1 + 0.3 * drawn
        tensors[name] = drawn
    return tensors


def written(path: Path, tensors: Mapping[str, Tensor], c_dim: int = 0, init: Mapping[str, Any] = {}) -> str:
    """A file as the public training code leaves it."""
    arguments = {"z_dim": 8, "c_dim": c_dim, "w_dim": 10, "img_channels": 3, "mapping_kwargs": {"num_layers": 2}}
    generator = record("Generator", tensors, arguments | INIT | init, BUFFERS)
    discriminator = record("Discriminator", {"b4.weight": torch.zeros(2)}, {"img_resolution": R})
    return str(dump(path, {"G": None, "D": discriminator, "G_ema": generator, "training_set_kwargs": {}}))


@pytest.fixture
def file(tmp_path: Path) -> str:
    return written(tmp_path / "t.pkl", weights())


def slow(tensors: Mapping[str, Tensor], ws: Tensor, kernel: int, radial: bool) -> Tensor:
    """Images [N, 3, R, R] of ws [N, num_ws, w_dim] by the text: styles normalised over the batch, weights modulated one
    image at a time, zeros between samples, filters turned round, every sample filtered and most thrown away."""
    p = {name.removeprefix("synthesis."): tensor.double() for name, tensor in tensors.items()}
    ws = ws.double()

    def affine(layer: str, w: Tensor) -> Tensor:
        return w @ p[f"{layer}.affine.weight"].T / math.sqrt(w.shape[1]) + p[f"{layer}.affine.bias"]

    def filtered(x: Tensor, taps: Tensor, gain: float) -> Tensor:
        if taps.ndim == 2:
            return F.conv2d(x[:, None], taps.flip(0, 1)[None, None] * gain)[:, 0]
        turned = taps.flip(0) * math.sqrt(gain)
        return F.conv2d(F.conv2d(x[:, None], turned[None, None, None, :]), turned[None, None, :, None])[:, 0]

    e = [min(i / (LAYERS - CRITICAL), 1) for i in range(LAYERS + 1)]
    cutoff = [2 * (R / 2 / 2) ** x for x in e]
    stopband = [2**2.1 * ((R / 2 * 2**0.3) / 2**2.1) ** x for x in e]
    rate = [2 ** math.ceil(math.log2(min(2 * x, R))) for x in stopband]
    size = [r + 2 * MARGIN for r in rate[:-2]] + [R, R]
    channels = [round(min(128 / 2 / c, 6)) for c in cutoff[:-1]] + [3]

    theta = torch.eye(2, 3).double() * 0.5 * size[0] / rate[0]
    grid = F.affine_grid(theta[None], [1, 1, size[0], size[0]], align_corners=False)[0]
    images = []
    for w in ws[:, 0]:
        pose = affine("input", w[None])[0]
        c, s, tx, ty = pose / pose[:2].norm()
        turn = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]]).double()
        shift = torch.tensor([[1, 0, -tx], [0, 1, -ty], [0, 0, 1]]).double()
        matrix = turn @ shift @ p["input.transform"]
        phases, freqs = p["input.phases"] + p["input.freqs"] @ matrix[:2, 2], p["input.freqs"] @ matrix[:2, :2]
        amplitude = (1 - (freqs.norm(dim=1) - cutoff[0]) / (rate[0] / 2 - cutoff[0])).clamp(0, 1)
        waves = torch.sin(2 * math.pi * (grid @ freqs.T + phases)) * amplitude
        images.append((waves @ p["input.weight"].T / math.sqrt(channels[0])).permute(2, 0, 1))
    for i in range(LAYERS + 1):
        before, name, to_rgb = max(i - 1, 0), f"L{i}_{size[i]}_{channels[i]}", i == LAYERS
        styles, k = affine(name, ws[:, i + 1]), 1 if to_rgb else kernel
        weight = p[f"{name}.weight"]
        if to_rgb:
            styles = styles / math.sqrt(weight[0].numel())
        else:
            weight = weight / weight.square().mean((1, 2, 3), keepdim=True).sqrt()
            styles = styles / styles.square().mean().sqrt()
        tmp = max(rate[before], rate[i]) * (1 if to_rgb else 2)
        up, down = tmp // rate[before], tmp // rate[i]
        up_taps, down_taps = (6 * f if f > 1 and not to_rgb else 1 for f in (up, down))
        total = (size[i] - 1) * down + 1 - (size[before] + k - 1) * up + up_taps + down_taps - 2
        low = (total + up) // 2
        for n, style in enumerate(styles):
            modulated = weight * style[None, :, None, None]
            if not to_rgb:
                modulated = modulated / (modulated.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
            modulated = modulated / p[f"{name}.magnitude_ema"].sqrt()
            x = F.conv2d(images[n][None], modulated, padding=k - 1)[0] + p[f"{name}.bias"][:, None, None]
            if not to_rgb:
                spread = torch.zeros(len(x), x.shape[1] * up, x.shape[2] * up).double()
                spread[:, ::up, ::up] = x
                x = filtered(F.pad(spread, [low, total - low] * 2), p[f"{name}.up_filter"], up**2)
                x = torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)
            x = x.clamp(-256, 256)
            if not to_rgb:
                assert (p[f"{name}.down_filter"].ndim == 2) == (radial and i < LAYERS - CRITICAL)
                x = filtered(x, p[f"{name}.down_filter"], 1)[:, ::down, ::down]
            images[n] = x
    return torch.stack(images) * 0.25


@pytest.mark.parametrize(("shape", "init"), [T, RADIAL], ids=["T", "R"])
def test_a_file_gives_the_images_of_the_text(tmp_path: Path, shape: dict[str, Any], init: dict[str, Any]) -> None:
    """One w a layer, each its own: a w given to the wrong layer would show."""
    tensors = weights(shape=shape)
    model = stylegan3("", written(tmp_path / "file.pkl", tensors, init=init))
    ws = torch.randn(3, LAYERS + 2, 10, generator=torch.Generator().manual_seed(1))
    expected = slow(tensors, ws, shape.get("kernel", 3), shape.get("radial", False))
    images = model.decode(ws, "w+") * 2 - 1
    assert images.shape == (3, 3, R, R)
    assert (images - expected).abs().max() < 2e-6 * expected.abs().max()


def test_the_clamp_of_the_file_is_used(tmp_path: Path) -> None:
    ws = torch.randn(2, LAYERS + 2, 10)
    free, tight = (
        stylegan3("", written(tmp_path / f"{clamp}.pkl", weights(), init={"conv_clamp": clamp})).decode(ws, "w+") * 2
        - 1
        for clamp in (None, 0.5)
    )
    assert free.abs().max() > 0.5 * 0.25
    assert tight.abs().max() <= 0.5 * 0.25


def test_images_do_not_depend_on_their_batch(file: str) -> None:
    """Least of all where the direction of the input is short before it is normalised: there shifts are long."""
    model = stylegan3("", file)
    ws = torch.randn(6, LAYERS + 2, 10, generator=torch.Generator().manual_seed(2))
    tensors = weights()
    weight, bias = tensors["synthesis.input.affine.weight"] / math.sqrt(10), tensors["synthesis.input.affine.bias"]
    aim = torch.tensor([0.006, -0.008, 1.0, -0.7])
    ws[0, 0] += torch.linalg.pinv(weight) @ (aim - weight @ ws[0, 0] - bias)
    together = model.decode(ws, "w+")
    alone = torch.cat([model.decode(w[None], "w+") for w in ws])
    assert (together - alone).abs().max() < 1e-5
    assert (together * 2 - 1 - slow(tensors, ws, 3, False)).abs().max() < 1e-5


def test_seeds_and_spaces(file: str) -> None:
    model = stylegan3("", file, truncation=0.6)
    assert model.spaces == ("z", "w", "w+")
    assert np.allclose(model.latents([7], "z"), np.random.RandomState(7).randn(1, 8), atol=1e-7)
    for space, shape in (("z", (8,)), ("w", (10,)), ("w+", (LAYERS + 2, 10))):
        latents = model.latents([0, 1, 2, 3], space)
        assert latents.shape == (4, *shape)
        apart = torch.cat([model.latents([0, 1], space), model.latents([2, 3], space)])
        assert torch.allclose(latents, apart, atol=1e-6)
    images = model.decode(model.latents([0, 1], "z"), "z")
    for space in ("w", "w+"):
        assert (model.decode(model.latents([0, 1], space), space) - images).abs().max() < 1e-5


def test_truncation_pulls_towards_the_mean_of_the_file(file: str) -> None:
    whole, half, none = (stylegan3("", file, truncation=psi).latents([3], "w") for psi in (1.0, 0.5, 0.0))
    mean = weights()["mapping.w_avg"]
    assert torch.allclose(none[0], mean)
    assert torch.allclose(half[0], mean + 0.5 * (whole[0] - mean), atol=1e-6)


def test_classes(tmp_path: Path) -> None:
    path = written(tmp_path / "classes.pkl", weights(c_dim=4), c_dim=4)
    drawn, chosen = stylegan3("", path), stylegan3("", path, label=2)
    assert drawn.spaces == ("w", "w+", "z")
    assert chosen.spaces == ("z", "w", "w+")
    assert torch.allclose(drawn.latents([6], "w"), chosen.latents([6], "w"))
    assert not torch.allclose(drawn.latents([5], "w"), chosen.latents([5], "w"))
    assert chosen.decode(chosen.latents([0], "z"), "z").shape == (1, 3, R, R)
    with pytest.raises(ValueError, match=r"choose generator.stylegan3.label=CLASS"):
        drawn.decode(drawn.latents([0], "z"), "z")
    with pytest.raises(ValueError, match=r"label=4 must be a class 0..3"):
        stylegan3("", path, label=4)


def test_two_constructions_agree_and_options_change_the_fingerprint(tmp_path: Path, file: str) -> None:
    first, second = stylegan3("", file), stylegan3("", file)
    assert first.fingerprint == second.fingerprint
    assert torch.equal(first.decode(first.latents([0], "z"), "z"), second.decode(second.latents([0], "z"), "z"))
    others = [stylegan3("", file, truncation=0.5), stylegan3("", written(tmp_path / "b.pkl", weights(seed=1)))]
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_gradients_are_those_of_the_images(file: str) -> None:
    network = stylegan3("", file).network.double()  # type: ignore[attr-defined]
    w, direction = (torch.randn(1, 10, generator=torch.Generator().manual_seed(i)).double() for i in (3, 4))
    weight = torch.randn(1, 3, R, R).double()
    gradient = torch.autograd.grad((network.images(w.requires_grad_()) * weight).sum(), w)[0]
    step = 1e-6 * direction
    difference = ((network.images(w + step) - network.images(w - step)) * weight).sum() / 2e-6
    assert torch.allclose((gradient * direction).sum(), difference, rtol=1e-5)


def test_the_geometry_of_the_published_configurations() -> None:
    """Layer names as the public training tool prints them in reports of users: NVlabs/stylegan3 issues 194 (T, 256
    pixels), 40 (R, 128) and 181 (R, 1024)."""

    def names(*args: Any, **options: Any) -> list[str]:
        return [f"L{i}_{level.size}_{level.channels}" for i, level in enumerate(levels(*args, **options))]

    t256 = names(256, 3)
    assert t256[:5] == ["L0_36_512", "L1_36_512", "L2_36_512", "L3_52_512", "L4_52_512"]
    assert t256[5].startswith("L5_84_512")
    r128 = names(128, 3, base=65536, max_channels=1024)
    assert r128[8:] == ["L8_84_1024", "L9_148_1024", "L10_148_912", "L11_148_683", "L12_148_512", "L13_128_512",
                        "L14_128_3"]  # fmt: skip
    r1024 = names(1024, 3, base=65536, max_channels=1024)
    assert r1024[10:] == ["L10_1044_161", "L11_1044_102", "L12_1044_64", "L13_1024_64", "L14_1024_3"]


def shaped(resolution: int, radial: bool) -> StyleGAN3Network:
    """A network of the published size, without memory behind it."""
    options: dict[str, Any] = {"base": 65536, "max_channels": 1024, "kernel": 1, "radial": True} if radial else {}
    with torch.device("meta"):
        return StyleGAN3Network(512, 0, 512, resolution, 3, **options)


@pytest.mark.parametrize(("resolution", "parameters", "buffers"), [(512, 16665594, 5588), (1024, 15093151, 5600)])
def test_configuration_r_has_the_published_sizes(resolution: int, parameters: int, buffers: int) -> None:
    """Totals as the public training tool prints them, in reports of users: NVlabs/stylegan3 issues 229 and 181."""
    network = shaped(resolution, radial=True)
    assert sum(tensor.numel() for tensor in network.parameters()) == parameters
    assert sum(tensor.numel() for tensor in network.buffers()) == buffers


def test_configuration_t_has_the_published_sizes() -> None:
    """Parameters and buffers of the input and of layers 0 to 4 at 256 pixels: NVlabs/stylegan3 issue 194."""
    synthesis = shaped(256, radial=False).synthesis
    assert synthesis.input.weight.numel() == 262144
    assert sum(tensor.numel() for tensor in synthesis.input.buffers()) == 1545
    layers = [synthesis.get_submodule(name) for name in synthesis.names[:5]]
    assert all(sum(t.numel() for n, t in layer.named_parameters() if "." not in n) == 2359808 for layer in layers)
    assert [sum(tensor.numel() for tensor in layer.buffers()) for layer in layers] == [25, 25, 25, 37, 25]


def test_bad_files_say_what_is_wrong(tmp_path: Path, file: str) -> None:
    tensors = weights()
    for path in ("", str(tmp_path / "none.pkl")):
        with pytest.raises(ValueError, match=r"give generator.stylegan3.path=FILE"):
            stylegan3("", path)
    missing = {name: tensor for name, tensor in tensors.items() if name != "synthesis.input.phases"}
    with pytest.raises(ValueError, match=r"lacks 1 tensors such as synthesis.input.phases") as error:
        stylegan3("", written(tmp_path / "missing.pkl", missing))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"holds another network"):
        stylegan3("", written(tmp_path / "wider.pkl", tensors, init={"channel_max": 8}))
    with pytest.raises(ValueError, match=r"no stylegan3 generator"):
        stylegan3(
            "",
            str(
                dump(tmp_path / "other.pkl", {"G_ema": record("Generator", {"synthesis.b4.const": torch.zeros(1)}, {})})
            ),
        )
    with pytest.raises(ValueError, match=r"label=1 must be null: this file has no classes"):
        stylegan3("", file, label=1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"activation": "relu"}, "option activation=relu is not supported"),
        ({"mapping_kwargs": {"num_layers": 2, "activation": "relu"}}, "option activation=relu is not supported"),
        ({"mapping_kwargs": {"num_layers": 10**6}}, "mapping_layers=1000000 must be a whole number from 1 to 200"),
        ({"num_layers": 10**9}, r"num_layers=1000000000 must be a whole number from 1 to 200"),
        ({"num_layers": CRITICAL, "num_critical": CRITICAL}, "describes no network that assay can build"),
        ({"w_dim": 20000}, "holds another network"),
        ({"w_dim": None}, "w_dim=None must be a whole number"),
        ({"img_resolution": 2**20}, "holds another network"),
        ({"filter_size": 10**9}, "filter_size=1000000000 must be a whole number"),
        ({"first_cutoff": float("nan")}, "first_cutoff=nan must be a finite number"),
        ({"first_cutoff": 0}, "describes no network that assay can build"),
        ({"use_radial_filters": 1}, "use_radial_filters=1 must be true or false"),
    ],
)
def test_options_that_are_not_understood_are_refused(option: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message) as error:
        stylegan3("", written(tmp_path / "a.pkl", weights(), init=option))
    assert str(error.value).startswith(str(tmp_path / "a.pkl"))


def test_it_is_recognised_by_no_other_family(file: str) -> None:
    discover()
    content = read_checkpoint(file).content
    assert [name for name, entry in GENERATORS.items() if entry.recognise and entry.recognise(content)] == ["stylegan3"]


def test_the_card_says_what_was_in_the_file(file: str) -> None:
    card = stylegan3("", file).card  # type: ignore[attr-defined]
    assert card["discriminator"] == "in the file, not opened"
    assert card["network"]["resolution"] == R
    assert len(card["sha256"]) == 64
