"""CompVis latent diffusion files, written here in their layout; the first stage against a slow version in float64."""

import json
import math
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.generators.ldm import ldm, recognise
from assay.generators.networks import compvis as module
from assay.generators.networks.compvis import LDM
from assay.generators.networks.first_stage import FirstStage
from assay.harness.core.abilities import Diffusing, Encoder
from assay.harness.core.protocols import Generator
from assay.harness.formats.checkpoint import read_checkpoint

WIDTH, CODE, CODES, SIZE = 32, 3, 20, 4
FLAGS = {"image_size": SIZE, "num_head_channels": 16}
BETAS = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000) ** 2
Get = Callable[..., Tensor]
"""get(name, *shape): a tensor of the file."""
Write = Callable[..., str]


def maker(tensors: dict[str, Tensor], seed: int = 0) -> Get:
    """A `get` that draws what it is asked for, keeps it in `tensors`, and returns it in float64."""
    draw = torch.Generator().manual_seed(seed)

    def get(name: str, *shape: int) -> Tensor:
        if name not in tensors:
            spread = 0.1 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
            one = len(shape) == 1 and "norm" in name and name.endswith("weight")
            tensors[name] = one + spread * torch.randn(*shape, generator=draw)
        return tensors[name].double()

    return get


def group_norm(get: Get, name: str, x: Tensor) -> Tensor:
    groups = x.reshape(len(x), 32, -1)
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, unbiased=False, keepdim=True)
    scale, shift = get(f"{name}.weight", x.shape[1]), get(f"{name}.bias", x.shape[1])
    return ((groups - mean) / (variance + 1e-6).sqrt()).reshape_as(x) * scale[:, None, None] + shift[:, None, None]


def convolution(get: Get, name: str, x: Tensor, out: int, size: int = 3, stride: int = 1, padding: int = 1) -> Tensor:
    weight, bias = get(f"{name}.weight", out, x.shape[1], size, size), get(f"{name}.bias", out)
    return F.conv2d(x, weight, bias, stride, padding if size > 1 else 0)


def block(get: Get, name: str, x: Tensor, out: int) -> Tensor:
    h = convolution(get, f"{name}.conv1", F.silu(group_norm(get, f"{name}.norm1", x)), out)
    h = convolution(get, f"{name}.conv2", F.silu(group_norm(get, f"{name}.norm2", h)), out)
    return h + (x if x.shape[1] == out else convolution(get, f"{name}.nin_shortcut", x, out, 1))


def attention(get: Get, name: str, x: Tensor) -> Tensor:
    n, c, height, width = x.shape
    h = group_norm(get, f"{name}.norm", x)
    q, k, v = (convolution(get, f"{name}.{part}", h, c, 1).reshape(n, c, -1) for part in "qkv")
    result = torch.zeros_like(q)
    for image in range(n):
        for i in range(height * width):
            weights = torch.exp(q[image, :, i] @ k[image] / math.sqrt(c))
            result[image, :, i] = v[image] @ weights / weights.sum()
    return x + convolution(get, f"{name}.proj_out", result.reshape(x.shape), c, 1)


def middle(get: Get, name: str, x: Tensor) -> Tensor:
    x = attention(get, f"{name}.attn_1", block(get, f"{name}.block_1", x, x.shape[1]))
    return block(get, f"{name}.block_2", x, x.shape[1])


def encoded(get: Get, x: Tensor, widths: list[int], attended: bool, kl: bool) -> Tensor:
    x = convolution(get, "encoder.conv_in", x, widths[0])
    for level, width in enumerate(widths):
        x = block(get, f"encoder.down.{level}.block.0", x, width)
        if attended and level == len(widths) - 1:
            x = attention(get, f"encoder.down.{level}.attn.0", x)
        if level < len(widths) - 1:
            padded = torch.cat([x, torch.zeros_like(x[..., :1])], -1)
            padded = torch.cat([padded, torch.zeros_like(padded[..., :1, :])], -2)
            x = convolution(get, f"encoder.down.{level}.downsample.conv", padded, width, stride=2, padding=0)
    x = F.silu(group_norm(get, "encoder.norm_out", middle(get, "encoder.mid", x)))
    out = 2 * CODE if kl else CODE
    return convolution(get, "quant_conv", convolution(get, "encoder.conv_out", x, out), out, 1)


