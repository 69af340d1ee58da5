"""IDDPM and ADM files: written here in their layout, opened, sampled, and compared with DDIM worked out by hand."""

import json
import math
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.generators.adm import ADM, adm, ddim_times, recognise
from assay.generators.networks.ddim import even_times
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator
from assay.harness.formats.checkpoint import read_checkpoint

WIDTH, SIZE = 32, 8
FLAGS = {
    "image_size": SIZE,
    "num_heads": 4,
    "num_head_channels": 16,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "rescale_timesteps": False,
    "learn_sigma": True,
}
Write = Callable[..., str]


def tensors(classes: int = 0, out: int = 6) -> dict[str, Tensor]:
    """A random network of one level with one residual block on each side."""
    draw = torch.Generator().manual_seed(0)
    made: dict[str, Tensor] = {}

    def layer(name: str, *shape: int) -> None:
        made[f"{name}.weight"] = torch.randn(*shape, generator=draw) / math.sqrt(max(1, math.prod(shape[1:])))
        made[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)

    def residual(name: str, channels: int) -> None:
        layer(f"{name}.in_layers.0", channels)
        layer(f"{name}.in_layers.2", WIDTH, channels, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * WIDTH, 4 * WIDTH)
        layer(f"{name}.out_layers.0", WIDTH)
        layer(f"{name}.out_layers.3", WIDTH, WIDTH, 3, 3)
        if channels != WIDTH:
            layer(f"{name}.skip_connection", WIDTH, channels, 1, 1)

    layer("time_embed.0", 4 * WIDTH, WIDTH)
    layer("time_embed.2", 4 * WIDTH, 4 * WIDTH)
    if classes:
        made["label_emb.weight"] = torch.randn(classes, 4 * WIDTH, generator=draw)
    layer("input_blocks.0.0", WIDTH, 3, 3, 3)
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
    return made


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(tensors, **flags) saves a checkpoint with its flags beside it and returns its path."""

    def save(content: Any, **flags: Any) -> str:
        torch.save(content, tmp_path / "model.pt")
        known = {name: value for name, value in {**FLAGS, **flags}.items() if value is not None}
        (tmp_path / "model.args.json").write_text(json.dumps(known))
        return str(tmp_path / "model.pt")

    return save


def constant(noise: float) -> Mapping[str, Tensor]:
    """A network whose predicted noise is the same everywhere, whatever it sees."""
    made = tensors()
    made["out.2.weight"].zero_()
    made["out.2.bias"] = torch.tensor([noise] * 3 + [100.0] * 3)
    return made


def by_hand(x: float, noise: float, betas: list[float], times: list[int], clip: bool) -> float:
    """DDIM of one pixel (arXiv:2010.02502, eq. 12)."""
    signal = [math.prod(1 - b for b in betas[: t + 1]) for t in times] + [1.0]
    for here, there in pairwise(signal):
        clean = (x - math.sqrt(1 - here) * noise) / math.sqrt(here)
        left = noise
        if clip:
            clean = max(-1.0, min(1.0, clean))
            left = (x - math.sqrt(here) * clean) / math.sqrt(1 - here)
        x = math.sqrt(there) * clean + math.sqrt(1 - there) * left
    return (x + 1) / 2


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_decoding_is_ddim_with_the_schedule_of_the_flags(write: Write, schedule: str, clip: bool) -> None:
    path = write(constant(0.3), noise_schedule=schedule, diffusion_steps=200)
    g = adm("", path, steps=4, clip=clip)
    f = [math.cos((t / 200 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(201)]
    betas = [min(1 - f[t + 1] / f[t], 0.999) for t in range(200)]
    if schedule == "linear":
        betas = [5 * (1e-4 + (0.02 - 1e-4) * t / 199) for t in range(200)]
    x = torch.linspace(-2, 2, 3 * SIZE * SIZE).reshape(1, 3, SIZE, SIZE)
    expected = [by_hand(v, 0.3, betas, [150, 100, 50, 0], clip) for v in x.flatten().tolist()]
    torch.testing.assert_close(g.decode(x, "x_T").flatten(), torch.tensor(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rescaled", "expected"), [(True, [750, 500, 250, 0]), (False, [1500, 1000, 500, 0])])
def test_the_network_sees_the_time_it_was_trained_with(write: Write, rescaled: bool, expected: list[float]) -> None:
    g = adm("", write(tensors(), diffusion_steps=2000, rescale_timesteps=rescaled), steps=4)
    assert isinstance(g, ADM)
    seen: list[float] = []
    g.network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[1].tolist()[0]))
    g.decode(g.latents([0], "x_T"), "x_T")
    assert seen == expected


def test_what_a_generator_promises(write: Write) -> None:
    path = write(tensors())
    g = adm("", path, steps=3)
    assert isinstance(g, Generator)
    assert not isinstance(g, Encoder)
    assert g.spaces == ("x_T",)
    x = g.latents(range(4), "x_T")
    assert x.shape == (4, 3, SIZE, SIZE)
    assert torch.equal(x, torch.cat([g.latents([0, 1], "x_T"), g.latents([2, 3], "x_T")]))
    images = g.decode(x, "x_T")
    assert images.dtype == torch.float32
    assert torch.equal(images, adm("", path, steps=3).decode(x, "x_T"))
    one_by_one = torch.cat([g.decode(x[i : i + 1], "x_T") for i in range(4)])
    torch.testing.assert_close(images, one_by_one, rtol=0, atol=1e-5)
    assert images.min() >= 0
    assert images.max() <= 1
    assert adm("", path, steps=3, clip=False).decode(x, "x_T").max() > 1


def test_all_batches_have_one_size(write: Write) -> None:
    """So memory is bounded, and rounding, which many steps enlarge, does not depend on what else is asked for."""
    path = write(tensors(classes=5))
    g = adm("", path, steps=2)
    whole = g.latents(range(5), "x_0")
    assert isinstance(g, ADM)
    sizes: list[int] = []
    g.network.register_forward_pre_hook(lambda network, inputs: sizes.append(len(inputs[0])))
    assert torch.equal(g.latents([3], "x_0"), whole[3:4])
    assert torch.equal(g.latents(range(5), "x_0"), whole)
    assert set(sizes) == {4}


def test_gradients_are_those_of_the_images(write: Write) -> None:
    g = adm("", write(tensors()), steps=3, clip=False)
    x = g.latents([0], "x_T").requires_grad_()
    pixel = g.decode(x, "x_T")[0, 1, 2, 3]
    (gradient,) = torch.autograd.grad(pixel, x)
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ends = [g.decode(x + e * direction, "x_T")[0, 1, 2, 3] for e in (1e-2, -1e-2)]
    assert float((gradient * direction).sum()) == pytest.approx(float(ends[0] - ends[1]) / 2e-2, rel=0.02)


def test_inversion_finds_the_noise(write: Write) -> None:
    smooth = tensors()
    smooth["out.2.weight"] *= 0.01
    g = adm("", write(smooth), steps=10, clip=False)
    assert isinstance(g, ADM)
    images = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    errors = [float((g.decode(g.invert(images, n), "x_T") - images).abs().max()) for n in (1, 10)]
    assert errors[1] < 1e-3 < errors[0]


def test_classes_are_drawn_by_seed_or_chosen(write: Write) -> None:
    path = write(tensors(classes=3))
    drawn = adm("", path, steps=2)
    assert drawn.spaces == ("x_0", "x_T")
    codes = drawn.latents(range(6), "x_0")
    images = drawn.decode(codes, "x_0")
    for label in range(3):
        chosen = adm("", path, steps=2, label=label)
        assert chosen.spaces == ("x_T",)
        of_class = chosen.decode(chosen.latents([label, label + 3], "x_T"), "x_T")
        torch.testing.assert_close(of_class, images[[label, label + 3]], rtol=0, atol=1e-5)
        other = chosen.decode(chosen.latents([(label + 1) % 3], "x_T"), "x_T")
        assert (other - images[(label + 1) % 3]).abs().max() > 1e-3
        assert chosen.fingerprint != drawn.fingerprint
    with pytest.raises(ValueError, match=r"conditional: choose generator\.adm\.label=CLASS, or work in space x_0"):
        drawn.decode(drawn.latents([0], "x_T"), "x_T")
    with pytest.raises(ValueError, match=r"label=3 must be a class 0\.\.2"):
        adm("", path, label=3)


def test_fingerprints_follow_all_that_changes_images(write: Write) -> None:
    path = write(tensors())
    seen = {adm("", path).fingerprint, adm("", path, steps=100).fingerprint, adm("", path, clip=False).fingerprint}
    assert adm("", path).fingerprint in seen
    for change in ({"noise_schedule": "cosine"}, {"num_head_channels": 8}, {"rescale_timesteps": True}):
        seen.add(adm("", write(tensors(), **change)).fingerprint)
    seen.add(adm("", write(constant(0.1))).fingerprint)
    assert len(seen) == 7


def test_the_card_says_what_was_in_the_file(write: Write) -> None:
    g = adm("", write(tensors(classes=3)))
    assert isinstance(g, ADM)
    assert g.card["classes"] == 3
    assert g.card["flags"]["noise_schedule"] == "linear"
    assert len(g.card["sha256"]) == 64


def test_files_are_recognised(write: Write, tmp_path: Path) -> None:
    assert recognise(read_checkpoint(write(tensors())).content)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    assert not recognise(read_checkpoint(tmp_path / "other.pt").content)
    assert not recognise([1])
    with pytest.raises(ValueError, match="holds no adm generator"):
        adm("", str(tmp_path / "other.pt"))


@pytest.mark.parametrize("name", ["image_size", "diffusion_steps", "noise_schedule", "rescale_timesteps"])
def test_a_missing_flag_is_named(write: Write, name: str) -> None:
    with pytest.raises(ValueError, match=rf"model\.pt: the training flags lack {name}"):
        adm("", write(tensors(), **{name: None}))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"num_heads": None, "num_head_channels": None}, "lack num_heads and num_head_channels"),
        ({"noise_schedule": "sqrt"}, "noise_schedule='sqrt' must be one of linear, cosine"),
        ({"num_head_channels": 24}, "attention over 32 channels cannot be divided"),
        ({"predict_xstart": True}, "predict_xstart=true: networks that predict x_0"),
        ({"image_size": "8"}, "image_size='8' must be of type int"),
        ({"image_size": 2**40}, "image_size=1099511627776 must be a whole number from 1 to 8,192"),
        ({"image_size": -8}, "image_size=-8 must be a whole number"),
        ({"diffusion_steps": 4 * 10**9}, "diffusion_steps=4000000000 must be a whole number"),
        ({"diffusion_steps": 0}, "diffusion_steps=0 must be a whole number"),
        ({"num_head_channels": -16}, "num_head_channels=-16 must be positive"),
        ({"num_head_channels": None, "num_heads": -4}, "num_heads=-4 must be positive"),
        ({"learn_sigma": False}, "learn_sigma=false, but it takes 3 channels and predicts 6"),
        ({"class_cond": True}, "class_cond=true, but it has 0 classes"),
        ({"large_size": 256, "small_size": 64}, "upsamplers, which need a small image, are not supported"),
        ({"activation": "relu"}, "training flag: option activation=relu is not supported; leave it out if it does not"),
    ],
)
def test_flags_that_do_not_fit(write: Write, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adm("", write(tensors(), **flags))


def test_upsamplers_are_not_taken_for_models_of_images(write: Write) -> None:
    """They take the noisy and the small image, 6 channels, and predict noise and variance, 6 channels."""
    wide = tensors()
    wide["input_blocks.0.0.weight"] = torch.zeros(WIDTH, 6, 3, 3)
    with pytest.raises(
        ValueError, match="learn_sigma=true, but it takes 6 channels and predicts 6: OpenAI's upsamplers"
    ):
        adm("", write(wide))
    with pytest.raises(ValueError, match="takes and predicts 6 channels, as an upsampler of OpenAI does"):
        adm("", write(wide, learn_sigma=None))
    assert adm("", write(wide, learn_sigma=False)).latents([0], "x_T").shape == (1, 6, SIZE, SIZE)


def test_both_spacings_of_openai() -> None:
    """Worked out by hand: 30 of 1000 timesteps at stride 34; 5 of 10 at (10 - 1) / 4, halves to the even number."""
    assert ddim_times(1000, 30) == list(range(0, 1000, 34))[::-1]
    assert ddim_times(1000, 50) == list(range(0, 1000, 20))[::-1]
    assert even_times(1000, 50)[:3] == [999, 979, 958]
    assert even_times(10, 5) == [9, 7, 4, 2, 0]
    assert even_times(3, 3) == [2, 1, 0]
    with pytest.raises(
        ValueError, match="steps=600: no stride gives so many of 1000 timesteps; choose a divisor of 1000"
    ):
        ddim_times(1000, 600)
    for times in (ddim_times, even_times):
        with pytest.raises(ValueError, match="steps=0 must be between 1 and 1000"):
            times(1000, 0)


def test_the_spacing_is_in_the_card_and_the_fingerprint(write: Write) -> None:
    path = write(tensors())
    strided, even = (adm("", path, steps=4, spacing=spacing) for spacing in ("ddim", "even"))
    assert isinstance(strided, ADM)
    assert isinstance(even, ADM)
    assert (strided.levels.times, strided.card["respacing"]) == ([750, 500, 250, 0], "ddim4")
    assert (even.levels.times, even.card["respacing"]) == ([999, 666, 333, 0], "4")
    assert strided.fingerprint != even.fingerprint
    x = strided.latents([0], "x_T")
    assert not torch.allclose(strided.decode(x), even.decode(x))
    with pytest.raises(ValueError, match=r"spacing='odd' must be 'ddim' or 'even'"):
        adm("", path, spacing="odd")


def test_other_wrong_calls(write: Write, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give generator\.adm\.path=FILE"):
        adm("")
    with pytest.raises(ValueError, match=r"nothing\.pt does not exist; give generator\.adm\.path=FILE"):
        adm("", str(tmp_path / "nothing.pt"))
    with pytest.raises(ValueError, match="predicts 4 channels of images of 3"):
        adm("", write(tensors(out=4)))
    with pytest.raises(ValueError, match="this file has no classes"):
        adm("", write(tensors()), label=0)
    with pytest.raises(ValueError, match="steps=0 must be between 1 and 1000"):
        adm("", write(tensors()), steps=0)
