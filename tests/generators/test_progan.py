"""Progressive GAN: files in both published layouts against the formulas in float64, nothing folded."""

import itertools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.generators.progan import doubling_kernel, progan
from assay.harness.core.registry import GENERATORS, discover
from assay.harness.formats.checkpoint import read_checkpoint

from ..nvlabs import dump, instance, save

Z, WIDTHS = 6, (8, 8, 10, 9)
CONFIG = {"noiseVectorDim": Z, "latentVectorDim": Z, "depthScale0": 8, "depthOtherScales": [8, 10, 9], "dimOutput": 3,
          "leakyReluLeak": 0.2, "alpha": 0, "equalizedlR": True, "perChannelNormalization": True,
          "lossCriterion": "WGANGP", "categoryVectorDim": 0}  # fmt: skip
Weights = dict[str, Tensor]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def pytorch_weights(seed: int = 0) -> Weights:
    draws = torch.Generator().manual_seed(seed)
    shapes = {"formatLayer": (16 * WIDTHS[0], Z), "groupScale0.0": (WIDTHS[0], WIDTHS[0], 3, 3)}
    shapes |= {f"toRGBLayers.{i}": (3, width, 1, 1) for i, width in enumerate(WIDTHS)}
    for i, (before, after) in enumerate(itertools.pairwise(WIDTHS)):
        shapes |= {f"scaleLayers.{i}.0": (after, before, 3, 3), f"scaleLayers.{i}.1": (after, after, 3, 3)}
    parts = {f"{name}.module.weight": shape for name, shape in shapes.items()}
    parts |= {f"{name}.module.bias": shape[:1] for name, shape in shapes.items()}
    return {name: torch.randn(shape, generator=draws) for name, shape in parts.items()}


def pytorch_file(path: Path, weights: Mapping[str, Tensor], **changes: Any) -> str:
    config = instance("models.utils.config.BaseConfig", **CONFIG | changes)
    training = {f"module.{name}": tensor + 1 for name, tensor in weights.items()}
    return str(save(path, {"config": config, "netG": training, "netD": {}, "avgG": dict(weights)}))


