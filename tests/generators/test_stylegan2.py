"""StyleGAN2: every layer against the formula in float64, published layouts against the network they were made from."""

import math
import re
import resource
from collections import abc
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.generators.networks.stylegan2_layers import Conv, Mapping, ModulatedConv, ToRGB, fir, upsampled, widened
from assay.generators.networks.stylegan2_networks import Discriminator, StyleGAN2Network, channels
from assay.generators.stylegan2 import StyleGAN2, stylegan2
from assay.harness.core.abilities import Discriminating
from assay.harness.core.files import digest, sha256_of
from assay.harness.formats.weights import write_weights

from ..nvlabs import dump, instance, record

SHAPE: dict[str, Any] = {"z_dim": 8, "c_dim": 0, "w_dim": 6, "resolution": 16, "image_channels": 3, "base": 64,
                         "max_channels": 12, "mapping_layers": 3}  # fmt: skip


def scrambled(network: torch.nn.Module, seed: int = 0) -> Any:
    """The network with every parameter and buffer but the filters drawn anew: none is 0 or 1 by chance of the start."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.state_dict().items():
        if not name.endswith("resample_filter"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return network.eval().requires_grad_(False)


def model(truncation: float = 1.0, label: int | None = None, noise: str = "const", **changes: Any) -> StyleGAN2:
    network = scrambled(StyleGAN2Network(**SHAPE | changes))
    discriminator = scrambled(Discriminator(16, 3, 64, 12), 1)
    fingerprint = digest(truncation, label, noise, changes)
    return StyleGAN2(network, discriminator, network.synthesis.resolution, truncation, noise, label, fingerprint, {})


def lrelu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


# Layers against the formula


def test_the_mapping_is_the_formula() -> None:
    mapping = scrambled(Mapping(8, 4, 6, layers=2, lr=0.01)).double()
    z, labels = torch.randn(5, 8).double(), F.one_hot(torch.tensor([0, 3, 1, 1, 2]), 4).double()
    embedded = labels @ (mapping.embed.weight / 2).T + mapping.embed.bias
    parts = [x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt() for x in (z, embedded)]
    x = torch.cat(parts, 1)
    for layer in (mapping.fc0, mapping.fc1):
        x = lrelu(x @ (layer.weight * 0.01 / math.sqrt(x.shape[1])).T + layer.bias * 0.01)
    assert torch.allclose(mapping(z, labels), x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("clamp", [None, 0.5])
def test_a_modulated_convolution_is_the_formula(up: bool, clamp: float | None) -> None:
    """Weights scaled and normalised image by image, zeros between pixels, the filter, noise, bias, activation."""
    layer = scrambled(ModulatedConv(5, 7, 6, 8, up=up, clamp=clamp)).double()
    x, w = torch.randn(3, 5, 4 if up else 8, 4 if up else 8).double(), torch.randn(3, 6).double()
    style = w @ (layer.affine.weight / math.sqrt(6)).T + layer.affine.bias
    expected = []
    for image, s in zip(x, style, strict=True):
        weight = layer.weight * s[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            spread = torch.zeros(5, 8, 8).double()
            spread[:, ::2, ::2] = image
            convolved = F.conv2d(F.pad(spread, (2, 1, 2, 1))[None], weight.flip(2, 3))
            smooth = fir().double().expand(7, 1, 4, 4) * 4
            out = F.conv2d(F.pad(convolved, (1, 1, 1, 1)), smooth, groups=7)[0]
        else:
            out = F.conv2d(image[None], weight, padding=1)[0]
        out = lrelu(out + layer.noise_const * layer.noise_strength + layer.bias[:, None, None])
        expected.append(out if clamp is None else out.clamp(-clamp, clamp))
    got = layer(x, w, layer.noise_const)
    assert got.shape == torch.stack(expected).shape
    assert torch.allclose(got, torch.stack(expected), rtol=1e-10, atol=1e-10)


def test_colours_are_neither_normalised_nor_activated() -> None:
    layer = scrambled(ToRGB(5, 3, 6)).double()
    x, w = torch.randn(2, 5, 4, 4).double(), torch.randn(2, 6).double()
    style = (w @ (layer.affine.weight / math.sqrt(6)).T + layer.affine.bias) / math.sqrt(5)
    expected = torch.einsum("oi,nihw->nohw", layer.weight[:, :, 0, 0], x * style[:, :, None, None])
    assert torch.allclose(layer(x, w), expected + layer.bias[:, None, None], rtol=1e-12, atol=1e-12)


def test_upsampling_keeps_constants_and_doubles_the_size() -> None:
    up = upsampled(torch.full((1, 2, 6, 6), 3.0), fir())
    assert up.shape == (1, 2, 12, 12)
    assert torch.allclose(up[..., 2:-2, 2:-2], torch.tensor(3.0))


@pytest.mark.parametrize("kernel", [1, 3])
def test_downsampling_smooths_and_then_takes_every_second_pixel(kernel: int) -> None:
    layer = scrambled(Conv(2, 2, kernel, bias=False, active=False, resample="down")).double()
    x = torch.randn(1, 2, 8, 8).double()
    smooth = F.conv2d(F.pad(x, (2, 2, 2, 2)), fir().double().expand(2, 1, 4, 4), groups=2)
    full = F.conv2d(smooth, layer.weight / math.sqrt(2 * kernel**2), padding=kernel // 2)
    assert layer(x).shape == (1, 2, 4, 4)
    # The filter has an even size: the first sample lies half a pixel inside.
    assert torch.allclose(layer(x)[..., 1:-1, 1:-1], full[..., 1::2, 1::2][..., 1:3, 1:3], rtol=1e-10, atol=1e-10)


def test_channels_are_those_of_the_paper() -> None:
    assert channels(1024, 32768, 512) == {
        4: 512,
        8: 512,
        16: 512,
        32: 512,
        64: 512,
        128: 256,
        256: 128,
        512: 64,
        1024: 32,
    }
    with torch.device("meta"):
        full = StyleGAN2Network(512, 0, 512, 1024, 3)
    assert full.num_ws == 18
    assert len(full.state_dict()) == 182
    assert 33.0e6 < sum(tensor.numel() for tensor in full.state_dict().values()) < 33.4e6


# The network


def test_w_vectors_overlap_between_blocks() -> None:
    """A block takes one more vector than it passes by: its last one is the first of the next block."""
    network = scrambled(StyleGAN2Network(**SHAPE))
    w = torch.randn(1, network.num_ws, 6)
    base, touched = network.images(w), []
    for layer in range(network.num_ws):
        changed = w.clone()
        changed[:, layer] += 1
        touched.append(float((network.images(changed) - base).abs().max()))
    assert network.num_ws == 6
    assert min(touched) > 1e-4
    styles: list[Tensor] = []
    for block in network.synthesis.blocks():
        for name in ("conv0", "conv1", "torgb"):
            if hasattr(block, name):
                getattr(block, name).affine.register_forward_pre_hook(lambda _, args: styles.append(args[0]))
    network.images(torch.arange(6.0)[None, :, None].expand(1, 6, 6))
    assert [int(style[0, 0]) for style in styles] == [0, 1, 1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize("architecture", ["skip", "resnet"])
def test_images_do_not_depend_on_the_batch(architecture: str) -> None:
    generator = model(architecture=architecture)
    z = generator.latents(range(9))
    whole = generator.decode(z)
    assert torch.allclose(
        torch.cat([generator.decode(part) for part in torch.split(z, 2)]), whole, rtol=1e-5, atol=1e-5
    )
    assert torch.equal(torch.cat([generator.latents(range(4)), generator.latents(range(4, 9))]), z)


def test_spaces_agree_on_the_image() -> None:
    generator = model(truncation=0.7)
    images = {space: generator.decode(generator.latents(range(3), space), space) for space in generator.spaces}
    assert list(images) == ["z", "w", "w+"]
    assert torch.equal(images["z"], images["w"])
    assert torch.equal(images["z"], images["w+"])


def test_truncation_pulls_towards_the_mean() -> None:
    full, half, none = (model(truncation=psi).latents(range(4), "w") for psi in (1.0, 0.5, 0.0))
    mean = model().network.mapping.w_avg
    assert torch.allclose(half, (full + mean) / 2)
    assert torch.equal(none, mean.expand(4, -1))


def test_noise_can_be_switched_off() -> None:
    z = model().latents(range(2))
    assert not torch.allclose(model().decode(z), model(noise="none").decode(z))
    assert torch.equal(model().decode(z), model().decode(z))


def test_seeds_are_those_of_the_public_tools() -> None:
    import numpy as np

    expected = np.random.RandomState(7).randn(1, 8)
    assert torch.equal(model().latents([7]), torch.from_numpy(expected).float())
    far = model().latents([7 + 2**32, 2**63 + 7])
    assert not torch.equal(far[0], far[1])


def test_gradients_reach_the_latents() -> None:
    for space in ("z", "w", "w+"):
        latents = model().latents(range(2), space).requires_grad_(True)
        model().decode(latents, space).square().sum().backward()  # type: ignore[no-untyped-call]
        assert latents.grad is not None
        assert latents.grad.abs().amin(-1).min() > 0


# Classes


def test_classes_are_drawn_by_seed_or_chosen() -> None:
    drawn, chosen = model(c_dim=3), model(c_dim=3, label=2)
    assert drawn.spaces[0] == "w"
    assert chosen.spaces[0] == "z"
    w = drawn.latents(range(6), "w")
    assert torch.allclose(w[[2, 5]], chosen.latents([2, 5], "w"))
    assert not torch.allclose(w[[0, 1]], chosen.latents([0, 1], "w"))
    with pytest.raises(ValueError, match=r"label=CLASS, or work in space w"):
        drawn.decode(drawn.latents([0], "z"), "z")


# The discriminator


def test_a_logit_does_not_depend_on_the_other_images() -> None:
    generator, images = model(), torch.rand(7, 3, 16, 16)
    assert isinstance(generator, Discriminating)
    whole = generator.discriminate(images)
    assert torch.allclose(
        torch.cat([generator.discriminate(part) for part in torch.split(images, 3)]), whole, atol=1e-5
    )
    assert whole.std() > 1e-3


def test_beside_companions_is_the_group_of_four() -> None:
    discriminator = scrambled(Discriminator(16, 3, 64, 12)).double()
    image, companions = torch.randn(1, 3, 16, 16).double(), torch.randn(3, 3, 16, 16).double()
    together = discriminator(torch.cat([image, companions]))[:1]
    assert torch.allclose(discriminator.beside(image, companions), together, rtol=1e-12)


@pytest.mark.parametrize("count", [1, 3, 6, 7])
def test_batches_that_four_does_not_divide_are_grouped_too(count: int) -> None:
    assert Discriminator(16, 3, 64, 12)(torch.randn(count, 3, 16, 16)).shape == (count,)


# Files


INIT = {
    "z_dim": 8,
    "c_dim": 0,
    "w_dim": 6,
    "img_resolution": 16,
    "img_channels": 3,
    "mapping_kwargs": {"num_layers": 3},
}
ADA = INIT | {"synthesis_kwargs": {"channel_base": 64, "channel_max": 12, "conv_clamp": 256, "num_fp16_res": 4}}
FLAT = INIT | {"channel_base": 64, "channel_max": 12, "fused_modconv_default": "inference_only"}


BUFFERS = ("w_avg", "noise_const", "resample_filter")


def written(
    path: Path, init: dict[str, Any], network: torch.nn.Module, discriminator: torch.nn.Module | None, **options: Any
) -> str:
    """A file in the published layout; options: more arguments of the discriminator."""
    told = {"c_dim": 0, "img_resolution": 16, "img_channels": 3, "channel_base": 64, "channel_max": 12}
    opponent = {}
    if discriminator is not None:
        filters = {f"b{size}.resample_filter": fir() for size in (16, 8)}
        opponent = {"D": record("Discriminator", discriminator.state_dict() | filters, told | options, BUFFERS)}
    return str(dump(path, {"G": None, **opponent, "G_ema": record("Generator", network.state_dict(), init, BUFFERS)}))


@pytest.mark.parametrize("init", [ADA, FLAT], ids=["ada", "stylegan3 code"])
def test_a_published_layout_gives_the_same_images(init: dict[str, Any], tmp_path: Path) -> None:
    network = scrambled(StyleGAN2Network(**SHAPE, clamp=256.0))
    discriminator = scrambled(Discriminator(16, 3, 64, 12, clamp=256.0), 1)
    opened = stylegan2("", written(tmp_path / "any.pkl", init, network, discriminator))
    assert isinstance(opened, StyleGAN2)
    z = opened.latents(range(3))
    assert torch.allclose(opened.decode(z), (network(z) + 1) / 2, rtol=1e-5, atol=1e-5)
    images = torch.rand(2, 3, 16, 16)
    expected = discriminator.beside(images * 2 - 1, network(z))
    assert torch.allclose(opened.discriminate(images), expected, rtol=1e-4, atol=1e-4)
    assert opened.card["sha256"] == sha256_of(tmp_path / "any.pkl")
    assert "not proven" in opened.card["discriminator"]


def test_the_two_code_bases_differ_in_their_default_clamp(tmp_path: Path) -> None:
    network = scrambled(StyleGAN2Network(**SHAPE))
    ada = INIT | {"synthesis_kwargs": {"channel_base": 64, "channel_max": 12}}
    for name, init, clamp in (("a.pkl", ada, None), ("b.pkl", FLAT, 256.0)):
        opened = stylegan2("", written(tmp_path / name, init, network, None))
        assert isinstance(opened, StyleGAN2)
        assert (opened.card["network"]["clamp"], opened.discriminator) == (clamp, None)
        with pytest.raises(ValueError, match="no discriminator"):
            opened.discriminate(torch.rand(1, 3, 16, 16))


def test_what_cannot_be_opened_is_told_in_one_line(tmp_path: Path) -> None:
    network = scrambled(StyleGAN2Network(**SHAPE))
    with pytest.raises(ValueError, match=r"wide\.pkl holds another network: it .*has \d+ tensors of other shapes"):
        stylegan2("", written(tmp_path / "wide.pkl", ADA | {"w_dim": 7}, network, None))
    with pytest.raises(ValueError, match=r"other\.pkl holds no stylegan2"):
        stylegan2("", str(dump(tmp_path / "other.pkl", {"G": None})))
    with pytest.raises(ValueError, match=r"absent\.pkl does not exist; give generator\.stylegan2\.path=FILE"):
        stylegan2("", str(tmp_path / "absent.pkl"))


def changed(init: dict[str, Any], where: str, option: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments with one more option, at the top ("") or in a section."""
    return init | option if not where else init | {where: init.get(where, {}) | option}


