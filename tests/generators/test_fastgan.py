"""FastGAN of Projected GAN: files in the published layout against the same network written with torch's own modules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import spectral_norm

from assay.generators.fastgan import fastgan, folded
from assay.harness.core.registry import GENERATORS, discover
from assay.harness.formats.checkpoint import read_checkpoint

from ..nvlabs import dump, plain

NGF, Z = 8, 5
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "weight_u", "weight_v")
WIDTH = {4: 128, 8: 64, 16: 32, 32: 16, 64: 16, 128: 8, 256: 4, 512: 2, 1024: 1}
"""Channels at ngf = 8."""


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


class Injection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return x + self.weight * noise


def unit(inputs: int, outputs: int, lite: bool) -> list[nn.Module]:
    conv = spectral_norm(nn.Conv2d(inputs, 2 * outputs, 3, padding=1, bias=False))
    return [conv, *([] if lite else [Injection()]), nn.BatchNorm2d(2 * outputs), nn.GLU(1)]


class Slow(nn.Module):
    """The text, nothing folded: spectral norms as torch's hooks do them, pixels doubled before they are convolved."""

    def __init__(self, resolution: int, lite: bool):
        super().__init__()
        first = spectral_norm(nn.ConvTranspose2d(Z, 2 * WIDTH[4], 4, bias=False))
        self.synthesis = nn.Module()
        self.synthesis.init = nn.Module()
        self.synthesis.init.init = nn.Sequential(first, nn.BatchNorm2d(2 * WIDTH[4]), nn.GLU(1))
        self.resolution, self.levels = resolution, [2**i for i in range(3, 11) if 2**i <= max(resolution, 256)]
        for r in self.levels:
            layers = [nn.Upsample(scale_factor=2), *unit(WIDTH[r // 2], WIDTH[r], lite)]
            self.synthesis.add_module(
                f"feat_{r}", nn.Sequential(*layers, *([] if lite else unit(WIDTH[r], WIDTH[r], lite)))
            )
        for r in (r for r in self.levels if 64 <= r <= 512):
            gate = nn.Module()
            a, b = (
                spectral_norm(nn.Conv2d(WIDTH[r // 16], WIDTH[r], 4, bias=False)),
                nn.Conv2d(WIDTH[r], WIDTH[r], 1, bias=False),
            )
            gate.main = nn.Sequential(nn.AdaptiveAvgPool2d(4), a, nn.SiLU(), spectral_norm(b), nn.Sigmoid())
            self.synthesis.add_module(f"se_{r}", gate)
        self.synthesis.to_big = spectral_norm(nn.Conv2d(WIDTH[resolution], 3, 3, padding=1))

    def forward(self, z: Tensor, noise: Iterator[Tensor]) -> Tensor:
        z = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        seen = {4: self.synthesis.init.init(z[:, :, None, None])}
        for r in (r for r in self.levels if r <= self.resolution):
            x = seen[r // 2]
            for layer in self.synthesis.get_submodule(f"feat_{r}"):
                x = layer(x, next(noise)) if isinstance(layer, Injection) else layer(x)
            if 64 <= r <= 512:
                x = x * self.synthesis.get_submodule(f"se_{r}").main(seen[r // 16])
            seen[r] = x
        image: Tensor = self.synthesis.to_big(x)
        return image


def slow(resolution: int = 128, lite: bool = False, seed: int = 0) -> Slow:
    """With random weights and statistics; u and v are those of some steps of the power iteration, as in training."""
    torch.manual_seed(seed)
    network = Slow(resolution, lite)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif not name.endswith(("_u", "_v", "tracked")):
            tensor.copy_(torch.randn(tensor.shape) * (0.3 if tensor.ndim == 1 else 1))
    for module in network.modules():
        for hook in module._forward_pre_hooks.values():
            for _ in range(5):
                module.train()
                hook(module, ())
    return network.eval().requires_grad_(False)


def written(path: Path, network: Slow, **extra: Any) -> str:
    name, state = "pg_modules.networks_fastgan.Generator", {"img_resolution": network.resolution, "z_dim": Z}
    tensors = network.state_dict() | extra.pop("tensors", {})
    generator = plain(name, tensors, BUFFERS, "pg_modules.blocks.UpBlockBig", **state | extra)
    return str(dump(path, {"G": None, "D": plain("torch.nn.Linear", {}), "G_ema": generator, "progress": {}}))


@pytest.fixture
def file(tmp_path: Path) -> str:
    return written(tmp_path / "fastgan.pkl", slow())


@pytest.mark.parametrize(("resolution", "lite"), [(128, False), (128, True), (256, False)])
def test_a_file_gives_the_images_of_the_text(tmp_path: Path, resolution: int, lite: bool) -> None:
    """With other noise for each image, given in the order in which the layers come."""
    reference = slow(resolution, lite)
    model = fastgan("", written(tmp_path / "file.pkl", reference))
    z = torch.randn(2, Z)
    maps = [torch.randn(2, 1, 2**i, 2**i) for i in range(3, 9) if 2**i <= resolution for _ in range(2)]
    images = model.network(z, maps)  # type: ignore[attr-defined]
    expected = reference.double()(z.double(), iter(noise.double() for noise in maps))
    assert images.shape == (2, 3, resolution, resolution)
    assert (images - expected).abs().max() < 3e-6 * expected.abs().max()
    assert model.card["network"] == {  # type: ignore[attr-defined]
        "z_dim": Z, "ngf": NGF, "resolution": resolution, "channels": 3, "lite": lite,
    }  # fmt: skip


def test_folding_divides_by_the_largest_singular_value() -> None:
    """After many steps of the power iteration uᵀ W v is that value; the first layer keeps its outputs second."""
    torch.manual_seed(0)
    tensors = {}
    for name, shape, axis in (("synthesis.init.init.0", (3, 8, 4, 4), 1), ("synthesis.to_big", (3, 4, 3, 3), 0)):
        weight = torch.randn(shape)
        u, _, v = torch.linalg.svd(weight.movedim(axis, 0).flatten(1), full_matrices=False)
        tensors |= {f"{name}.weight_orig": weight, f"{name}.weight_u": u[:, 0], f"{name}.weight_v": v[0]}
    for name, weight in folded(tensors).items():
        assert name in ("init.init.0.weight", "to_big.weight")
        matrix = weight.movedim(1 if name.startswith("init") else 0, 0).flatten(1)
        assert torch.linalg.matrix_norm(matrix, 2) == pytest.approx(1, abs=1e-5)


def test_noise_is_the_same_for_every_image_and_comes_from_its_seed(file: str) -> None:
    model, same, other = fastgan("", file), fastgan("", file), fastgan("", file, noise_seed=1)
    z = model.latents([0], "z")
    images = model.decode(z.repeat(2, 1), "z")
    assert torch.allclose(images[0], images[1], atol=1e-6)
    assert torch.equal(model.decode(z, "z"), same.decode(z, "z"))
    assert (model.decode(z, "z") - other.decode(z, "z")).abs().max() > 1e-3
    assert model.fingerprint == same.fingerprint != other.fingerprint


def test_noise_maps_are_independent_standard_normals(file: str) -> None:
    """Means and correlations within 5 standard deviations: a false alarm in 10^5 draws of the seed."""
    network = fastgan("", file).network  # type: ignore[attr-defined]
    maps = [network.get_buffer(f"noise{i}").flatten() for i in range(network.maps)]
    assert [len(noise) for noise in maps] == [r * r for r in (8, 16, 32, 64, 128) for _ in range(2)]
    for a, b in zip(maps[::2], maps[1::2], strict=True):
        assert abs(a.mean()) < 5 / len(a) ** 0.5
        assert abs(a.square().mean() - 1) < 5 * (2 / len(a)) ** 0.5
        assert abs((a * b).mean()) < 5 / len(a) ** 0.5


def test_images_do_not_depend_on_their_batch(file: str) -> None:
    model = fastgan("", file)
    z = model.latents([0, 1, 2, 3, 4], "z")
    alone = torch.cat([model.decode(one[None], "z") for one in z])
    assert (model.decode(z, "z") - alone).abs().max() < 1e-5


def test_latents(file: str) -> None:
    model = fastgan("", file)
    assert model.spaces == ("z",)
    assert np.allclose(model.latents([7], "z"), np.random.RandomState(7).randn(1, Z), atol=1e-7)
    apart = torch.cat([model.latents([0, 1], "z"), model.latents([2, 3], "z")])
    assert torch.equal(model.latents([0, 1, 2, 3], "z"), apart)
    assert torch.allclose(model.decode(apart, "z"), model.decode(3 * apart, "z"), atol=1e-5), "length must not matter"


def test_gradients_are_those_of_the_images(file: str) -> None:
    network = fastgan("", file).network.double()  # type: ignore[attr-defined]
    z, direction, weight = (torch.randn(1, Z).double() for _ in range(3))
    weight = torch.randn(1, 3, 128, 128).double()
    gradient = torch.autograd.grad((network(z.requires_grad_()) * weight).sum(), z)[0]
    step = 1e-6 * direction
    difference = ((network(z + step) - network(z - step)) * weight).sum() / 2e-6
    assert torch.allclose((gradient * direction).sum(), difference, rtol=1e-4)


def test_bad_files_say_what_is_wrong(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "none.pkl")):
        with pytest.raises(ValueError, match=r"give generator.fastgan.path=FILE"):
            fastgan("", path)
    network = slow(lite=True)
    label = {"mapping.embed.weight": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match=r"class-conditional FastGAN is not supported"):
        fastgan("", written(tmp_path / "classes.pkl", network, tensors=label))
    with pytest.raises(ValueError, match=r"img_resolution=64 is not 128, 256, 512 or 1024"):
        fastgan("", written(tmp_path / "small.pkl", network, img_resolution=64))
    with pytest.raises(ValueError, match=r"holds another network") as error:
        fastgan("", written(tmp_path / "large.pkl", network, img_resolution=512))
    assert "\n" not in str(error.value)
    silent = plain("pg_modules.networks_fastgan.Generator", network.state_dict(), BUFFERS)
    path = dump(tmp_path / "silent.pkl", {"G_ema": silent})
    with pytest.raises(ValueError, match=r"it has no 'img_resolution'"):
        fastgan("", str(path))


def test_a_conditional_file_is_recognised_and_refused_in_its_own_words(tmp_path: Path) -> None:
    """Its levels are modules with names of their own, not sequences."""
    shapes = {"embed.weight": (10, Z), "feat_8.bn.embed.weight": (2, Z), "feat_8.conv.weight_orig": (2, 2, 3, 3)}
    shapes["to_big.weight_orig"] = (3, 2, 3, 3)
    tensors = {f"synthesis.{name}": torch.zeros(shape) for name, shape in shapes.items()}
    whole = plain("pg_modules.networks_fastgan.Generator", tensors, BUFFERS, img_resolution=256)
    path = str(dump(tmp_path / "classes.pkl", {"G_ema": whole}))
    discover()
    assert GENERATORS["fastgan"].recognise(read_checkpoint(path).content)
    with pytest.raises(ValueError, match="class-conditional FastGAN is not supported"):
        fastgan("", path)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"eps": 1e-3}, "option eps=0.001 is not supported, only eps=1e-05"),
        ({"mode": "bilinear"}, "option mode=bilinear is not supported"),
        ({"padding_mode": "reflect"}, "option padding_mode=reflect is not supported"),
        ({"img_resolution": 10**9}, "img_resolution=1000000000 must be a whole number"),
        ({"img_resolution": -128}, "img_resolution=-128 must be a whole number"),
        ({"img_resolution": "128"}, "img_resolution=128 must be a whole number"),
    ],
)
def test_settings_of_layers_that_are_not_understood_are_refused(
    tmp_path: Path, option: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fastgan("", written(tmp_path / "a.pkl", slow(lite=True), **option))


def test_it_is_recognised_by_no_other_family(file: str) -> None:
    discover()
    content = read_checkpoint(file).content
    assert [name for name, entry in GENERATORS.items() if entry.recognise and entry.recognise(content)] == ["fastgan"]
    assert fastgan("", file).card["discriminator"] == "in the file, not opened"  # type: ignore[attr-defined]
