"""SDF-StyleGAN: a file in the published layout against a slow version written from its description, in float64."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.generators.networks.seeds import normal
from assay.generators.sdf_stylegan import MEAN_CODES, SDFStyleGAN, sdf_stylegan
from assay.harness.core.registry import discover
from assay.harness.formats.checkpoint import read_checkpoint
from assay.harness.formats.recognise import opener
from assay.harness.shapes.surfaces import grid, to_sdf

SHAPE = {
    "G_vol_size": 16, "latent_dim": 8, "style_depth": 3, "G_feature_dim": 4, "mlp_network_depth": 1,
    "mlp_latent_dim": 6, "network_capacity": 1, "G_fmap_max": 8, "lr_mlp": 0.1, "surface_level": -0.005,
}  # fmt: skip
WIDTHS = [8, 8, 8, 4]  # min(8, 4^(i + 1)) for i = 2, 1, 0, the first repeated: 4 · 4 would be 16


def tensors(seed: int = 0) -> dict[str, Tensor]:
    """Random weights under the names of the authors' code."""
    draw = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw)

    named = {}
    for mapping in ("S", "SE"):
        for i in range(3):
            named |= {f"{mapping}.net.{i}.weight": 10 * random(8, 8), f"{mapping}.net.{i}.bias": random(8)}
    named |= {"GE.initial_block": random(1, 8, 4, 4, 4)}
    named |= {"GE.initial_conv.weight": random(8, 8, 3, 3, 3) / 15, "GE.initial_conv.bias": random(8)}
    for i, (before, after) in enumerate(itertools.pairwise(WIDTHS)):
        block = f"GE.blocks.{i}."
        for k, width in ((1, before), (2, after)):
            named |= {f"{block}to_style{k}.weight": random(width, 8) / 4, f"{block}to_style{k}.bias": random(width)}
            named |= {f"{block}to_noise{k}.weight": random(after, 1), f"{block}to_noise{k}.bias": random(after)}
            named[f"{block}conv{k}.weight"] = random(after, width, 3, 3, 3)
        head = f"{block}to_feature."
        named |= {f"{head}to_style.weight": random(after, 8) / 4, f"{head}to_style.bias": random(after)}
        named[f"{head}conv.weight"] = random(4, after, 1, 1, 1)
        if i < 2:
            named[f"{head}upsample.1.f"] = torch.tensor([1.0, 2, 1])
    for i, (before, after) in ((0, (4, 6)), (2, (6, 6)), (4, (6, 1))):
        named |= {f"ME.mapping.{i}.weight": random(after, before), f"ME.mapping.{i}.bias": random(after)}
    return named | {"global_D.final.bias": random(3)}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("sdf") / "epoch.ckpt"
    torch.save({"epoch": 3, "state_dict": tensors(), "hyper_parameters": {**SHAPE, "data": "/data/chairs"}}, path)
    return str(path)


def opened(path: str, **options: Any) -> SDFStyleGAN:
    found = sdf_stylegan("any", path, **options)
    assert isinstance(found, SDFStyleGAN)
    return found


def slow_mapping(named: dict[str, Tensor], z: Tensor) -> Tensor:
    w = z / (z.square().mean() + 1e-6).sqrt()
    for i in range(3):
        weight, bias = named[f"SE.net.{i}.weight"], named[f"SE.net.{i}.bias"]
        w = (weight * 0.1 / math.sqrt(8)) @ w + bias * 0.1
        w = torch.where(w > 0, w, 0.2 * w) * math.sqrt(2)
    return w


def slow_volume(named: dict[str, Tensor], w: Tensor) -> Tensor:
    """Features of one w, each weight modulated by itself."""
    x = F.conv3d(named["GE.initial_block"], named["GE.initial_conv.weight"], named["GE.initial_conv.bias"], padding=1)
    volume = torch.zeros(1, 4, 4, 4, 4, dtype=w.dtype)
    kernel = torch.tensor([1.0, 2, 1], dtype=w.dtype) / 4
    cube = kernel[:, None, None] * kernel[None, :, None] * kernel[None, None, :]
    for i in range(3):
        block = f"GE.blocks.{i}."
        if i:
            x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
        for k in (1, 2):
            style = named[f"{block}to_style{k}.weight"] @ w + named[f"{block}to_style{k}.bias"]
            weight = named[f"{block}conv{k}.weight"] * (style + 1)[None, :, None, None, None]
            weight = weight / (weight.square().sum((1, 2, 3, 4), keepdim=True) + 1e-8).sqrt()
            x = F.conv3d(x, weight, named[f"{block}to_noise{k}.bias"], padding=1)
            x = torch.where(x > 0, x, 0.2 * x)
        style = named[f"{block}to_feature.to_style.weight"] @ w + named[f"{block}to_feature.to_style.bias"]
        weight = named[f"{block}to_feature.conv.weight"] * (style + 1)[None, :, None, None, None]
        volume = volume + F.conv3d(x, weight)
        if i < 2:
            larger = F.interpolate(volume, scale_factor=2, mode="trilinear", align_corners=False)
            padded = F.pad(larger, (1,) * 6, mode="replicate").transpose(0, 1)
            volume = F.conv3d(padded, cube[None, None]).transpose(0, 1)
    return volume[0]


