"""The UNet against a slow version in float64, written from the description of the architecture, attention by loops."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.generators.networks.openai_unet import Heads, UNet, time_embedding
from assay.generators.networks.training_flags import flag, heads_of, read_flags

Get = Callable[..., Tensor]
"""get(name, *shape): a tensor of the file."""


@dataclass(frozen=True)
class Design:
    """A network as its training flags describe it; attention: whether each level has any."""

    heads: Heads
    width: int = 32
    mult: Sequence[float] = (1, 2)
    blocks: int = 1
    attention: Sequence[bool] = (False, True)
    film: bool = True
    updown: bool = False
    classes: int = 0
    out: int = 6


DESIGNS = {
    "iddpm": Design(Heads(count=2), mult=(1, 2, 1), attention=(False, True, True), blocks=2),
    "adm": Design(Heads(count=4, width=16), updown=True, classes=3),
    "new order": Design(Heads(width=16, new_order=True), updown=True, attention=(True, False), blocks=2),
    "ldm": Design(Heads(width=32), film=False, mult=(1, 1), out=3),
    "one level": Design(Heads(count=4, count_up=8), mult=(1,), attention=(True,), blocks=2),
    "half": Design(Heads(count=2), width=64, mult=(0.5, 1), updown=True),
    "other heads above": Design(Heads(count=4, count_up=2), attention=(True, True)),
}


def group_norm(get: Get, name: str, x: Tensor) -> Tensor:
    n, c = x.shape[:2]
    groups = x.reshape(n, 32, -1)
    mean, variance = groups.mean(2, keepdim=True), groups.var(2, unbiased=False, keepdim=True)
    scale, shift = get(f"{name}.weight", c), get(f"{name}.bias", c)
    return ((groups - mean) / (variance + 1e-5).sqrt()).reshape_as(x) * scale[:, None, None] + shift[:, None, None]


def convolution(get: Get, name: str, x: Tensor, out: int, size: int = 3, stride: int = 1) -> Tensor:
    weight, bias = get(f"{name}.weight", out, x.shape[1], size, size), get(f"{name}.bias", out)
    return F.conv2d(x, weight, bias, stride=stride, padding=size // 2)


def linear(get: Get, name: str, x: Tensor, out: int) -> Tensor:
    return x @ get(f"{name}.weight", out, x.shape[1]).T + get(f"{name}.bias", out)


def silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def resized(x: Tensor, resize: str) -> Tensor:
    if resize == "down":
        return (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
    return x.repeat_interleave(2, 2).repeat_interleave(2, 3) if resize == "up" else x


def residual(get: Get, d: Design, name: str, x: Tensor, time: Tensor, out: int, resize: str = "") -> Tensor:
    h = resized(silu(group_norm(get, f"{name}.in_layers.0", x)), resize)
    h = convolution(get, f"{name}.in_layers.2", h, out)
    shift = linear(get, f"{name}.emb_layers.1", silu(time), 2 * out if d.film else out)[:, :, None, None]
    if d.film:
        h = group_norm(get, f"{name}.out_layers.0", h) * (1 + shift[:, :out]) + shift[:, out:]
    else:
        h = group_norm(get, f"{name}.out_layers.0", h + shift)
    h = convolution(get, f"{name}.out_layers.3", silu(h), out)
    x = resized(x, resize)
    return h + (x if x.shape[1] == out else convolution(get, f"{name}.skip_connection", x, out, 1))


def attention(get: Get, d: Design, name: str, x: Tensor) -> Tensor:
    n, c, height, width = x.shape
    count = (d.heads.count_up if "output" in name else None) or d.heads.count
    heads = c // d.heads.width if d.heads.width else count
    assert heads is not None
    weight, bias = get(f"{name}.qkv.weight", 3 * c, c, 1), get(f"{name}.qkv.bias", 3 * c)
    flat, size = group_norm(get, f"{name}.norm", x).reshape(n, c, -1), c // heads
    result = torch.zeros_like(flat)
    for image in range(n):
        rows = weight[:, :, 0] @ flat[image] + bias[:, None]
        for head in range(heads):
            starts = [part * c + head * size if d.heads.new_order else (head * 3 + part) * size for part in range(3)]
            q, k, v = (rows[start : start + size] for start in starts)
            weights = torch.exp(q.T @ k / math.sqrt(size))
            result[image, head * size : (head + 1) * size] = v @ (weights / weights.sum(1, keepdim=True)).T
    weight, bias = get(f"{name}.proj_out.weight", c, c, 1), get(f"{name}.proj_out.bias", c)
    return x + (weight[:, :, 0] @ result + bias[:, None]).reshape(n, c, height, width)


def unet(get: Get, d: Design, x: Tensor, t: Tensor, label: Tensor | None) -> Tensor:
    embedding = [
        [f(s * 10000 ** (-k / (d.width // 2))) for f in (math.cos, math.sin) for k in range(d.width // 2)]
        for s in t.tolist()
    ]
    time = linear(get, "time_embed.0", torch.tensor(embedding).to(x), 4 * d.width)
    time = linear(get, "time_embed.2", silu(time), 4 * d.width)
    if label is not None:
        time = time + get("label_emb.weight", d.classes, 4 * d.width)[label]
    widths, last = [int(m * d.width) for m in d.mult], len(d.mult) - 1
    x = convolution(get, "input_blocks.0.0", x, widths[0])
    skips, at = [x], 1
    for level, width in enumerate(widths):
        for _ in range(d.blocks):
            x = residual(get, d, f"input_blocks.{at}.0", x, time, width)
            if d.attention[level]:
                x = attention(get, d, f"input_blocks.{at}.1", x)
            skips.append(x)
            at += 1
        if level != last:
            if d.updown:
                x = residual(get, d, f"input_blocks.{at}.0", x, time, width, "down")
            else:
                x = convolution(get, f"input_blocks.{at}.0.op", x, width, stride=2)
            skips.append(x)
            at += 1
    x = residual(get, d, "middle_block.0", x, time, widths[-1])
    x = attention(get, d, "middle_block.1", x)
    x = residual(get, d, "middle_block.2", x, time, widths[-1])
    at = 0
    for level in reversed(range(len(widths))):
        for i in range(d.blocks + 1):
            x = residual(get, d, f"output_blocks.{at}.0", torch.cat([x, skips.pop()], 1), time, widths[level])
            if d.attention[level]:
                x = attention(get, d, f"output_blocks.{at}.1", x)
            if level and i == d.blocks:
                name = f"output_blocks.{at}.{1 + d.attention[level]}"
                if d.updown:
                    x = residual(get, d, name, x, time, widths[level], "up")
                else:
                    x = convolution(get, f"{name}.conv", resized(x, "up"), widths[level])
            at += 1
    return convolution(get, "out.2", silu(group_norm(get, "out.0", x)), d.out)


def inputs(d: Design) -> tuple[Tensor, Tensor, Tensor | None]:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return x, torch.tensor([10.0, 900.25]), torch.tensor([2, 0]) if d.classes else None


@functools.cache
def make(d: Design) -> tuple[dict[str, Tensor], Tensor]:
    """A random file of this design, and what the slow version makes of `inputs`."""
    tensors: dict[str, Tensor] = {}
    draw = torch.Generator().manual_seed(0)

    def get(name: str, *shape: int) -> Tensor:
        spread = 0.1 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
        tensor = spread * torch.randn(*shape, generator=draw)
        norm = len(shape) == 1 and name.endswith(".weight")
        tensors[name] = tensor + 1 if norm else tensor
        return tensors[name].double()

    x, t, label = inputs(d)
    return tensors, unet(get, d, x.double(), t, label)


@pytest.mark.parametrize("name", DESIGNS)
def test_the_network_computes_what_is_described(name: str) -> None:
    design = DESIGNS[name]
    tensors, expected = make(design)
    network = UNet(tensors, design.heads)
    torch.testing.assert_close(network(*inputs(design)).double(), expected, rtol=0, atol=2e-5)
    assert (network.classes, network.levels) == (design.classes, len(design.mult))
    assert (network.in_channels, network.out_channels) == (3, design.out)


def published(size: int, width: int, mult: Sequence[float], blocks: int) -> tuple[dict[str, Tensor], Heads]:
    """Tensors without values of ADM for ImageNet (arXiv:2105.05233, hyperparameters), and its heads.

    Attention is at 32, 16 and 8 pixels, with 64 channels a head.
    """
    attention = tuple(size // 2**level in (32, 16, 8) for level in range(len(mult)))
    design = Design(Heads(width=64), width, mult, blocks, attention, updown=True, classes=1000)
    shapes: dict[str, Tensor] = {}

    def get(name: str, *shape: int) -> Tensor:
        shapes[name] = torch.empty(*shape, device="meta")
        return shapes[name]

    label = torch.empty(1, dtype=torch.long, device="meta")
    unet(get, design, torch.empty(1, 3, 64, 64, device="meta"), torch.tensor([1.0]), label)
    return shapes, design.heads


@pytest.mark.parametrize(
    ("size", "width", "mult", "blocks", "millions"),
    [
        (64, 192, (1, 2, 3, 4), 3, 296),
        (128, 256, (1, 1, 2, 3, 4), 2, 422),
        (256, 256, (1, 1, 2, 2, 4, 4), 2, 554),
        (512, 256, (0.5, 1, 1, 2, 2, 4, 4), 2, 559),
    ],
)
def test_published_networks_have_their_published_size(
    size: int, width: int, mult: Sequence[float], blocks: int, millions: int
) -> None:
    shapes, heads = published(size, width, mult, blocks)
    network = UNet(shapes, heads)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6) == millions
    assert network.levels == len(mult)


@pytest.mark.parametrize("change", [{"new_order": False}, {"width": 32}])
def test_heads_cannot_be_seen_in_the_file_and_matter(change: dict[str, Any]) -> None:
    design = DESIGNS["new order"]
    tensors, expected = make(design)
    other = UNet(tensors, dataclasses.replace(design.heads, **change))(*inputs(design))
    assert (other - expected).abs().max() > 1e-3


def test_half_precision_is_read_as_float32() -> None:
    design = DESIGNS["adm"]
    half = {name: x.half() for name, x in make(design)[0].items()}
    network = UNet(half, design.heads)
    assert {p.dtype for p in network.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in network.parameters())
    same = UNet({name: x.float() for name, x in half.items()}, design.heads)
    assert torch.equal(network(*inputs(design)), same(*inputs(design)))


def test_each_item_is_for_itself() -> None:
    design = DESIGNS["iddpm"]
    network = UNet(make(design)[0], design.heads)
    x, t, _ = inputs(design)
    torch.testing.assert_close(network(x, t)[1:], network(x[1:], t[1:]), rtol=0, atol=1e-5)


def test_gradients_reach_the_images() -> None:
    design = DESIGNS["ldm"]
    tensors, _ = make(design)
    x, t, _ = inputs(design)
    x = x[:1].requires_grad_()
    output = UNet(tensors, design.heads)(x, t[:1])
    (gradient,) = torch.autograd.grad(output[0, 0, 3, 3], x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(2)).double()
    ends = [
        unet(lambda name, *_: tensors[name].double(), design, x.detach().double() + e * direction, t[:1], None)
        for e in (1e-5, -1e-5)
    ]
    slope = (ends[0] - ends[1])[0, 0, 3, 3] / 2e-5
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-3)


def test_odd_widths_end_with_zero() -> None:
    embedding = time_embedding(torch.tensor([3]), 5)
    expected = [math.cos(3), math.cos(0.03), math.sin(3), math.sin(0.03), 0]
    assert embedding[0].tolist() == pytest.approx(expected, abs=1e-6)


def test_damaged_files_are_told_by_the_tensor() -> None:
    design = DESIGNS["adm"]
    tensors, _ = make(design)
    without = {name: x for name, x in tensors.items() if name != "input_blocks.1.0.out_layers.3.weight"}
    with pytest.raises(ValueError, match=r"1 tensors are missing; the first is input_blocks\.1\.0\.out_layers\.3\.we"):
        UNet(without, design.heads)
    without = {name: x for name, x in tensors.items() if name != "input_blocks.1.0.in_layers.2.weight"}
    with pytest.raises(ValueError, match=r"tensor input_blocks\.1\.0\.in_layers\.2\.weight is missing"):
        UNet(without, design.heads)
    with pytest.raises(ValueError, match=r"2 tensors are not of this network; the first is another\.bias"):
        UNet({**tensors, "another.weight": torch.zeros(1), "another.bias": torch.zeros(1)}, design.heads)
    with pytest.raises(ValueError, match=r"1 tensors are of another shape; the first is time_embed\.2\.bias"):
        UNet({**tensors, "time_embed.2.bias": torch.zeros(5)}, design.heads)
    with pytest.raises(ValueError, match=r"tensor out\.2\.weight has shape \[6\], expected 4 axes"):
        UNet({**tensors, "out.2.weight": torch.zeros(6)}, design.heads)


@pytest.mark.parametrize("heads", [Heads(count=5), Heads(width=48), Heads()])
def test_heads_must_divide_the_channels(heads: Heads) -> None:
    tensors, _ = make(DESIGNS["adm"])
    with pytest.raises(ValueError, match=r"attention over 64 channels cannot be divided into Heads"):
        UNet(tensors, heads)


def test_flags_are_found_beside_the_checkpoint(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.pt"
    with pytest.raises(ValueError, match=r"model\.args\.json beside it, or give generator\.adm\.args=FILE"):
        read_flags(checkpoint, "", "adm")
    (tmp_path / "model.args.yaml").write_text("num_heads: 4\nuse_new_attention_order: true\n")
    assert read_flags(checkpoint, "", "adm") == {"num_heads": 4, "use_new_attention_order": True}
    (tmp_path / "model.pt.args.json").write_text(json.dumps({"num_heads": 4, "num_head_channels": -1}))
    assert read_flags(checkpoint, "", "adm") == {"num_heads": 4, "num_head_channels": -1}
    (tmp_path / "other.json").write_text(json.dumps({"num_heads": 1}))
    assert read_flags(checkpoint, str(tmp_path / "other.json"), "adm") == {"num_heads": 1}
    with pytest.raises(ValueError, match=r"missing\.json does not exist; give generator\.ldm\.args=FILE"):
        read_flags(checkpoint, str(tmp_path / "missing.json"), "ldm")


@pytest.mark.parametrize(
    ("stray", "message"),
    [
        ({"num_heads": 8}, r"model\.args\.json and config\.yaml .* num_head_channels is -1 and 32"),
        ({"num_head_channels": 32, "image_size": 8}, "image_size is 8 and 64"),
    ],
)
def test_flags_of_another_file_beside_the_checkpoint_are_refused(
    tmp_path: Path, stray: dict[str, int], message: str
) -> None:
    """Flags of another family there gave images that were wrong by .83 of the largest value, without a word."""
    config = {"model": {"params": {"unet_config": {"params": {"image_size": 64, "num_head_channels": 32}}}}}
    (tmp_path / "config.yaml").write_text(json.dumps(config))
    (tmp_path / "model.args.json").write_text(json.dumps(stray))
    with pytest.raises(ValueError, match=message):
        read_flags(tmp_path / "model.ckpt", "", "ldm")
    flags = read_flags(tmp_path / "model.ckpt", str(tmp_path / "config.yaml"), "ldm")
    assert flags["num_head_channels"] == 32


def test_a_config_of_latent_diffusion_is_unfolded(tmp_path: Path) -> None:
    inner = {"image_size": 64, "num_head_channels": 32, "attention_resolutions": [8, 4, 2]}
    outer = {"linear_end": 0.0195, "image_size": 64, "unet_config": {"params": inner}}
    (tmp_path / "config.json").write_text(json.dumps({"model": {"base_learning_rate": 1, "params": outer}}))
    flags = read_flags(tmp_path / "model.ckpt", str(tmp_path / "config.json"), "ldm")
    assert (flags["image_size"], flags["num_head_channels"], flags["linear_end"]) == (64, 32, 0.0195)


@pytest.mark.parametrize("text", ["[1, 2]", "{", "a: b: c", "model: 3"])
def test_flags_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "flags.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"flags\.yaml holds no settings in JSON or YAML") as error:
        read_flags(file, str(file), "adm")
    assert "\n" not in str(error.value)


def test_heads_of_flags() -> None:
    assert heads_of({"num_heads": 4, "num_heads_upsample": -1}) == Heads(count=4)
    assert heads_of({"num_heads": 4, "num_head_channels": 64, "use_new_attention_order": True}) == Heads(
        4, 64, None, True
    )
    assert heads_of({"num_heads": 4, "num_heads_upsample": 2, "num_head_channels": -1}) == Heads(4, None, 2)
    with pytest.raises(ValueError, match="lack num_heads and num_head_channels"):
        heads_of({"num_heads": -1})
    with pytest.raises(ValueError, match="num_heads='4' must be of type int"):
        heads_of({"num_heads": "4"})
    with pytest.raises(ValueError, match="the training flags lack image_size"):
        flag({}, "image_size", int)
