"""Consistency models: random files in the published layout against the numbers of the authors' code."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.generators.consistency import Consistency, consistency, recognise
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator
from assay.harness.core.registry import GENERATORS, discover
from assay.harness.formats.checkpoint import read_checkpoint

from ..official import drawn, names, noise, require_gradient_of_images

WIDTH, SIZE, CLASSES = 32, 8, 5
OFFICIAL = np.load(Path(__file__).with_name("official_consistency.npz"))
FLAGS: Mapping[str, Any] = {"image_size": SIZE, "num_head_channels": 16}
Write = Callable[..., str]


def shapes(classes: int, out: int = 3) -> dict[str, tuple[int, ...]]:
    """Two levels, the second with attention. Networks with classes scale and shift by the time; others only shift."""
    made: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *shape: int) -> None:
        made[f"{name}.weight"], made[f"{name}.bias"] = shape, shape[:1]

    def residual(name: str, channels: int = WIDTH) -> None:
        layer(f"{name}.in_layers.0", channels)
        layer(f"{name}.in_layers.2", WIDTH, channels, 3, 3)
        layer(f"{name}.emb_layers.1", 2 * WIDTH if classes else WIDTH, 4 * WIDTH)
        layer(f"{name}.out_layers.0", WIDTH)
        layer(f"{name}.out_layers.3", WIDTH, WIDTH, 3, 3)
        if channels != WIDTH:
            layer(f"{name}.skip_connection", WIDTH, channels, 1, 1)

    def attention(name: str) -> None:
        layer(f"{name}.norm", WIDTH)
        layer(f"{name}.qkv", 3 * WIDTH, WIDTH, 1, 1)
        layer(f"{name}.proj_out", WIDTH, WIDTH, 1, 1)

    layer("time_embed.0", 4 * WIDTH, WIDTH)
    layer("time_embed.2", 4 * WIDTH, 4 * WIDTH)
    if classes:
        made["label_emb.weight"] = (classes, 4 * WIDTH)
    layer("input_blocks.0.0", WIDTH, 3, 3, 3)
    for name in ("input_blocks.1.0", "input_blocks.2.0", "input_blocks.3.0", "middle_block.0", "middle_block.2"):
        residual(name)
    for name in ("input_blocks.3.1", "middle_block.1", "output_blocks.0.1", "output_blocks.1.1"):
        attention(name)
    for i in range(4):
        residual(f"output_blocks.{i}.0", 2 * WIDTH)
    residual("output_blocks.1.2")
    layer("out.0", WIDTH)
    layer("out.2", out, WIDTH, 3, 3)
    return made


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(classes, **flags) saves a checkpoint with its flags beside it and returns its path."""

    def save(classes: int = 0, out: int = 3, **flags: Any) -> str:
        torch.save(drawn(shapes(classes, out)), tmp_path / "model.pt")
        known = {name: value for name, value in {**FLAGS, **flags}.items() if value is not None}
        (tmp_path / "model.args.json").write_text(json.dumps(known))
        return str(tmp_path / "model.pt")

    return save


def opened(path: str, **options: Any) -> Consistency:
    made = consistency("", path, **options)
    assert isinstance(made, Consistency)
    return made


def same(found: Tensor, expected: Any, tolerance: float = 5e-6) -> None:
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=tolerance)


@pytest.mark.parametrize(("case", "classes"), [("cond", CLASSES), ("plain", 0)])
def test_sampling_equals_the_authors_code(write: Write, case: str, classes: int) -> None:
    """Their attention needs a GPU; exact attention stood in for it.

    Their solvers work in float32, which alone changes these images by up to 4e-5: so much they differ from float64.
    """
    path = write(classes)
    assert names(shapes(classes)) == str(OFFICIAL[f"{case}/names"])
    labels = torch.tensor([3, 1]) if classes else None
    draws = torch.stack([noise(f"cm{i}", 2, 3, SIZE, SIZE) for i in range(3)], 1)
    same(opened(path).sample(draws[:, 0], labels), OFFICIAL[f"{case}/clip/onestep"])
    same(opened(path, ts=[0, 22, 31, 39]).sample(draws, labels), OFFICIAL[f"{case}/clip/multistep"])
    same(opened(path, clip=False).sample(draws[:, 0], labels), OFFICIAL[f"{case}/free/denoised80"])
    for solver in ("heun", "euler"):
        g = opened(path, sampler=solver, steps=12)
        same(g.sample(draws[:, 0], labels), OFFICIAL[f"{case}/clip/{solver}"], 5e-5)
    small = opened(write(classes, sigma_max=1.5), clip=False)
    same(small.sample(draws[:, 0], labels), OFFICIAL[f"{case}/free/denoised"])


