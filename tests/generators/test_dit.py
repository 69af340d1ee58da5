"""DiT and SiT: random files in the published layout against the numbers of the authors' code."""

import argparse
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.generators.dit import DiT, dit
from assay.generators.dit import recognise as is_dit
from assay.generators.networks.ddim import even_times
from assay.generators.networks.dit import Transformer
from assay.generators.sit import SiT, sit
from assay.generators.sit import recognise as is_sit
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator
from assay.harness.core.registry import discover
from assay.harness.formats.checkpoint import read_checkpoint
from assay.harness.formats.recognise import opener

from ..official import drawn, names, noise, require_gradient_of_images

with warnings.catch_warnings(action="ignore"):
    from diffusers import AutoencoderKL

WIDTH, HEADS, CLASSES, SIDE = 24, 3, 5, 8
OFFICIAL = {name: np.load(Path(__file__).with_name(f"official_{name}.npz")) for name in ("dit", "sit")}


def shapes(
    outputs: int = 8, width: int = WIDTH, depth: int = 2, patch: int = 2, side: int = SIDE, classes: int = CLASSES
) -> dict[str, tuple[int, ...]]:
    """Tensors of a network on codes [4, side, side]."""
    made: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = shape, shape[:1]

    layer("x_embedder.proj", width, 4, patch, patch)
    layer("t_embedder.mlp.0", width, 256)
    layer("t_embedder.mlp.2", width, width)
    made["y_embedder.embedding_table.weight"] = (classes + 1, width)
    made["pos_embed"] = (1, (side // patch) ** 2, width)
    for i in range(depth):
        layer(f"blocks.{i}.attn.qkv", 3 * width, width)
        layer(f"blocks.{i}.attn.proj", width, width)
        layer(f"blocks.{i}.mlp.fc1", 4 * width, width)
        layer(f"blocks.{i}.mlp.fc2", width, 4 * width)
        layer(f"blocks.{i}.adaLN_modulation.1", 6 * width, width)
    layer("final_layer.linear", outputs * patch**2, width)
    layer("final_layer.adaLN_modulation.1", 2 * width, width)
    return made


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An AutoencoderKL of 16 pixels and codes [4, 8, 8]."""
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, sample_size=16,
        block_out_channels=(4, 4), norm_num_groups=2, latent_channels=4,
    ).save_pretrained(folder)  # fmt: skip
    return str(folder)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A bare state dict, as published."""
    return written(tmp_path, drawn(shapes()))


def written(folder: Path, content: Any, name: str = "model.pt") -> str:
    torch.save(content, folder / name)
    return str(folder / name)


def snapshot(folder: Path, model: str, **flags: Any) -> str:
    """What the training script leaves; only the average is right."""
    wrong = {name: torch.zeros(shape) for name, shape in shapes().items()}
    args = argparse.Namespace(model=model, num_classes=CLASSES, data_path="images", **flags)
    return written(folder, {"model": wrong, "ema": drawn(shapes()), "opt": {}, "args": args})


def dit_of(path: str, vae: str, **options: Any) -> DiT:
    made = dit("", path, vae, heads=HEADS, **options)
    assert isinstance(made, DiT)
    return made


def sit_of(path: str, vae: str, **options: Any) -> SiT:
    made = sit("", path, vae, heads=HEADS, **options)
    assert isinstance(made, SiT)
    return made


def same(found: Tensor, expected: Any) -> None:
    scale = float(np.abs(expected).max())
    torch.testing.assert_close(found / scale, torch.from_numpy(expected) / scale, rtol=0, atol=2e-6)


LABELS = torch.tensor([3, 1])


def test_the_network_equals_the_authors_code() -> None:
    network = Transformer(drawn(shapes()), HEADS)
    network.load_state_dict(drawn(shapes()))
    for name, times in (("DiT", [17.0, 900.0]), ("SiT", [0.1, 0.8])):
        official = OFFICIAL[name.lower()]
        assert names(shapes()) == str(official["names"])
        found = network(noise(name, 2, 4, SIDE, SIDE), torch.tensor(times), LABELS)
        same(found if name == "DiT" else found[:, :4], official["forward"])


@pytest.mark.parametrize(
    ("width", "patch", "heads", "digest"), [(384, 8, 6, "2f8f533c5587dfc3"), (768, 4, 12, "4336dfd8c3b3fcd1")]
)
def test_published_networks_have_the_tensors_of_the_authors_code(
    width: int, patch: int, heads: int, digest: str
) -> None:
    """DiT-S/8 and DiT-B/4 for 256 pixels."""
    expected = shapes(8, width, 12, patch, 32, 1000)
    assert names(expected).startswith(digest)
    with torch.device("meta"):
        network = Transformer({name: torch.zeros(shape) for name, shape in expected.items()}, None)
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == expected
    assert network.blocks[0].heads == heads


def test_timesteps_are_those_of_the_authors_code() -> None:
    for steps in (4, 7, 250):
        assert even_times(1000, steps)[::-1] == OFFICIAL["dit"][f"times{steps}"].tolist()
    assert even_times(1000, 1) == [0]
    assert even_times(1000, 1000) == list(range(999, -1, -1))


@pytest.mark.parametrize("steps", [4, 7])
def test_ddim_equals_the_authors_code(path: str, vae: str, steps: int) -> None:
    g = dit_of(path, vae, steps=steps, guidance=1.7)
    same(g.sample(noise("DiT", 2, 4, SIDE, SIDE), LABELS), OFFICIAL["dit"][f"ddim{steps}"])


def test_ddpm_equals_the_authors_code(path: str, vae: str) -> None:
    g = dit_of(path, vae, steps=4, guidance=1.7, sampler="ddpm")
    draws = torch.stack([noise(f"DiT{i}", 2, 4, SIDE, SIDE) for i in range(4)], 1)
    same(g.sample(draws, LABELS), OFFICIAL["dit"]["ddpm4"])
    assert g.latents([0, 1, 2], "x_T").shape == (3, 4, 4, SIDE, SIDE)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_the_flow_equals_the_authors_code(path: str, vae: str, solver: Any) -> None:
    """Their num_steps counts the ends of the steps; "heun2" is the fixed solver's name there."""
    x = noise("SiT", 2, 4, SIDE, SIDE)
    g = sit_of(path, vae, steps=5, guidance=1.7, solver=solver)
    same(g.sample(x, LABELS), OFFICIAL["sit"]["heun2" if solver == "heun" else solver])
    if solver == "euler":
        same(sit_of(path, vae, steps=5, guidance=1, solver=solver).sample(x, LABELS), OFFICIAL["sit"]["euler_unguided"])
    else:
        many = sit_of(path, vae, steps=40, guidance=1.7).sample(x, LABELS)
        assert float((many - torch.from_numpy(OFFICIAL["sit"]["dopri5"])).abs().max()) < 1e-3


@pytest.mark.parametrize("family", ["dit", "dit_ddpm", "sit"])
def test_what_a_generator_promises(path: str, vae: str, family: str) -> None:
    g: Any = sit_of(path, vae, steps=2) if family == "sit" else dit_of(path, vae, steps=2, sampler=family[4:] or "ddim")
    assert isinstance(g, Generator)
    assert not isinstance(g, Encoder)
    assert g.spaces == ("z_0", "x_T")
    codes = g.latents(range(18), "z_0")
    assert codes.shape == (18, 4, SIDE, SIDE)
    assert torch.equal(codes[[3, 17]], g.latents([3, 17], "z_0"))
    images = g.decode(codes[:3], "z_0")
    assert images.shape == (3, 3, 16, 16)
    with warnings.catch_warnings(action="ignore"):
        decoder: Any = AutoencoderKL.from_pretrained(vae)
    expected = decoder.decode(codes[:3] / 0.18215).sample / 2 + 0.5
    torch.testing.assert_close(images, expected.detach(), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match=r"choose generator\.\w+\.label=CLASS, or work in space z_0"):
        g.decode(g.latents([0], "x_T"), "x_T")


def test_classes_are_drawn_by_seed_or_chosen(path: str, vae: str) -> None:
    for make in (dit_of, sit_of):
        drawn_ones, chosen = make(path, vae, steps=2), make(path, vae, steps=2, label=2)
        codes = drawn_ones.latents(range(CLASSES + 3), "z_0")
        assert torch.equal(chosen.latents([2, 7], "z_0"), codes[[2, 7]])
        assert not torch.equal(chosen.latents([3], "z_0"), codes[3:4])
        images = chosen.decode(chosen.latents([2, 7], "x_T"), "x_T")
        torch.testing.assert_close(images, drawn_ones.decode(codes[[2, 7]], "z_0"), rtol=0, atol=1e-5)
        with pytest.raises(ValueError, match=r"label=5 must be a class 0\.\.4"):
            make(path, vae, label=5)


def test_gradients_are_those_of_the_images(path: str, vae: str) -> None:
    for g in (dit_of(path, vae, steps=2, label=1), sit_of(path, vae, steps=2, label=1)):
        require_gradient_of_images(g, step=1e-3, within=0.05)


def test_fingerprints_follow_all_that_changes_images(path: str, vae: str, tmp_path: Path) -> None:
    changes: list[Mapping[str, Any]] = [{}, {"steps": 9}, {"guidance": 2.0}, {"label": 1}]
    prints = {dit_of(path, vae, **change).fingerprint for change in [*changes, {"sampler": "ddpm"}]}
    prints |= {sit_of(path, vae, **change).fingerprint for change in [*changes, {"solver": "euler"}]}
    assert len(prints) == 10
    assert dit_of(path, vae).fingerprint in prints


def test_snapshots_say_which_family_they_are(tmp_path: Path, path: str, vae: str) -> None:
    discover()
    bare = read_checkpoint(path)
    with pytest.raises(
        ValueError, match=r"can be opened by dit and sit; choose with generator=dit generator\.dit\.path"
    ):
        opener(path, bare)
    kept = snapshot(tmp_path, "DiT-XL/2")
    assert opener(kept, read_checkpoint(kept)).name == "dit"
    assert torch.equal(dit_of(kept, vae, steps=2).latents([1], "z_0"), dit_of(path, vae, steps=2).latents([1], "z_0"))
    kept = snapshot(tmp_path, "SiT-XL/2", path_type="Linear", prediction="velocity")
    assert opener(kept, read_checkpoint(kept)).name == "sit"
    with pytest.raises(ValueError, match="holds no dit generator"):
        dit_of(kept, vae)
    assert not is_dit([1])
    assert not is_sit({"ema": 3})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"prediction": "score"}, "prediction=score is not supported, only velocity"),
        ({"path_type": "VP"}, "path_type=VP is not supported, only Linear"),
    ],
)
def test_other_interpolants_are_refused(tmp_path: Path, vae: str, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sit_of(snapshot(tmp_path, "SiT-S/2", **flags), vae)


def test_files_and_options_that_do_not_fit(tmp_path: Path, path: str, vae: str) -> None:
    tensors = drawn(shapes())
    with pytest.raises(ValueError, match=r"give generator\.dit\.vae=FOLDER of an AutoencoderKL"):
        dit("", path, heads=HEADS)
    with pytest.raises(ValueError, match=r"nowhere is no folder; give generator\.sit\.vae=FOLDER"):
        sit_of(path, "nowhere")
    with pytest.raises(ValueError, match="24 channels are none of the published sizes; give the option heads"):
        dit("", path, vae)
    with pytest.raises(ValueError, match="cannot be divided into 7 heads"):
        dit("", path, vae, heads=7)
    with pytest.raises(ValueError, match="steps=1001 must be between 1 and 1000"):
        dit_of(path, vae, steps=1001)
    extra = written(tmp_path, {**tensors, "blocks.0.attn.q_norm.weight": torch.ones(8)})
    with pytest.raises(ValueError, match=r"unexpected tensors such as blocks\.0\.attn\.q_norm\.weight"):
        dit_of(extra, vae)
    missing = written(tmp_path, {name: x for name, x in tensors.items() if name != "pos_embed"})
    with pytest.raises(ValueError, match="tensor pos_embed is missing"):
        sit_of(missing, vae)
    fixed = written(tmp_path, drawn(shapes(outputs=4)))
    assert dit_of(fixed, vae, steps=2).latents([0], "z_0").shape == (1, 4, SIDE, SIDE)
    with pytest.raises(ValueError, match="does not predict the variance that sampler=ddpm needs"):
        dit_of(fixed, vae, sampler="ddpm")
    with pytest.raises(ValueError, match="predicts 5 channels of codes of 4"):
        dit_of(written(tmp_path, drawn(shapes(outputs=5))), vae)
    odd = drawn({**shapes(), "final_layer.linear.weight": (33, WIDTH), "final_layer.linear.bias": (33,)})
    with pytest.raises(ValueError, match="33 outputs cannot be divided into patches of 2 × 2"):
        sit_of(written(tmp_path, odd), vae)
    with pytest.raises(ValueError, match="does not fit 5 classes and a null class"):
        dit_of(written(tmp_path, {"ema": tensors, "args": argparse.Namespace(model="DiT-S/2", num_classes=6)}), vae)
    other, path = tmp_path / "other", written(tmp_path, tensors)
    AutoencoderKL(block_out_channels=(4,), norm_num_groups=2, latent_channels=8).save_pretrained(other)
    with pytest.raises(ValueError, match="decodes 8 channels with shift_factor=0; codes of the network have 4"):
        dit_of(path, str(other))