def tensorflow_weights(fused: bool, seed: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """Kernels [k, k, in, out]; the fused one [k, k, out, in] as its transposed convolution wants it."""
    draws = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"4x4/Dense": (Z, 16 * WIDTHS[0]), "4x4/Conv": (3, 3, WIDTHS[0], WIDTHS[0])}
    outputs = {"4x4/Dense": WIDTHS[0]}
    for i, (before, after) in enumerate(itertools.pairwise(WIDTHS)):
        name = f"{8 << i}x{8 << i}"
        kernel = {f"{name}/Conv0_up": (3, 3, after, before)} if fused else {f"{name}/Conv0": (3, 3, before, after)}
        outputs[f"{name}/Conv0_up"] = after
        shapes |= kernel | {f"{name}/Conv1": (3, 3, after, after)}
    shapes |= {f"ToRGB_lod{len(WIDTHS) - 1 - i}": (1, 1, width, 3) for i, width in enumerate(WIDTHS)}
    arrays = {f"{name}/weight": draws.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    arrays |= {f"{n}/bias": draws.standard_normal(outputs.get(n, s[-1]), np.float32) for n, s in shapes.items()}
    return {"lod": np.float32(0.0)} | arrays


def tensorflow_file(path: Path, arrays: Mapping[str, Any], **static: Any) -> str:
    def network(values: list[Any]) -> Any:
        options = {"num_channels": 3, "resolution": 4 << (len(WIDTHS) - 1), "label_size": 0} | static
        return instance("tfutil.Network", version=2, name="G", static_kwargs=options, variables=values,
                        build_module_src="raise RuntimeError")  # fmt: skip

    training = [(name, np.asarray(array + 1)) for name, array in arrays.items()]
    return str(dump(path, (network(training), network([]), network(list(arrays.items()))), protocol=2))


def settled(x: Tensor) -> Tensor:
    x = torch.where(x > 0, x, 0.2 * x)
    return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()


def doubled(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3)


def unit(z: Tensor) -> Tensor:
    return z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()


def slow_pytorch(weights: Mapping[str, Tensor], z: Tensor) -> Tensor:
    """He's gain multiplies the output of every layer, its bias included; the gain of the last layer too."""
    p = {name: tensor.double() for name, tensor in weights.items()}

    def layer(x: Tensor, name: str) -> Tensor:
        weight, bias = p[f"{name}.module.weight"], p[f"{name}.module.bias"]
        out = F.linear(x, weight, bias) if weight.ndim == 2 else F.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
        return out * math.sqrt(2 / weight[0].numel())

    x = settled(layer(unit(z.double()), "formatLayer").reshape(len(z), WIDTHS[0], 4, 4))
    x = settled(layer(x, "groupScale0.0"))
    for i in range(len(WIDTHS) - 1):
        x = settled(layer(settled(layer(doubled(x), f"scaleLayers.{i}.0")), f"scaleLayers.{i}.1"))
    return layer(x, f"toRGBLayers.{len(WIDTHS) - 1}")


def slow_tensorflow(arrays: Mapping[str, Any], z: Tensor) -> Tensor:
    """Gains multiply weights alone; a fused kernel is four shifted copies, summed, in a transposed convolution."""
    p = {name: torch.as_tensor(array).double() for name, array in arrays.items()}

    def conv(x: Tensor, name: str, gain: float = math.sqrt(2)) -> Tensor:
        weight = p[f"{name}/weight"]
        scale = gain / math.sqrt(weight.shape[0] * weight.shape[1] * weight.shape[2])
        return F.conv2d(x, weight.permute(3, 2, 0, 1) * scale, p[f"{name}/bias"], padding=len(weight) // 2)

    def up(x: Tensor, name: str) -> Tensor:
        if f"{name}/Conv0/weight" in p:
            return conv(doubled(x), f"{name}/Conv0")
        weight = p[f"{name}/Conv0_up/weight"]
        weight = F.pad(weight * math.sqrt(2 / (9 * weight.shape[3])), [0, 0, 0, 0, 1, 1, 1, 1])
        weight = weight[1:, 1:] + weight[:-1, 1:] + weight[1:, :-1] + weight[:-1, :-1]
        return F.conv_transpose2d(x, weight.permute(3, 2, 0, 1), p[f"{name}/Conv0_up/bias"], stride=2, padding=1)

    dense = unit(z.double()) @ p["4x4/Dense/weight"] * (math.sqrt(2) / 4 / math.sqrt(Z))
    x = settled(dense.reshape(len(z), WIDTHS[0], 4, 4) + p["4x4/Dense/bias"][:, None, None])
    x = settled(conv(x, "4x4/Conv"))
    for i in range(len(WIDTHS) - 1):
        name = f"{8 << i}x{8 << i}"
        x = settled(conv(settled(up(x, name)), f"{name}/Conv1"))
    return conv(x, "ToRGB_lod0", gain=1)


def test_the_doubling_kernel_equals_doubling_and_convolving() -> None:
    x, weight = torch.randn(2, 5, 6, 7).double(), torch.randn(4, 5, 3, 3).double()
    expected = F.conv2d(doubled(x), weight, padding=1)
    assert torch.allclose(F.conv_transpose2d(x, doubling_kernel(weight), stride=2, padding=1), expected, atol=1e-12)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_pytorch_file_gives_the_images_of_the_text(tmp_path: Path, prefix: str) -> None:
    weights, z = pytorch_weights(), torch.randn(3, Z)
    model = progan("", pytorch_file(tmp_path / "a.pth", {f"{prefix}{name}": t for name, t in weights.items()}))
    expected = slow_pytorch(weights, z)
    found = model.decode(z, "z") * 2 - 1
    assert found.shape == (3, 3, 32, 32)
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("fused", [True, False])
def test_a_tensorflow_file_gives_the_images_of_the_text(tmp_path: Path, fused: bool) -> None:
    """Both ways of doubling: real files have the plain one, Conv0, as their converters show (genforce/genforce)."""
    arrays, z = tensorflow_weights(fused), torch.randn(3, Z)
    expected = slow_tensorflow(arrays, z)
    found = progan("", tensorflow_file(tmp_path / "a.pkl", arrays)).decode(z, "z") * 2 - 1
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def test_fused_and_plain_doubling_agree(tmp_path: Path) -> None:
    """A fused kernel is the plain one turned round and with inputs and outputs exchanged."""
    plain = tensorflow_weights(fused=False)
    fused = {
        name.replace("Conv0/", "Conv0_up/"): array[::-1, ::-1].swapaxes(2, 3) if "Conv0/weight" in name else array
        for name, array in plain.items()
    }
    one, other = (progan("", tensorflow_file(tmp_path / f"{i}.pkl", a)) for i, a in enumerate((plain, fused)))
    z = torch.randn(2, Z)
    assert (one.decode(z, "z") - other.decode(z, "z")).abs().max() < 1e-5


@pytest.fixture
def file(tmp_path: Path) -> str:
    return pytorch_file(tmp_path / "progan.pth", pytorch_weights())


def test_latents_and_fingerprints(tmp_path: Path, file: str) -> None:
    model, same = progan("", file), progan("", file)
    other = progan("", pytorch_file(tmp_path / "other.pth", pytorch_weights(seed=1)))
    assert model.spaces == ("z",)
    assert model.fingerprint == same.fingerprint != other.fingerprint
    assert np.allclose(model.latents([7], "z"), np.random.RandomState(7).randn(1, Z), atol=1e-7)
    z = model.latents([0, 1, 2, 3], "z")
    assert torch.equal(z, torch.cat([model.latents([0, 1], "z"), model.latents([2, 3], "z")]))
    assert torch.equal(model.decode(z, "z"), same.decode(z, "z"))


def test_images_do_not_depend_on_their_batch(file: str) -> None:
    model = progan("", file)
    z = model.latents(range(6), "z")
    alone = torch.cat([model.decode(one[None], "z") for one in z])
    assert (model.decode(z, "z") - alone).abs().max() < 1e-5


def test_gradients_are_those_of_the_images(file: str) -> None:
    network = progan("", file).network.double()  # type: ignore[attr-defined]
    z, direction, weight = torch.randn(1, Z).double(), torch.randn(1, Z).double(), torch.randn(1, 3, 32, 32).double()
    gradient = torch.autograd.grad((network(z.requires_grad_()) * weight).sum(), z)[0]
    step = 1e-6 * direction
    difference = ((network(z + step) - network(z - step)) * weight).sum() / 2e-6
    assert torch.allclose((gradient * direction).sum(), difference, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"latentVectorDim": Z + 2}, "class-conditional"),
        ({"alpha": 0.25}, r"fading in \(alpha=0.25\)"),
        ({"lossCriterion": "DCGAN"}, "option lossCriterion=DCGAN is not supported, only lossCriterion=WGANGP"),
        ({"equalizedlR": False}, "option equalizedlR=False is not supported"),
    ],
)
def test_pytorch_files_of_another_arithmetic_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        progan("", pytorch_file(tmp_path / "a.pth", pytorch_weights(), **changes))