@pytest.mark.parametrize(
    ("init", "where", "option", "message"),
    [
        (ADA, "synthesis_kwargs", {"activation": "relu"}, "activation=relu is not supported, only activation=lrelu"),
        (ADA, "mapping_kwargs", {"activation": "relu"}, "activation=relu"),
        (FLAT, "", {"activation": "swish"}, "activation=swish"),
        (FLAT, "", {"kernel_size": 5}, "kernel_size=5 is not supported, only kernel_size=3"),
        (FLAT, "", {"architecture": "orig"}, "architecture='orig' must be 'skip' or 'resnet'"),
        (FLAT, "", {"magic": 1}, "option magic=1 is not supported"),
        (ADA, "", {"conv_clamp": 3}, "option conv_clamp=3 is not supported"),
        (FLAT, "mapping_kwargs", {"normalize": False}, "option normalize=False is not supported"),
        (FLAT, "", {"mapping_kwargs": 3}, "mapping_kwargs=3 must hold options by name"),
        (FLAT, "", {"z_dim": -8}, r"z_dim=-8 must be a whole number"),
        (FLAT, "", {"z_dim": None}, r"z_dim=None must be a whole number"),
        (FLAT, "", {"z_dim": 8.5}, r"z_dim=8.5 must be a whole number"),
        (FLAT, "", {"img_resolution": 24}, r"resolution=24 must be a power of 2"),
        (FLAT, "", {"img_resolution": 64}, r"holds another network: it lacks \d+ tensors"),
        (FLAT, "", {"img_resolution": 2**20}, "base=64 leaves no channel at resolution 1048576"),
        (FLAT, "", {"img_resolution": 2**20, "channel_base": 2**20}, "holds another network: it lacks"),
        (FLAT, "", {"img_resolution": 2**1000000}, r"img_resolution=\(a large number\) must be a whole number"),
        (FLAT, "", {"z_dim": 20000, "w_dim": 20000}, r"holds another network: it .*tensors of other shapes"),
        (FLAT, "mapping_kwargs", {"num_layers": 10**6}, "mapping_layers=1000000 must be a whole number from 1 to 200"),
        (FLAT, "", {"conv_clamp": float("nan")}, r"conv_clamp=nan must be a finite number of at least 0"),
        (FLAT, "", {"resample_filter": [1] * 999}, "resample_filter must be a list of 1 to 64 numbers"),
        (FLAT, "", {"use_noise": "no"}, "use_noise=no must be true or false"),
    ],
)
def test_options_that_are_not_understood_are_refused(
    init: dict[str, Any], where: str, option: dict[str, Any], message: str, tmp_path: Path
) -> None:
    network = scrambled(StyleGAN2Network(**SHAPE))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=message) as error:
        stylegan2("", written(tmp_path / "a.pkl", changed(init, where, option), network, None))
    assert str(error.value).startswith(str(tmp_path / "a.pkl"))
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 200_000, "more than 200 MB were taken"