def decoded(get: Get, codes: Tensor, widths: list[int], attended: bool, kl: bool) -> Tensor:
    if not kl:
        codebook = get("quantize.embedding.weight", CODES, CODE)
        distances = (codes.permute(0, 2, 3, 1)[..., None, :] - codebook).square().sum(-1)
        codes = codebook[distances.argmin(-1)].permute(0, 3, 1, 2)
    x = convolution(get, "decoder.conv_in", convolution(get, "post_quant_conv", codes, CODE, 1), widths[-1])
    x = middle(get, "decoder.mid", x)
    for level in reversed(range(len(widths))):
        for i in range(2):
            x = block(get, f"decoder.up.{level}.block.{i}", x, widths[level])
            if attended and level == len(widths) - 1:
                x = attention(get, f"decoder.up.{level}.attn.{i}", x)
        if level:
            x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
            x = convolution(get, f"decoder.up.{level}.upsample.conv", x, widths[level])
    return convolution(get, "decoder.conv_out", F.silu(group_norm(get, "decoder.norm_out", x)), 3)


def unet(get: Get, name: str, out: int) -> None:
    """Draws a network of one level."""

    def layer(part: str, *shape: int) -> None:
        get(f"{name}.{part}.weight", *shape)
        get(f"{name}.{part}.bias", shape[0])

    def residual(part: str, channels: int) -> None:
        layer(f"{part}.in_layers.0", channels)
        layer(f"{part}.in_layers.2", WIDTH, channels, 3, 3)
        layer(f"{part}.emb_layers.1", WIDTH, 4 * WIDTH)
        layer(f"{part}.out_layers.0", WIDTH)
        layer(f"{part}.out_layers.3", WIDTH, WIDTH, 3, 3)
        if channels != WIDTH:
            layer(f"{part}.skip_connection", WIDTH, channels, 1, 1)

    layer("time_embed.0", 4 * WIDTH, WIDTH)
    layer("time_embed.2", 4 * WIDTH, 4 * WIDTH)
    layer("input_blocks.0.0", WIDTH, out, 3, 3)
    residual("input_blocks.1.0", WIDTH)
    residual("middle_block.0", WIDTH)
    layer("middle_block.1.norm", WIDTH)
    layer("middle_block.1.qkv", 3 * WIDTH, WIDTH, 1)
    layer("middle_block.1.proj_out", WIDTH, WIDTH, 1)
    residual("middle_block.2", WIDTH)
    residual("output_blocks.0.0", 2 * WIDTH)
    residual("output_blocks.1.0", 2 * WIDTH)
    layer("out.0", WIDTH)
    layer("out.2", out, WIDTH, 3, 3)


def first_stage(widths: list[int], attended: bool = False, kl: bool = False) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    get = maker(tensors)
    encoded(get, torch.zeros(1, 3, 8, 8).double(), widths, attended, kl)
    decoded(get, torch.zeros(1, CODE, 4, 4).double(), widths, attended, kl)
    return tensors


