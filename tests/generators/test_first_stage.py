"""First stages alone: small random files against what the official code computed from them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.generators.first_stage import FirstStage, first_stage, recognise
from assay.generators.networks.first_stage import FirstStage as Network
from assay.generators.networks.seeds import normal
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator
from assay.harness.formats.checkpoint import read_checkpoint

from ..compvis import Case, case, write

NAMES = ("kl16", "kl8", "vq", "vq_noattn", "taming")
IMAGES = torch.from_numpy(np.random.default_rng(3).random((2, 3, 16, 16))).float()


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return {name: case(name) for name in NAMES}


def opened(path: str, **options: Any) -> FirstStage:
    made = first_stage("", path, **options)
    assert isinstance(made, FirstStage)
    return made


@pytest.mark.parametrize("name", NAMES)
def test_it_is_the_official_code(cases: dict[str, Case], tmp_path: Path, name: str) -> None:
    """Codes, log variances, entries of the codebook and reconstructions."""
    found = cases[name].found
    g = opened(write(tmp_path, cases[name].tensors, cases[name].config))
    assert isinstance(g, Generator)
    assert isinstance(g, Encoder)
    codes = g.encode(IMAGES)
    torch.testing.assert_close(codes, found["mean"], rtol=0, atol=1e-5)
    torch.testing.assert_close(g.decode(codes), found["rec"], rtol=0, atol=2e-5)
    if name.startswith("kl"):
        torch.testing.assert_close(g.encode(IMAGES, "logvar"), found["logvar"], rtol=0, atol=1e-5)
    else:
        entries = g.network.codebook[found["index"].view(2, 4, 4)].permute(0, 3, 1, 2)
        assert torch.equal(g.network.nearest(codes), entries)


def test_what_seeds_draw(cases: dict[str, Case], tmp_path: Path) -> None:
    kl = opened(write(tmp_path, cases["kl16"].tensors, cases["kl16"].config))
    assert torch.equal(kl.latents([5, 6]), normal([5, 6], 4, 4, 4))
    noise = (kl.encode(IMAGES, "sample", [7, 8]) - kl.encode(IMAGES)) / (kl.encode(IMAGES, "logvar") / 2).exp()
    torch.testing.assert_close(noise, normal([7, 8], 4, 4, 4), rtol=1e-3, atol=1e-4)
    vq = opened(write(tmp_path, cases["vq"].tensors, cases["vq"].config))
    z = vq.latents(range(200))
    assert torch.equal(z, vq.network.nearest(z)), "entries of the codebook"
    assert torch.equal(z[7:8], vq.latents([7]))
    count = (z.permute(0, 2, 3, 1)[..., None, :] == vq.network.codebook).all(-1).sum((0, 1, 2))
    # 3200 draws of 16 entries: 200 each, standard deviation 13.7; one beyond 5 of them has a chance of 1e-5
    assert (count - 200).abs().max() < 5 * 13.7
    assert count.sum() == 3200
    assert "not trained" in vq.card["prior"]
    with pytest.raises(ValueError, match="no log variance; choose encode=mean"):
        vq.encode(IMAGES, "logvar")


def test_gradients_reach_codes(cases: dict[str, Case], tmp_path: Path) -> None:
    for name in ("kl8", "taming"):
        g = opened(write(tmp_path, cases[name].tensors, cases[name].config))
        z = g.latents([0]).requires_grad_()
        (gradient,) = torch.autograd.grad(g.decode(z).sum(), z)
        assert gradient.abs().max() > 1e-4


def test_the_size_of_what_seeds_draw(cases: dict[str, Case], tmp_path: Path) -> None:
    tensors, config, _ = cases["kl8"]
    assert opened(write(tmp_path, tensors, config)).shape == (6, 4, 4)
    assert opened(write(tmp_path, tensors, config), size=24).shape == (6, 6, 6)
    path = write(tmp_path, tensors)
    assert opened(path, size=8).shape == (6, 2, 2)
    assert opened(path, size=8).fingerprint != opened(path, size=12).fingerprint
    with pytest.raises(ValueError, match=r"model\.ckpt: the weights .* give generator\.first_stage\.size=256 or args"):
        opened(path)
    for size in (0, 10, -4, 2**20):
        with pytest.raises(ValueError, match=rf"size={size} must be a multiple of 4"):
            opened(path, size=size)


def test_losses_and_averages_are_left_out(cases: dict[str, Case], tmp_path: Path) -> None:
    tensors, config, _ = cases["vq"]
    assert any(name.startswith("loss.") for name in tensors)
    more = {**tensors, "model_ema.decay": torch.tensor(0.9), "loss.discriminator.main.0.weight": torch.zeros(2)}
    whole, bare = (opened(write(tmp_path, each, config)) for each in (more, without(tensors, "loss.")))
    assert torch.equal(whole.encode(IMAGES), bare.encode(IMAGES))
    half = {name: x.half() for name, x in tensors.items()}
    assert opened(write(tmp_path, half, config)).encode(IMAGES).dtype == torch.float32


def without(tensors: dict[str, Tensor], beginning: str) -> dict[str, Tensor]:
    return {name: x for name, x in tensors.items() if not name.startswith(beginning)}


def test_files_are_recognised(cases: dict[str, Case], tmp_path: Path) -> None:
    content = read_checkpoint(write(tmp_path, cases["taming"].tensors)).content
    assert recognise(content)
    assert recognise(content["state_dict"])
    assert not recognise({"encoder.conv_in.weight": torch.zeros(1), "quant_conv.weight": torch.zeros(1)})
    assert not recognise(None)
    inside = {f"first_stage_model.{name}": x for name, x in cases["taming"].tensors.items()}
    assert not recognise(inside)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("attn_type", "linear", "attn_type='linear' is not supported, only 'vanilla' or 'none'"),
        ("use_linear_attn", True, "use_linear_attn=True is not supported"),
        ("tanh_out", True, "tanh_out=True is not supported"),
        ("resamp_with_conv", False, "resamp_with_conv=False is not supported"),
        ("polish", 3, "option polish of ddconfig is not known"),
    ],
)
def test_options_that_are_not_understood(
    cases: dict[str, Case], tmp_path: Path, option: str, value: Any, message: str
) -> None:
    tensors, config, _ = cases["kl8"]
    params = config["model"]["params"]
    changed = {"model": {**config["model"], "params": {**params, "ddconfig": {**params["ddconfig"], option: value}}}}
    with pytest.raises(ValueError, match=message):
        opened(write(tmp_path, tensors, changed))


def test_models_that_are_not_supported(cases: dict[str, Case], tmp_path: Path) -> None:
    tensors, config, _ = cases["vq"]
    gumbel = {name.replace("quantize.embedding", "quantize.embed"): x for name, x in tensors.items()}
    gumbel["quantize.proj.weight"] = torch.zeros(16, 4, 1, 1)
    with pytest.raises(ValueError, match="Gumbel quantiser"):
        opened(write(tmp_path, gumbel, config))
    linear = {name: x for name, x in tensors.items() if ".mid.attn_1." not in name}
    linear["encoder.mid.attn_1.to_qkv.weight"] = torch.zeros(192, 64, 1, 1)
    with pytest.raises(ValueError, match=r"encoder\.mid\.attn_1 is linear attention"):
        opened(write(tmp_path, linear, config))
    with pytest.raises(ValueError, match=r"quantize\.used"):
        opened(write(tmp_path, {**tensors, "quantize.used": torch.arange(3)}, config))
    with pytest.raises(ValueError, match="colorize"):
        opened(write(tmp_path, {**tensors, "colorize": torch.zeros(3, 4, 1, 1)}, config))
    with pytest.raises(ValueError, match="model 'GumbelVQ' is not supported"):
        opened(write(tmp_path, tensors, {"model": {**config["model"], "target": "taming.models.vqgan.GumbelVQ"}}))
    with pytest.raises(ValueError, match=r"step is a int, not a tensor with a name"):
        opened(write(tmp_path, {**tensors, "step": 3}, config))
    with pytest.raises(ValueError, match=r"1 tensors are of integers, .*; the first is decoder\.conv_in\.bias"):
        opened(write(tmp_path, {**tensors, "decoder.conv_in.bias": torch.zeros(64, dtype=torch.int8)}, config))
    with pytest.raises(ValueError, match=r"encoder\.mid\.attn_1\.k\.weight is missing"):
        opened(write(tmp_path, without(tensors, "encoder.mid.attn_1.k.weight"), config))


def test_networks_keep_the_sizes_of_their_tensors(cases: dict[str, Case]) -> None:
    for name, channels, quantised in (("kl16", 4, False), ("taming", 8, True)):
        network = Network(cases[name].tensors)
        assert (network.channels, network.image_channels, network.factor, network.quantised) == (
            channels,
            3,
            4,
            quantised,
        )