@pytest.mark.parametrize(
    ("options", "note"),
    [
        (
            {"epilogue_kwargs": {"mbstd_group_size": None}},
            "mbstd_group_size=None: its logits depend on the whole batch",
        ),
        ({"epilogue_kwargs": {"activation": "relu"}}, "option activation=relu is not supported"),
        ({"epilogue_kwargs": {"mbstd_num_channels": 2}}, "option mbstd_num_channels=2"),
        ({"block_kwargs": {"activation": "relu"}}, "option activation=relu"),
        ({"block_kwargs": {"resample_filter": [1, 2, 1]}}, r"option resample_filter=\[1, 2, 1\]"),
        ({"architecture": "skip"}, "option architecture=skip"),
        ({"c_dim": 3}, "option c_dim=3"),
        ({"channel_max": 10**5}, "holds another network"),
        ({"img_resolution": None}, "img_resolution=None must be a whole number"),
        ({"block_kwargs": 7}, "block_kwargs=7 must hold options by name"),
    ],
)
def test_a_discriminator_that_cannot_be_opened_does_not_block_the_generator(
    options: dict[str, Any], note: str, tmp_path: Path
) -> None:
    network, discriminator = scrambled(StyleGAN2Network(**SHAPE, clamp=256.0)), scrambled(Discriminator(16, 3, 64, 12))
    opened = stylegan2("", written(tmp_path / "a.pkl", FLAT, network, discriminator, **options))
    assert isinstance(opened, StyleGAN2)
    assert re.search(rf"in the file, not opened \(.*{note}", opened.card["discriminator"])
    assert torch.allclose(opened.decode(opened.latents([0])) * 2 - 1, network(opened.latents([0])), atol=1e-4)
    with pytest.raises(ValueError, match="no discriminator"):
        opened.discriminate(torch.rand(1, 3, 16, 16))