def test_tensorflow_files_of_another_arithmetic_are_refused(tmp_path: Path) -> None:
    arrays = tensorflow_weights(fused=True)
    with pytest.raises(ValueError, match=r"class-conditional"):
        progan("", tensorflow_file(tmp_path / "a.pkl", arrays, label_size=10))
    with pytest.raises(ValueError, match=r"fading in \(lod=0.5\)"):
        progan("", tensorflow_file(tmp_path / "b.pkl", arrays | {"lod": np.float32(0.5)}))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"use_wscale": False}, "option use_wscale=False is not supported, only use_wscale=True"),
        ({"use_leakyrelu": False}, "option use_leakyrelu=False is not supported"),
        ({"use_pixelnorm": False}, "option use_pixelnorm=False is not supported"),
        ({"normalize_latents": False}, "option normalize_latents=False is not supported"),
        ({"pixelnorm_epsilon": 1e-4}, "option pixelnorm_epsilon=0.0001 is not supported"),
        ({"dtype": "float16"}, "option dtype=float16 is not supported"),
        ({"spectral": True}, "option spectral=True is not supported"),
    ],
)
def test_tensorflow_options_that_are_not_understood_are_refused(
    tmp_path: Path, option: dict[str, Any], message: str
) -> None:
    usual = {"use_wscale": True, "fused_scale": False, "fmap_base": 128, "structure": None}
    file = tensorflow_file(tmp_path / "a.pkl", tensorflow_weights(fused=False), **usual | option)
    with pytest.raises(ValueError, match=rf"a\.pkl cannot be opened: {message}"):
        progan("", file)
    progan("", tensorflow_file(tmp_path / "a.pkl", tensorflow_weights(fused=False), **usual))