def test_what_a_generator_promises(write: Write) -> None:
    path = write()
    for options, shape in (({}, (3, SIZE, SIZE)), ({"ts": [0, 22, 39]}, (2, 3, SIZE, SIZE))):
        g = opened(path, **options)
        assert isinstance(g, Generator)
        assert not isinstance(g, Encoder)
        assert g.spaces == ("x_T",)
        x = g.latents(range(5), "x_T")
        assert x.shape == (5, *shape)
        assert torch.equal(x[3:], g.latents([3, 4], "x_T"))
        images = g.decode(x, "x_T")
        assert torch.equal(images[3:4], g.decode(x[3:4], "x_T"))
        assert images.min() >= 0
        assert images.max() <= 1
    free = opened(path, clip=False).decode(noise("cm0", 2, 3, SIZE, SIZE), "x_T")
    assert free.min() < 0
    assert torch.equal(opened(path).decode(noise("cm0", 2, 3, SIZE, SIZE), "x_T"), free.clamp(0, 1))


def test_classes_are_drawn_by_seed_or_chosen(write: Write) -> None:
    path = write(CLASSES)
    g, chosen = opened(path), opened(path, label=2)
    assert g.spaces == ("x_0", "x_T")
    images = g.decode(g.latents(range(8), "x_0"), "x_0")
    assert torch.equal(chosen.decode(chosen.latents([2, 7], "x_T"), "x_T"), images[[2, 7]])
    with pytest.raises(ValueError, match=r"choose generator\.consistency\.label=CLASS, or work in space x_0"):
        g.decode(g.latents([0], "x_T"), "x_T")
    with pytest.raises(ValueError, match=r"label=5 must be a class 0\.\.4"):
        opened(path, label=5)


def test_gradients_are_those_of_the_images(write: Write) -> None:
    g = opened(write(), clip=False, ts=[0, 20, 39])
    require_gradient_of_images(g)


def test_fingerprints_follow_all_that_changes_images(write: Write) -> None:
    path = write()
    changes: list[dict[str, Any]] = [
        {}, {"ts": [0, 9, 39]}, {"steps": 9, "sampler": "heun"}, {"steps": 9, "sampler": "euler"}, {"clip": False},
    ]  # fmt: skip
    prints = {opened(path, **change).fingerprint for change in changes}
    for flags in ({"num_head_channels": 32}, {"sigma_max": 70.0}, {"sigma_min": 0.001}):
        prints.add(opened(write(**flags)).fingerprint)
    assert len(prints) == 8


def test_files_are_told_from_those_of_adm(write: Write, tmp_path: Path) -> None:
    discover()
    content = read_checkpoint(write()).content
    fitting = [name for name, entry in GENERATORS.items() if entry.recognise and entry.recognise(content)]
    assert fitting == ["consistency"]
    flat = {name: x.flatten(2) if ".qkv.w" in name else x for name, x in drawn(shapes(0)).items()}
    torch.save(flat, tmp_path / "adm.pt")
    content = read_checkpoint(tmp_path / "adm.pt").content
    assert [name for name, entry in GENERATORS.items() if entry.recognise and entry.recognise(content)] == ["adm"]
    assert not recognise([1])
    with pytest.raises(ValueError, match="holds no consistency generator"):
        consistency("", str(tmp_path / "adm.pt"))


@pytest.mark.parametrize(
    ("flags", "options", "message"),
    [
        ({"image_size": None}, {}, "the training flags lack image_size"),
        ({"num_head_channels": None}, {}, "lack num_heads and num_head_channels"),
        ({"num_head_channels": 24}, {}, "attention over 32 channels cannot be divided"),
        ({"image_size": 9}, {}, "image_size=9 must be divisible by 2"),
        ({"sigma_max": "high"}, {}, "could not convert string to float"),
        ({"sigma_max": 0.001}, {}, r"sigma_min=0\.002 must be positive and below sigma_max=0\.001"),
        ({"sigma_data": 1.0}, {}, "training flag sigma_data is not understood"),
        ({"training_mode": "edm"}, {}, "sampler=consistency does not fit training_mode=edm"),
        ({"training_mode": "progdist"}, {"sampler": "euler"}, "sampler=euler does not fit training_mode=progdist"),
        (
            {"training_mode": "consistency_distillation"},
            {"sampler": "heun"},
            "sampler=heun does not fit training_mode=consistency_distillation",
        ),
        ({"class_cond": True}, {}, "class_cond=True, but it has 0 classes"),
        ({"out": 6}, {}, "predicts 6 channels of images of 3"),
        ({}, {"ts": [0, 22]}, r"ts=\[0, 22\] must rise from 0 to steps - 1 = 39"),
        ({}, {"ts": [1, 39]}, "must rise from 0"),
        ({}, {"ts": [0, 5, 5, 39]}, "must rise from 0"),
        ({}, {"ts": [0, 5, 39], "sampler": "heun"}, "is for sampler=consistency"),
        ({}, {"label": 0}, "this file has no classes"),
        ({}, {"steps": 1}, "steps=1 must be .* at least 2"),
    ],
)
def test_flags_and_options_that_do_not_fit(
    write: Write, flags: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        consistency("", write(**flags), **options)