def test_files_of_assay_that_declare_other_sizes_are_refused(tmp_path: Path) -> None:
    shape = SHAPE | {"family": "stylegan2", "size": 16, "mapping_layers": 2}
    for change in ({"w_dim": 20000, "z_dim": 20000}, {"mapping_layers": 10**6}, {"resolution": 2**20}, {"depth": 3},
                   {"size": 10**9}, {"z_dim": -1}):  # fmt: skip
        write_weights(tmp_path / "a.safetensors", {"x": torch.zeros(1)}, shape | change, {})
        with pytest.raises(ValueError, match=r"a\.safetensors (holds another network|describes no network)"):
            stylegan2("", str(tmp_path / "a.safetensors"))


def tensorflow(
    network: StyleGAN2Network, mapping_options: abc.Mapping[str, Any] = {"mapping_fmaps": 6}, **options: Any
) -> tuple[Any, Any, Any]:
    """The variables of a network under TensorFlow's names and axes, as the reference describes them."""
    own = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    mapping, synthesis = [], [("4x4/Const/const", own["synthesis.b4.const"][None].numpy())]
    for i in range(SHAPE["mapping_layers"]):
        mapping += [(f"Dense{i}/weight", own[f"mapping.fc{i}.weight"].T.numpy())]
        mapping += [(f"Dense{i}/bias", own[f"mapping.fc{i}.bias"].numpy())]
    for name in own:
        if not name.endswith(".affine.weight"):
            continue
        block, layer = name.split(".")[1:3]
        size = int(block[1:])
        theirs = {"conv0": "Conv0_up", "conv1": "Conv" if size == 4 else "Conv1", "torgb": "ToRGB"}[layer]
        path, prefix = f"{size}x{size}/{theirs}", f"synthesis.{block}.{layer}"
        weight = own[f"{prefix}.weight"].permute(2, 3, 1, 0)
        synthesis += [(f"{path}/weight", (weight.flip(0, 1) if layer == "conv0" else weight).numpy())]
        synthesis += [(f"{path}/bias", own[f"{prefix}.bias"].numpy())]
        synthesis += [(f"{path}/mod_weight", own[f"{prefix}.affine.weight"].T.numpy())]
        synthesis += [(f"{path}/mod_bias", (own[f"{prefix}.affine.bias"] - 1).numpy())]
        if layer != "torgb":
            number = {("conv1", 4): 0, ("conv0", 8): 1, ("conv1", 8): 2, ("conv0", 16): 3, ("conv1", 16): 4}[
                layer, size
            ]
            synthesis += [(f"noise{number}", own[f"{prefix}.noise_const"][None, None].numpy())]
            synthesis += [(f"{path}/noise_strength", own[f"{prefix}.noise_strength"].numpy())]
    network_named = "dnnlib.tflib.network.Network"
    parts = {
        "mapping": instance(network_named, static_kwargs={"mapping_layers": 3, **mapping_options}, variables=mapping),
        "synthesis": instance(
            network_named, static_kwargs={"fmap_base": 32, "fmap_max": 12, **options}, variables=synthesis
        ),
    }
    top = {"latent_size": 8, "dlatent_size": 6, "resolution": 16, "num_channels": 3}
    mean = [("dlatent_avg", own["mapping.w_avg"].numpy())]
    text = 'raise RuntimeError("embedded module source was executed")'
    averaged = instance(
        network_named, version=4, static_kwargs=top, components=parts, variables=mean, build_module_src=text
    )
    return (None, None, averaged)