def test_variables_that_are_not_used_are_named(tmp_path: Path) -> None:
    extra = tensorflow_weights(fused=False) | {"8x8/Noise/weight": np.zeros(3, np.float32)}
    with pytest.raises(ValueError, match="1 unexpected tensors such as 8x8/Noise/weight"):
        progan("", tensorflow_file(tmp_path / "a.pkl", extra))
    more = pytorch_weights() | {"groupScale0.1.module.weight": torch.zeros(8, 8, 3, 3)}
    with pytest.raises(ValueError, match=r"1 unexpected tensors such as groupScale0\.1\.weight"):
        progan("", pytorch_file(tmp_path / "b.pth", more))


def test_declared_widths_take_no_memory(tmp_path: Path) -> None:
    """A bias of a million numbers stands for a convolution of 36 TB."""
    weights = pytorch_weights() | {"groupScale0.0.module.bias": torch.zeros(10**6)}
    with pytest.raises(ValueError, match="holds another network"):
        progan("", pytorch_file(tmp_path / "a.pth", weights))


def test_a_dcgan_of_the_gan_zoo_is_not_taken_for_it(tmp_path: Path) -> None:
    tensors = {"formatLayer.weight": torch.zeros(4, 8, 4, 4), "main.outlayer.weight": torch.zeros(4, 3, 4, 4)}
    file = save(tmp_path / "a.pth", {"config": instance("models.utils.config.BaseConfig"), "avgG": tensors})
    assert not GENERATORS["progan"].recognise(read_checkpoint(file).content)
    with pytest.raises(ValueError, match="holds no progan generator"):
        progan("", str(file))


def test_bad_files_say_what_is_wrong(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "none.pth")):
        with pytest.raises(ValueError, match=r"give generator.progan.path=FILE"):
            progan("", path)
    weights = pytorch_weights()
    missing = {name: tensor for name, tensor in weights.items() if name != "formatLayer.module.bias"}
    with pytest.raises(ValueError, match=r"cannot be opened: it has no 'formatLayer.bias'"):
        progan("", pytorch_file(tmp_path / "missing.pth", missing))
    bent = weights | {"scaleLayers.1.1.module.weight": torch.zeros(10, 4, 3, 3)}
    with pytest.raises(ValueError, match=r"holds another network") as error:
        progan("", pytorch_file(tmp_path / "bent.pth", bent))
    assert "\n" not in str(error.value)


def test_they_are_recognised_by_no_other_family(tmp_path: Path, file: str) -> None:
    discover()
    for path in (file, tensorflow_file(tmp_path / "a.pkl", tensorflow_weights(fused=False))):
        content = read_checkpoint(path).content
        known = [name for name, entry in GENERATORS.items() if entry.recognise and entry.recognise(content)]
        assert known == ["progan"]
    assert progan("", file).card["discriminator"] == "none in the file"  # type: ignore[attr-defined]