def slow_sdf(named: dict[str, Tensor], volume: Tensor, point: Tensor) -> Tensor:
    """Trilinear features at a point, on axes x, y, z, through the MLP."""
    at = ((point / 1.01 + 1) / 2 * 15).clamp(0, 15)
    low = at.floor().clamp(max=14).long()
    part = at - low
    features = torch.zeros(4, dtype=volume.dtype)
    for corner in range(8):
        step = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
        x, y, z = low + step
        features = features + torch.where(step == 1, part, 1 - part).prod() * volume[:, x, y, z]
    for i in (0, 2, 4):
        features = named[f"ME.mapping.{i}.weight"] @ features + named[f"ME.mapping.{i}.bias"]
        if i < 4:
            features = torch.where(features > 0, features, 0.2 * features)
    return features[0]


def test_the_network_is_its_description(file: str) -> None:
    found, named = opened(file, level=0.0), {name: x.double() for name, x in tensors().items()}
    z = found.latents(range(2), "z")
    points = torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) * 2.1 - 1.05  # some outside the volume
    w, sdf = found._mapped(z), found.sdf(z, "z", points)
    for i in range(2):
        expected = slow_mapping(named, z[i].double())
        assert (w[i] - expected).abs().max() < 1e-5 * expected.abs().max()
        volume = slow_volume(named, expected)
        assert (found.network.GE(w[i : i + 1], None)[0] - volume).abs().max() < 1e-5 * volume.abs().max()
        truth = torch.stack([slow_sdf(named, volume, point.double()) for point in points])
        assert (sdf[i] - truth).abs().max() < 1e-5 * truth.abs().max()
    torch.testing.assert_close(found.sdf(w, "w", points), sdf)


def test_volumes_hold_the_distance_to_the_surface_at_a_level(file: str) -> None:
    found = opened(file, resolution=9)
    assert found.level == -0.005
    z = found.latents(range(3), "z")
    volumes = found.decode(z, "z")
    assert volumes.shape == (3, 1, 9, 9, 9)
    expected = found.sdf(z, "z", grid(9)).view(3, 9, 9, 9)
    torch.testing.assert_close(to_sdf(volumes), expected, rtol=1e-4, atol=1e-5)
    other = opened(file, resolution=9, level=0.1)
    torch.testing.assert_close(to_sdf(other.decode(z, "z")) + 0.105, expected, rtol=1e-4, atol=1e-5)


def test_truncation_draws_towards_the_mean_of_the_averaged_mapping(file: str) -> None:
    named = {name: x.double() for name, x in tensors().items()}
    z = normal([4], MEAN_CODES, 8)[0].double()
    mean = torch.stack([slow_mapping(named, one) for one in z[:400]]).mean(0)
    collapsed = opened(file, truncation=0.0, truncation_seed=4).latents(range(2), "w")
    assert torch.equal(collapsed[0], collapsed[1])
    spread = torch.stack([slow_mapping(named, one) for one in z[:400]]).std(0) / math.sqrt(400)
    assert ((collapsed[0] - mean).abs() < 5 * spread + 1e-6).all()
    half, whole = (opened(file, truncation=psi, truncation_seed=4).latents(range(2), "w") for psi in (0.5, 1.0))
    torch.testing.assert_close(half, (whole + collapsed) / 2)
    assert opened(file, truncation=0.5).card["mean"] == {"truncation": 0.5, "truncation_seed": 0, "codes": 10_000}


def test_noise(file: str) -> None:
    still, noisy, other = (opened(file, noise=on, noise_seed=seed) for on, seed in ((False, 0), (True, 0), (True, 1)))
    z, points = still.latents(range(2), "z"), grid(4)
    assert not torch.allclose(still.sdf(z, "z", points), noisy.sdf(z, "z", points))
    assert not torch.allclose(other.sdf(z, "z", points), noisy.sdf(z, "z", points))
    assert torch.equal(noisy.sdf(z, "z", points), noisy.sdf(z, "z", points))
    torch.testing.assert_close(noisy.sdf(z[1:], "z", points), noisy.sdf(z, "z", points)[1:], rtol=1e-4, atol=1e-5)


