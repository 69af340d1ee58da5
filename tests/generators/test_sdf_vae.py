"""The VAE of shapes: its arithmetic, what it learns of shapes known in closed form, and the one in the zoo."""

import hashlib
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from assay.datasets.sdf_primitives import SDFPrimitives, sdf_primitives
from assay.generators.sdf_vae import (
    SDFVAE,
    Residual,
    SDFVAENetwork,
    SDFVAETraining,
    censored_error,
    divergence,
    sdf_vae,
)
from assay.harness import train as module
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator, Samples, Split
from assay.harness.core.registry import discover
from assay.harness.formats.weights import ZOO, write_weights
from assay.harness.shapes.surfaces import (
    area,
    component_sizes,
    enclosed_volume,
    grid,
    is_closed,
    isosurface,
    to_sdf,
    to_volume,
    voxel,
)
from assay.harness.train import train

discover()
CPU = torch.device("cpu")
HASH = """
import hashlib
from assay.generators.sdf_vae import sdf_vae
made = sdf_vae("sdf_primitives")
print(made.fingerprint, hashlib.sha256(made.decode(made.latents(range(3)), "z").numpy().tobytes()).hexdigest())
"""


class Balls:
    """Balls of radii 0.3 to 0.8 round the origin: one number says all of a shape."""

    name, classes, fingerprint, size = "balls", ("ball",), "balls", 16

    def __init__(self, count: int):
        self.radii = 0.3 + 0.5 * torch.rand(count, generator=torch.Generator().manual_seed(0))

    def count(self, split: Split) -> int:
        return {"train": len(self.radii), "test": 8}[split]

    def take(self, split: Split, start: int, stop: int) -> Samples:
        sdf = grid(self.size).norm(dim=1) - self.radii[start:stop, None]
        return Samples((to_volume(sdf).clamp(0, 1) * 255).round().byte(), torch.zeros(stop - start, dtype=torch.int64))


def learned(path: Path, data: Any, **options: Any) -> str:
    return str(train("sdf_vae", {"epochs": 1, "batch": 16, "points": 64, **options}, data, 0, path, CPU))


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> SDFVAE:
    options = {"latent_dim": 2, "epochs": 16, "batch": 8, "points": 256, "lr": 4e-3}
    made = sdf_vae("balls", learned(tmp_path_factory.mktemp("balls"), Balls(96), **options))
    assert isinstance(made, SDFVAE)
    return made


@pytest.fixture(scope="module")
def zoo() -> SDFVAE:
    made = sdf_vae("sdf_primitives")
    assert isinstance(made, SDFVAE)
    return made


def network(size: int = 16, latent_dim: int = 3) -> SDFVAENetwork:
    torch.manual_seed(0)
    return SDFVAENetwork(size, latent_dim, 1).eval().requires_grad_(False)


def slow_distance(net: SDFVAENetwork, features: Tensor, point: Tensor) -> Tensor:
    """Trilinear features [C, 16, 16, 16] at a point of [-1, 1]^3, on axes x, y, z, through the reader."""
    at = (point + 1) / 2 * 15
    low = at.floor().clamp(max=14).long()
    part, found = at - low, torch.zeros(len(features), dtype=features.dtype)
    for corner in range(8):
        step = torch.tensor([corner >> 2 & 1, corner >> 1 & 1, corner & 1])
        x, y, z = low + step
        found = found + torch.where(step == 1, part, 1 - part).prod() * features[:, x, y, z]
    for layer in (0, 2, 4):
        linear = net.reader[layer]
        found = linear.weight @ found + linear.bias  # type: ignore[union-attr,operator]
        found = found / (1 + (-found).exp()) if layer < 4 else found
    return found[0]


def test_the_distance_at_a_point_is_its_description() -> None:
    net, points = network().double(), torch.rand(12, 3, generator=torch.Generator().manual_seed(1)).double() * 2 - 1
    z = torch.randn(2, 3, generator=torch.Generator().manual_seed(2)).double()
    points = torch.cat([points, torch.tensor([[-1.0, 1, 1], [0, 0, 0], [1, -1, 0.2]]).double()])
    features, found = net.decoder(z), net.distances(z, points)
    assert found.shape == (2, 15)
    for i in range(2):
        slow = torch.stack([slow_distance(net, features[i], point) for point in points])
        torch.testing.assert_close(found[i].double(), slow, rtol=1e-5, atol=1e-6)
    own = torch.stack([points, points.flip(0)])  # other points for each shape
    torch.testing.assert_close(net.distances(z, own)[1], found[1].flip(0))