def test_a_tensorflow_layout_gives_the_same_images(tmp_path: Path) -> None:
    network = scrambled(StyleGAN2Network(**SHAPE))
    opened = stylegan2("", str(dump(tmp_path / "tf.pkl", tensorflow(network))))
    assert isinstance(opened, StyleGAN2)
    z = torch.randn(3, 8)
    assert torch.allclose(opened.decode(z) * 2 - 1, network(z), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="no discriminator"):
        opened.discriminate(torch.rand(1, 3, 16, 16))


def test_tensorflow_files_have_hidden_layers_of_512_unless_they_say_otherwise(tmp_path: Path) -> None:
    network = scrambled(StyleGAN2Network(**SHAPE, mapping_width=512))
    opened = stylegan2("", str(dump(tmp_path / "tf.pkl", tensorflow(network, {}))))
    z = torch.randn(2, 8)
    assert torch.allclose(opened.decode(z) * 2 - 1, network(z), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("taps", [[1, 2, 1], [1, 4, 6, 4, 1], [1, 1]])
def test_tensorflow_files_with_another_kernel_smooth_with_it(taps: list[int], tmp_path: Path) -> None:
    size = max(4, len(taps) + len(taps) % 2)
    network = scrambled(StyleGAN2Network(**SHAPE, taps=size))
    plane = torch.outer(torch.tensor(taps).float(), torch.tensor(taps).float())
    for name, kernel in network.state_dict().items():
        if name.endswith("resample_filter"):
            kernel.copy_(widened(plane / plane.sum(), size))
    opened = stylegan2("", str(dump(tmp_path / "tf.pkl", tensorflow(network, resample_kernel=taps))))
    z = torch.randn(2, 8)
    assert torch.allclose(opened.decode(z) * 2 - 1, network(z), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("part", "option", "message"),
    [
        ("mapping", {"mapping_nonlinearity": "relu"}, "mapping_nonlinearity=relu is not supported"),
        ("mapping", {"normalize_latents": False}, "normalize_latents=False is not supported"),
        ("mapping", {"mapping_layers": 2}, "unexpected variables such as Dense2/bias"),
        ("synthesis", {"nonlinearity": "relu"}, "nonlinearity=relu is not supported"),
        ("synthesis", {"fmap_decay": 2.0}, "fmap_decay=2.0 is not supported"),
        ("synthesis", {"fmap_min": 8}, "fmap_min=8 is not supported"),
        ("synthesis", {"dtype": "float16"}, "dtype=float16 is not supported"),
        (
            "synthesis",
            {"synthesis_func": "G_synthesis_stylegan_revised"},
            "synthesis_func=G_synthesis_stylegan_revised",
        ),
        ("synthesis", {"blur": [1]}, r"option blur=\[1\] is not supported"),
        ("synthesis", {"resolution": 32}, "different options resolution: 16 and 32"),
        ("synthesis", {"resample_kernel": [1, -1]}, "resample_kernel must have a positive sum"),
        ("synthesis", {"fmap_max": 10**5}, "holds another network"),
    ],
)
def test_tensorflow_options_that_are_not_understood_are_refused(
    part: str, option: dict[str, Any], message: str, tmp_path: Path
) -> None:
    network = scrambled(StyleGAN2Network(**SHAPE))
    mapping = {"mapping_fmaps": 6} | (option if part == "mapping" else {})
    content = tensorflow(network, mapping, **(option if part == "synthesis" else {}))
    with pytest.raises(ValueError, match=rf"tf\.pkl.*{message}"):
        stylegan2("", str(dump(tmp_path / "tf.pkl", content)))


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="noise='loud'"):
        stylegan2("fashion_mnist", noise="loud")
    with pytest.raises(LookupError, match=r"assay train generator=stylegan2 dataset=nowhere"):
        stylegan2("nowhere")