def state(kl: bool = False, channels: int = CODE) -> dict[str, Tensor]:
    """The state_dict of a random model, its moving average another network than the one in training."""
    trained: dict[str, Tensor] = {}
    average: dict[str, Tensor] = {}
    unet(maker(trained, seed=1), "diffusion_model", channels)
    unet(maker(average, seed=2), "diffusion_model", channels)
    tensors = {"betas": BETAS, "model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}
    tensors |= {f"model.{name}": x for name, x in trained.items()}
    tensors |= {f"model_ema.{name.replace('.', '')}": x for name, x in average.items()}
    parts = first_stage([WIDTH, WIDTH], kl=kl)
    tensors |= {f"first_stage_model.{name}": x for name, x in parts.items()}
    return {**tensors, "first_stage_model.loss.discriminator.weight": torch.zeros(3)}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(state, **flags) saves a checkpoint as old Lightning does, callbacks by class, and returns its path."""

    def save(tensors: dict[str, Tensor], **flags: Any) -> str:
        callbacks = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
        callback = type("ModelCheckpoint", (), {"__module__": callbacks.__name__})
        setattr(callbacks, "ModelCheckpoint", callback)  # noqa: B010 (a module has no such attribute to mypy)
        with pytest.MonkeyPatch.context() as patched:
            for name in ("pytorch_lightning", "pytorch_lightning.callbacks", callbacks.__name__):
                patched.setitem(sys.modules, name, callbacks)
            content = {"epoch": 5, "callbacks": {callback: {"best_model_score": 0.5}}, "state_dict": tensors}
            torch.save(content, tmp_path / "model.ckpt")
        known = {name: value for name, value in {**FLAGS, **flags}.items() if value is not None}
        (tmp_path / "model.args.json").write_text(json.dumps(known))
        return str(tmp_path / "model.ckpt")

    return save


def images(n: int = 2, size: int = 8) -> Tensor:
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kl", [False, True])
@pytest.mark.parametrize("attended", [False, True])
@pytest.mark.parametrize("widths", [[32, 64], [64, 32, 32]])
def test_the_first_stage_computes_what_is_described(widths: list[int], attended: bool, kl: bool) -> None:
    tensors = first_stage(widths, attended, kl)
    network, get = FirstStage(tensors).double(), maker(tensors)
    assert (network.quantised, network.channels, network.factor) == (not kl, CODE, 2 ** (len(widths) - 1))
    x = images().double() * 2 - 1
    mean, logvar = network.posterior(x)
    expected = encoded(get, x, widths, attended, kl)
    torch.testing.assert_close(mean, expected[:, :CODE], rtol=0, atol=1e-10)
    if kl:
        assert logvar is not None
        torch.testing.assert_close(logvar, expected[:, CODE:], rtol=0, atol=1e-10)
    else:
        assert logvar is None
    back = decoded(get, mean, widths, attended, kl)
    torch.testing.assert_close(network.decode(mean), back, rtol=0, atol=1e-10)


def test_codes_are_quantised_and_gradients_pass() -> None:
    network = FirstStage(first_stage([32, 32]))
    codes = torch.randn(1, CODE, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    near = network.nearest(codes.detach())
    assert torch.equal(network.decode(codes), network.decode(near))
    (straight,) = torch.autograd.grad(network.decode(codes).sum(), codes)
    near.requires_grad_()
    (at_codebook,) = torch.autograd.grad(network.decoder(network.post_quant_conv(near)).sum(), near)
    assert straight.abs().max() > 0
    torch.testing.assert_close(straight, at_codebook)


def test_log_variances_are_kept_in_bounds() -> None:
    tensors = first_stage([32, 32], kl=True)
    tensors["quant_conv.bias"] = torch.tensor([0.0, 0, 0, 1e3, -1e3, 0])
    _, logvar = FirstStage(tensors).posterior(images())
    assert logvar is not None
    assert (logvar[:, 0].unique().tolist(), logvar[:, 1].unique().tolist()) == ([20], [-30])


@pytest.mark.parametrize("kl", [False, True])
def test_what_a_generator_promises(write: Write, kl: bool) -> None:
    path = write(state(kl))
    g = ldm("", path, steps=4)
    assert isinstance(g, Generator)
    assert isinstance(g, Encoder)
    assert g.spaces == ("z_0", "x_T")
    x, z = g.latents(range(3), "x_T"), g.latents(range(3), "z_0")
    assert x.shape == z.shape == (3, CODE, SIZE, SIZE)
    assert torch.equal(x, torch.cat([g.latents([i], "x_T") for i in range(3)]))
    single = torch.cat([g.latents([i], "z_0") for i in range(3)])
    torch.testing.assert_close(single, z, rtol=1e-5, atol=1e-5)
    made = g.decode(z, "z_0")
    assert made.shape == (3, 3, 2 * SIZE, 2 * SIZE)
    assert torch.equal(made, g.decode(x, "x_T"))
    assert torch.equal(made, ldm("", path, steps=4).decode(x, "x_T"))
    assert g.encode(made, "mean", ()).shape == z.shape


def test_sampling_is_that_of_the_public_code(write: Write) -> None:
    """Timesteps are shifted by one, and the last ᾱ is the first of the training; here with constant noise."""
    tensors = state()
    tensors["model_ema.diffusion_modelout2weight"].zero_()
    tensors["model_ema.diffusion_modelout2bias"] = torch.full((CODE,), -0.2)
    g = ldm("", write(tensors), steps=4)
    assert isinstance(g, LDM)
    times: list[float] = []
    g.network.register_forward_pre_hook(lambda network, inputs: times.append(inputs[1].tolist()[0]))
    z = g.latents([5], "z_0").double()
    assert times == [751, 501, 251, 1]
    signal = (1 - BETAS.double()).cumprod(0)
    levels = [*signal[[751, 501, 251, 1]].tolist(), float(signal[0])]
    x = g.latents([5], "x_T").double()
    for here, there in zip(levels[:-1], levels[1:], strict=True):  # noqa: RUF007
        x = math.sqrt(there / here) * (x + 0.2 * math.sqrt(1 - here)) - 0.2 * math.sqrt(1 - there)
    torch.testing.assert_close(z, x, rtol=1e-5, atol=1e-5)


def test_the_moving_average_is_used_where_there_is_one(write: Write) -> None:
    both = state()
    trained = {name: x for name, x in both.items() if not name.startswith("model_ema.")}
    average = {
        name: both[f"model_ema.{name.removeprefix('model.').replace('.', '')}"] if name.startswith("model.") else x
        for name, x in trained.items()
    }
    z = [ldm("", write(tensors), steps=2).latents([0], "z_0") for tensors in (both, trained, average)]
    assert torch.equal(z[0], z[2])
    assert (z[0] - z[1]).abs().max() > 0.1
    del both["model_ema.diffusion_modelout2bias"]
    with pytest.raises(
        ValueError, match=r"moving average of 1 tensors is missing; .* model\.diffusion_model\.out\.2\.b"
    ):
        ldm("", write(both))


def test_the_scale_of_codes(write: Write) -> None:
    """From the option, else the file, else the flags, else 1."""
    tensors = state()
    told = {**tensors, "scale_factor": torch.tensor(0.25)}
    x = images()
    whole = ldm("", write(tensors))
    codes = whole.encode(x, "mean", ())  # type: ignore[attr-defined]
    for content, flags, option, scale in (
        (tensors, {}, 0.5, 0.5),
        (tensors, {"scale_factor": 0.125}, None, 0.125),
        (told, {"scale_factor": 0.125}, None, 0.25),
        (told, {}, 2.0, 2.0),
    ):
        g = ldm("", write(content, **flags), scale_factor=option)
        assert isinstance(g, LDM)
        assert (g.scale, g.card["scale_factor"]) == (scale, scale)
        torch.testing.assert_close(g.encode(x), scale * codes)
        torch.testing.assert_close(g.decode(scale * codes, "z_0"), whole.decode(codes, "z_0"), rtol=0, atol=1e-5)
        assert g.fingerprint != whole.fingerprint


def test_encoding_to_points_and_to_normals(write: Write) -> None:
    vq, x = ldm("", write(state())), images()
    assert isinstance(vq, LDM)
    assert torch.equal(vq.encode(x, "sample", [0, 1]), vq.encode(x))
    with pytest.raises(ValueError, match="there is no log variance; choose encode=mean"):
        vq.encode(x, "logvar")
    with pytest.raises(ValueError, match=r"images have shape \[2, 3, 7, 7\]"):
        vq.encode(images(size=7))
    kl = ldm("", write(state(kl=True)), scale_factor=0.5)
    assert isinstance(kl, LDM)
    mean, logvar = kl.encode(x), kl.encode(x, "logvar")
    draws = kl.encode(x[:1].expand(400, -1, -1, -1), "sample", range(400))
    # 48 means of 400 draws: one beyond 4.5 standard errors has a chance of 3e-4
    assert ((draws.mean(0) - mean[0]) / (logvar[0] / 2).exp() * 20).abs().max() < 4.5
    # a sample variance of 400 normals has a relative standard error of 0.071
    assert (draws.var(0) / logvar[0].exp() - 1).abs().max() < 4.5 * 0.071
    pair = kl.encode(x, "sample", [7, 8])
    torch.testing.assert_close(pair[1:], kl.encode(x[1:], "sample", [8]), rtol=0, atol=1e-5)


def test_gradients_and_inversion(write: Write) -> None:
    tensors = state()
    tensors["model_ema.diffusion_modelout2weight"] *= 0.03
    g = ldm("", write(tensors), steps=10)
    assert isinstance(g, LDM)
    x = g.latents([0], "x_T").requires_grad_()
    (gradient,) = torch.autograd.grad(g.decode(x, "x_T").sum(), x)
    assert gradient.abs().min() > 0
    z = g.latents([0], "z_0")
    errors = [float((g.invert(z, n) - x).detach().abs().max()) for n in (1, 8)]
    assert errors[1] < errors[0] / 100


def test_its_steps_end_at_its_sample(write: Write) -> None:
    model = ldm("", write(state()), steps=4)
    assert isinstance(model, LDM)
    assert isinstance(model, Diffusing)
    noise = model.latents(range(6), "x_T")
    steps = model.trajectory(noise)
    assert steps.shape == (6, len(model.levels.times) + 1)
    first, _ = model._denoiser(None)(noise[:4], model.levels.times[0], model.levels.signal[0])
    torch.testing.assert_close(steps[:4, 0], first.flatten(1).square().mean(1).sqrt(), rtol=1e-4, atol=1e-5)
    errors = model.denoising_errors(model.latents(range(6), "z_0"))
    assert errors.shape == (6, 5)
    assert (errors > 0).all()


def test_memory_is_bounded_by_pieces(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    g = ldm("", write(state()), steps=1)
    assert isinstance(g, LDM)
    whole = g.decode(g.latents(range(5), "x_T"), "x_T")
    monkeypatch.setattr(module, "PIXELS", 2 * (2 * SIZE) ** 2)
    sizes: list[int] = []
    for network in (g.network, g.first_stage.decoder):
        network.register_forward_pre_hook(lambda network, inputs: sizes.append(len(inputs[0])))
    torch.testing.assert_close(g.decode(g.latents(range(5), "x_T"), "x_T"), whole, rtol=0, atol=1e-5)
    assert sizes == [4, 4, 2, 2, 1], "the denoiser in batches of one size, the first stage in bounded ones"


def test_files_are_recognised(write: Write) -> None:
    content = read_checkpoint(write(state())).content
    assert recognise(content)
    assert recognise(content["state_dict"])
    assert recognise({"model_index.json": {"_class_name": "LDMPipeline"}})
    assert recognise({"model_index.json": {"_class_name": "LatentDiffusionUncondPipeline"}})
    assert not recognise({"model_index.json": {"_class_name": "DDPMPipeline"}})
    assert not recognise({"state_dict": {"a": torch.zeros(1)}})
    assert not recognise(None)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"image_size": None}, r"model\.ckpt: the training flags lack image_size"),
        ({"num_head_channels": None}, "lack num_heads and num_head_channels"),
        ({"parameterization": "x0"}, "parameterization='x0' is not supported"),
    ],
)
def test_flags_that_do_not_fit(write: Write, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ldm("", write(state(), **flags))


def test_other_wrong_calls(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give generator\.ldm\.path=FILE"):
        ldm("")
    for scale in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"scale_factor=.* must be"):
            ldm("", write(state()), scale_factor=scale)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="holds no ldm generator"):
        ldm("", str(tmp_path / "other.pt"))
    with pytest.raises(ValueError, match="the UNet takes 4 and gives 4 channels, codes of the first stage have 3"):
        ldm("", write(state(channels=4)))
    without = {name: x for name, x in state().items() if name != "betas"}
    with pytest.raises(ValueError, match="neither betas nor alphas_cumprod"):
        ldm("", write(without))
    signal = (1 - BETAS.double()).cumprod(0)
    other = ldm("", write({**without, "alphas_cumprod": signal}), steps=2).latents([0], "z_0")
    torch.testing.assert_close(other, ldm("", write(state()), steps=2).latents([0], "z_0"))
    without = {name: x for name, x in state().items() if name != "first_stage_model.decoder.mid.attn_1.q.weight"}
    with pytest.raises(ValueError, match=r"model\.ckpt: tensor decoder\.mid\.attn_1\.q\.weight is missing"):
        ldm("", write(without))