def test_samples_do_not_depend_on_their_batch(file: str) -> None:
    found = opened(file, resolution=8)
    z = found.latents(range(5), "z")
    assert torch.equal(z, torch.cat([found.latents([0, 1], "z"), found.latents([2, 3, 4], "z")]))
    alone = torch.cat([found.decode(one[None], "z") for one in z])
    torch.testing.assert_close(found.decode(z, "z"), alone, rtol=1e-4, atol=1e-5)


def test_gradients(file: str) -> None:
    found = opened(file, resolution=8)
    z = found.latents([0], "z").requires_grad_()
    points = grid(8)[:40].clone().requires_grad_()
    found.decode(z, "z").sum().backward()
    assert z.grad is not None
    assert z.grad.abs().max() > 0
    found.sdf(z, "z", points).sum().backward()
    assert points.grad is not None
    assert points.grad.abs().max() > 0


def test_fingerprint(file: str) -> None:
    options: list[dict[str, Any]] = [
        {}, {"truncation": 0.7}, {"truncation_seed": 1}, {"noise": True}, {"noise_seed": 1}, {"level": 0.0},
        {"resolution": 16},
    ]  # fmt: skip
    assert len({opened(file, **option).fingerprint for option in options}) == len(options)
    assert opened(file).fingerprint == opened(file).fingerprint


def test_the_format_is_recognised(file: str) -> None:
    discover()
    assert opener(file, read_checkpoint(file)).name == "sdf_stylegan"
    assert opened(file).card["network"]["surface_level"] == -0.005


def test_errors_name_the_fix(file: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give generator\.sdf_stylegan\.path=FILE"):
        sdf_stylegan("any")
    with pytest.raises(ValueError, match=r"resolution=4 must be at least 8"):
        sdf_stylegan("any", file, resolution=4)
    torch.save({"state_dict": {"x": torch.zeros(1)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="holds no SDF-StyleGAN"):
        sdf_stylegan("any", str(tmp_path / "other.ckpt"))
    few = {name: SHAPE[name] for name in SHAPE if name != "lr_mlp"}
    torch.save({"state_dict": tensors(), "hyper_parameters": few}, tmp_path / "few.ckpt")
    with pytest.raises(ValueError, match="hyper_parameters without lr_mlp"):
        sdf_stylegan("any", str(tmp_path / "few.ckpt"))
    torch.save({"state_dict": tensors(), "hyper_parameters": {**SHAPE, "latent_dim": 9}}, tmp_path / "wide.ckpt")
    with pytest.raises(ValueError, match=r"holds another network: it has \d+ tensors of other shapes"):
        sdf_stylegan("any", str(tmp_path / "wide.ckpt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latent_dim": 20000}, "holds another network"),
        ({"latent_dim": -8}, "latent_dim=-8 must be a whole number"),
        ({"latent_dim": None}, "latent_dim=None must be a whole number"),
        ({"G_vol_size": 2**20}, "holds another network"),
        ({"G_vol_size": float("nan")}, "G_vol_size=nan must be a whole number"),
        ({"lr_mlp": float("inf")}, "lr_mlp=inf must be a finite number"),
        ({"surface_level": True}, "surface_level=True must be a finite number"),
        ({"no_const": True}, "option no_const=True is not supported"),
    ],
)
def test_settings_that_are_not_understood_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    torch.save({"state_dict": tensors(), "hyper_parameters": SHAPE | change}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=rf"a\.ckpt.*{message}"):
        opened(str(tmp_path / "a.ckpt"))


def test_another_blur_or_tensors_that_are_not_used_are_refused(tmp_path: Path) -> None:
    for name, tensor, message in (
        ("GE.blocks.0.to_feature.upsample.1.f", torch.tensor([1.0, 3, 1]), r"upsample\.1\.f is another kernel"),
        ("GE.blocks.0.attention.weight", torch.zeros(2), "1 unexpected tensors such as GE.blocks.0.attention.weight"),
    ):
        torch.save({"state_dict": tensors() | {name: tensor}, "hyper_parameters": SHAPE}, tmp_path / "a.ckpt")
        with pytest.raises(ValueError, match=message):
            opened(str(tmp_path / "a.ckpt"))