@pytest.mark.parametrize("resolution", [16, 23])
def test_the_grid_is_made_of_its_points(resolution: int) -> None:
    net, z = network(), torch.randn(6, 3, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(net.on_grid(z, resolution), net.distances(z, grid(resolution)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_gradients_in_bfloat16_are_those_in_float64(size: int) -> None:
    """Of two points an axis some CPU kernels return what happened to be in memory."""
    torch.manual_seed(0)
    block = Residual(64).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    x, slope = torch.randn(2, 16, 64, size, size, size).unbind(0)
    found = []
    for _ in range(5):
        with torch.autocast("cpu", torch.bfloat16):
            made = block(x)
        found.append(torch.autograd.grad(made, list(block.parameters()), slope.to(made.dtype)))
    exact = torch.autograd.grad(block.double()(x.double()), list(block.parameters()), slope.double())
    for again in found:
        for got, first, expected in zip(again, found[0], exact, strict=True):
            assert torch.equal(got, first)
            assert (got - expected).abs().max() < 0.03 * expected.abs().max()  # bfloat16 has eight bits


@pytest.mark.parametrize(("units", "expected"), [({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16)])
def test_training_is_in_bfloat16_where_the_processor_has_units_for_it(
    units: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    training = SDFVAETraining(Balls(2), 3, 1.0, 16, 1, 2, 1e-3, 0)
    computed = list[torch.dtype]()
    training.network.encoder[0].register_forward_hook(lambda module, given, made: computed.append(made.dtype))
    volumes = Balls(2).take("train", 0, 2).images.float() / 255
    next(training.epoch(iter([(volumes, None)])))
    assert computed == [expected]


def test_what_is_cut_off_is_right_anywhere_beyond() -> None:
    found = torch.tensor([3.0, 0.4, -2.0, 0.5, 0.9, -5.0, 2.0])
    known = torch.tensor([1.0, 1.0, 1.0, 0.2, -1.0, -1.0, 0.9])
    torch.testing.assert_close(censored_error(found, known), torch.tensor([0, 0.6, 3, 0.3, 1.9, 0, 1.1]))
    slope = torch.tensor([-7.0], requires_grad=True)
    censored_error(slope, torch.tensor([1.0])).sum().backward()
    assert slope.grad is not None
    assert slope.grad.item() == -1, "a wrong side is corrected however far away it is"


def test_divergence() -> None:
    mean, logvar = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(torch.zeros(4), torch.ones(4))).sum(1)
    torch.testing.assert_close(divergence(mean, logvar), expected)


def test_half_of_the_points_are_near_the_surface() -> None:
    """Shares of 20,000 draws; four standard errors are 0.014 (false alarm 1e-4)."""
    training = SDFVAETraining(Balls(2), 2, 1.0, 20_000, 1, 2, 1e-3, 0)
    known = 1 - 2 * (Balls(2).take("train", 0, 2).images.flatten(1).float() / 255)
    torch.manual_seed(0)
    chosen = training._drawn(known)
    near = (known.abs() < 1).float()
    expected = 0.5 + 0.5 * near.mean(1)
    assert ((near.gather(1, chosen).mean(1) - expected).abs() < 0.014).all()
    empty = training._drawn(torch.ones(1, 16**3))
    assert len(empty.unique()) > 3900, "a volume without a surface is seen everywhere"


def test_balls_come_back_as_balls(balls: SDFVAE) -> None:
    """Volume and area are 4/3 pi r³ and 4 pi r²; the distance, between grid points too, is |p| - r."""
    data = Balls(96)
    codes = balls.encode(data.take("train", 0, 24).images.float() / 255)
    shapes, radii = to_sdf(balls.decode(codes)), data.radii[:24]
    meshes = [isosurface(shape) for shape in shapes]
    assert all(is_closed(mesh) for mesh in meshes)
    volumes, areas = (torch.tensor([f(mesh) for mesh in meshes]) for f in (enclosed_volume, area))
    assert (volumes / (4 / 3 * math.pi * radii**3) - 1).abs().mean() < 0.05
    assert (areas / (4 * math.pi * radii**2) - 1).abs().mean() < 0.03
    points = torch.rand(2000, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    exact = points.norm(dim=1) - radii[:, None]
    error = (balls.sdf(codes, "z", points) - exact).abs()[exact.abs() < voxel(16)]
    assert error.mean() < 0.1 * voxel(16)
    finer = SDFVAE(balls.network, 2, 1.0, 40, "")  # the same surface on a finer grid
    fine = torch.tensor([enclosed_volume(isosurface(shape)) for shape in to_sdf(finer.decode(codes[:6]))])
    assert (fine / volumes[:6] - 1).abs().max() < 0.05


def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    save, data = module._save, sdf_primitives(train=32, test=4, resolution=16)

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise Killed

    undisturbed = Path(learned(tmp_path / "a", data, epochs=2))
    with monkeypatch.context() as patched:
        patched.setattr(module, "_save", save_and_die)
        with pytest.raises(Killed):
            learned(tmp_path / "b", data, epochs=2)
    resumed = Path(learned(tmp_path / "b", data, epochs=2))
    assert resumed.read_bytes() == undisturbed.read_bytes()
    card, other = (json.loads(path.with_suffix(".json").read_text()) for path in (resumed, undisturbed))
    assert all(one.pop("cpu_seconds") > 0 for one in (card, other))
    assert card == other
    assert set(card["test"]) == {"error", "iou", "kl", "collapsed_dimensions"}


def test_the_contract_of_a_generator(zoo: SDFVAE) -> None:
    assert isinstance(zoo, Generator)
    assert isinstance(zoo, Encoder)
    z = zoo.latents(range(6))
    assert torch.equal(z, torch.cat([zoo.latents([0, 1, 2]), zoo.latents([3, 4, 5])]))
    assert torch.equal(z[[4, 1]], zoo.latents([4, 1]))
    volumes = zoo.decode(z)
    assert volumes.shape == (6, 1, 32, 32, 32)
    for size in (1, 5):
        parts = torch.cat([zoo.decode(part) for part in torch.split(z, size)])
        torch.testing.assert_close(parts, volumes, rtol=0, atol=1e-5)
    torch.testing.assert_close(to_volume(zoo.sdf(z[:2], "z", grid(32))), volumes[:2], rtol=0, atol=1e-5)
    ours = hashlib.sha256(zoo.decode(z[:3]).numpy().tobytes()).hexdigest()
    done = subprocess.run([sys.executable, "-c", HASH], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [zoo.fingerprint, ours]


def test_gradients(zoo: SDFVAE) -> None:
    z = zoo.latents(range(3)).requires_grad_()
    (slope,) = torch.autograd.grad(zoo.decode(z)[0].sum(), z)
    assert slope[0].abs().max() > 0
    assert slope[1:].abs().max() == 0, "volume i depends on latent i alone"
    points = (0.5 * grid(6)).requires_grad_()
    (slope,) = torch.autograd.grad(zoo.sdf(z[:1], "z", points).sum(), points)
    assert slope.abs().max() > 0


def test_codes_of_the_encoder(zoo: SDFVAE) -> None:
    volumes = sdf_primitives().take("test", 0, 8).images.float() / 255
    mean, logvar = zoo.encode(volumes, "mean"), zoo.encode(volumes, "logvar")
    torch.testing.assert_close(zoo.encode(volumes[2:3], "mean"), mean[2:3], rtol=0, atol=1e-4)
    draws = zoo.encode(volumes[:1].expand(400, -1, -1, -1, -1), "sample", range(400))
    # 48 means and 48 spreads of 400 draws, none further away than five standard errors (false alarm 5e-5).
    assert ((draws.mean(0) - mean[0]).abs() < 5 * (logvar[0] / 2).exp() / 20).all()
    assert ((draws.std(0) / (logvar[0] / 2).exp() - 1).abs() < 5 / math.sqrt(800)).all()
    both, second = zoo.encode(volumes[:2], "sample", [5, 6]), zoo.encode(volumes[1:2], "sample", [6])
    torch.testing.assert_close(both[1:], second, rtol=0, atol=1e-4)


def test_held_out_shapes_come_back(zoo: SDFVAE) -> None:
    """The first 40 held-out shapes against what the card says of all; between grid points, against the exact shape."""
    data = sdf_primitives()
    assert isinstance(data, SDFPrimitives)
    card = json.loads((ZOO["generator"] / "sdf_vae-sdf_primitives.json").read_text())
    volumes = data.take("test", 0, 40).images.float() / 255
    codes = zoo.encode(volumes)
    real, back = to_sdf(volumes) < 0, to_sdf(zoo.decode(codes)) < 0
    overlap = (real & back).sum((1, 2, 3)) / (real | back).sum((1, 2, 3))
    assert overlap.mean() == pytest.approx(card["test"]["iou"], abs=0.06)
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for i in range(4):
        exact = data.shape("test", i).sdf(points)
        error = (zoo.sdf(codes[i : i + 1], "z", points)[0] - exact).abs()[exact.abs() < voxel(32)]
        assert error.mean() < 0.5 * voxel(32)


def test_samples_are_solids_of_the_size_of_shapes(zoo: SDFVAE) -> None:
    volumes = (zoo.decode(zoo.latents(range(60))).clamp(0, 1) * 255).round() / 255
    sizes = [component_sizes(sdf < 0) for sdf in to_sdf(volumes)]
    assert sum(len(parts) > 0 for parts in sizes) == 60
    real = sdf_primitives().take("test", 0, 100).images.float().div(255).gt(0.5).sum((1, 2, 3, 4)).float()
    made = torch.tensor([float(parts.sum()) for parts in sizes])
    assert 0.5 * real.median() < made.median() < 2 * real.median()


def test_options_make_another_generator(zoo: SDFVAE) -> None:
    fine, cold, known = (
        sdf_vae("sdf_primitives", **option)  # type: ignore[arg-type]
        for option in ({"resolution": 40}, {"temperature": 0.5}, {"prior": "classes"})
    )
    assert len({made.fingerprint for made in (zoo, fine, cold, known)}) == 4
    assert sdf_vae("sdf_primitives", resolution=32).fingerprint == zoo.fingerprint
    assert fine.decode(fine.latents([1], "z"), "z").shape == (1, 1, 40, 40, 40)
    torch.testing.assert_close(cold.latents([3], "z"), 0.5 * zoo.latents([3]))


def test_the_prior_of_the_classes(zoo: SDFVAE) -> None:
    """Moments of 2,000 draws of one class, none further away than five standard errors (false alarm 3e-5 for 48)."""
    made = sdf_vae("sdf_primitives", prior="classes")
    z = made.latents(range(0, 8000, 4), "z")
    assert torch.equal(z[5:9], made.latents(range(20, 36, 4), "z"))
    centre, covariance = zoo.network.centres[0], zoo.network.roots[0] @ zoo.network.roots[0].T
    spread = covariance.diagonal().sqrt()
    assert ((z.mean(0) - centre).abs() < 5 * spread / math.sqrt(2000)).all()
    assert ((z.std(0) / spread - 1).abs() < 5 / math.sqrt(4000)).all()
    alone = sdf_vae("sdf_primitives", prior="classes", temperature=0.0).latents([2, 6, 3], "z")
    assert torch.equal(alone, zoo.network.centres[[2, 2, 3]])


def test_moments_are_those_of_the_codes_of_a_class() -> None:
    training = SDFVAETraining(Balls(2), 3, 1.0, 16, 1, 2, 1e-3, 0)
    codes = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1.0, 2, 0], [0, 1, 0], [0, 0, 3]]
    )
    training._keep_moments(codes + 1, torch.zeros(50))
    torch.testing.assert_close(training.network.centres[0], codes.mean(0) + 1)
    root = training.network.roots[0]
    torch.testing.assert_close(root @ root.T, torch.cov(codes.T))


def test_errors_name_the_fix(zoo: SDFVAE, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"resolution=16 must be at least 32, that of the training"):
        sdf_vae("sdf_primitives", resolution=16)
    with pytest.raises(ValueError, match=r"temperature=-1 must not be negative"):
        sdf_vae("sdf_primitives", temperature=-1)
    with pytest.raises(ValueError, match=r"prior='gaussian' must be normal or classes"):
        sdf_vae("sdf_primitives", prior="gaussian")
    with pytest.raises(ValueError, match=r"trained on volumes \(1, 32, 32, 32\), these are \(1, 16, 16, 16\)"):
        zoo.encode(torch.zeros(2, 1, 16, 16, 16))
    with pytest.raises(LookupError, match=r"assay train generator=sdf_vae dataset=moons"):
        sdf_vae("moons")
    images = Balls(2)
    images.take = lambda *_: Samples(torch.zeros(1, 1, 28, 28).byte(), None)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="has no volumes: choose one of shapes"):
        learned(tmp_path, images)
    with pytest.raises(ValueError, match="12 points per axis; sdf_vae takes a multiple of 8"):
        learned(tmp_path, sdf_primitives(train=2, test=1, resolution=12))
    with pytest.raises(ValueError, match=r"points=0, latent_dim=48 and weight=5000\.0 must be above 0"):
        learned(tmp_path, Balls(2), points=0)
    write_weights(tmp_path / "other.safetensors", {"x": torch.zeros(1)}, {"family": "vae"}, {})
    with pytest.raises(ValueError, match="holds weights of 'vae', not of 'sdf_vae'"):
        sdf_vae("any", str(tmp_path / "other.safetensors"))
