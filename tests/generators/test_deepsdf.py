"""DeepSDF: folders in the published layout against a slow version written from its description, in float64."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.generators.deepsdf import DeepSDF, deepsdf
from assay.harness.core.registry import discover
from assay.harness.formats.checkpoint import read_checkpoint
from assay.harness.formats.recognise import opener
from assay.harness.shapes.surfaces import grid, to_sdf

CODE, WIDTH, LAYERS = 6, 10, 5
PLAIN: dict[str, Any] = {
    "dims": [WIDTH] * LAYERS, "dropout": [0, 1], "dropout_prob": 0.2, "norm_layers": [0, 1, 2, 3, 4],
    "latent_in": [2], "xyz_in_all": False, "use_tanh": False, "latent_dropout": False, "weight_norm": True,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "published": {},
    "layer norm": {"weight_norm": False},
    "no norm": {"weight_norm": False, "norm_layers": []},
    "points in all": {"xyz_in_all": True, "use_tanh": True, "latent_in": [2, 4]},
}


def widths(specs: dict[str, Any]) -> list[tuple[int, int]]:
    """In and out of each layer, as the authors' code makes them."""
    sizes, pairs = [CODE + 3, *specs["dims"], 1], []
    for i in range(len(sizes) - 1):
        out = sizes[i + 1]
        if i + 1 in specs["latent_in"]:
            out -= CODE + 3
        elif specs["xyz_in_all"] and i + 2 != len(sizes):
            out -= 3
        pairs.append((sizes[i], out))
    return pairs


def write(folder: Path, epoch: str = "latest", embedding: bool = True, **changes: Any) -> dict[str, Tensor]:
    """A published experiment with random weights; its tensors by their names in the file."""
    specs, draw = {**PLAIN, **changes}, torch.Generator().manual_seed(0)
    named: dict[str, Tensor] = {}
    for i, (before, after) in enumerate(widths(specs)):
        weight, last = torch.randn(after, before, generator=draw) / before**0.5, i == LAYERS
        layer = f"module.lin{i}."
        named[f"{layer}bias"] = torch.randn(after, generator=draw) / 4
        if specs["weight_norm"] and i in specs["norm_layers"]:
            named[f"{layer}weight_g"] = 1 + torch.rand(after, 1, generator=draw)
            named[f"{layer}weight_v"] = weight
        else:
            named[f"{layer}weight"] = weight
            if i in specs["norm_layers"] and not last:
                named[f"module.bn{i}.weight"] = 1 + torch.rand(after, generator=draw)
                named[f"module.bn{i}.bias"] = torch.randn(after, generator=draw)
    codes = torch.randn(9, CODE, generator=draw)
    (folder / "ModelParameters").mkdir(parents=True, exist_ok=True)
    (folder / "LatentCodes").mkdir(exist_ok=True)
    (folder / "specs.json").write_text(json.dumps({"NetworkSpecs": specs, "CodeLength": CODE, "ClampingDistance": 0.1}))
    saved = {"epoch": 7, "model_state_dict": named}
    torch.save(saved, folder / "ModelParameters" / f"{epoch}.pth", _use_new_zipfile_serialization=False)
    held = {"epoch": 7, "latent_codes": {"weight": codes} if embedding else codes[:, None]}
    torch.save(held, folder / "LatentCodes" / f"{epoch}.pth", _use_new_zipfile_serialization=False)
    return {**named, "codes": codes}


def opened(folder: Path, **options: Any) -> DeepSDF:
    found = deepsdf("any", str(folder), **options)
    assert isinstance(found, DeepSDF)
    return found


def slow(named: dict[str, Tensor], specs: dict[str, Any], row: Tensor) -> Tensor:
    """One code and point through the network."""
    x = row
    for i in range(LAYERS + 1):
        if i in specs["latent_in"]:
            x = torch.cat([x, row])
        elif i and specs["xyz_in_all"]:
            x = torch.cat([x, row[-3:]])
        layer = f"module.lin{i}."
        if f"{layer}weight_g" in named:
            g, v = named[f"{layer}weight_g"], named[f"{layer}weight_v"]
            weight = torch.stack([g[k] * v[k] / v[k].square().sum().sqrt() for k in range(len(v))])
        else:
            weight = named[f"{layer}weight"]
        x = weight @ x + named[f"{layer}bias"]
        if i < LAYERS:
            if f"module.bn{i}.weight" in named:
                x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
                x = x * named[f"module.bn{i}.weight"] + named[f"module.bn{i}.bias"]
            x = x.clamp(min=0)
        elif specs["use_tanh"]:
            x = x.tanh()
    return x.tanh()[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_is_its_description(kind: str, tmp_path: Path) -> None:
    named = {name: x.double() for name, x in write(tmp_path, **KINDS[kind]).items()}
    found, points = opened(tmp_path), torch.rand(15, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1
    codes = named["codes"][:2]
    sdf = found.sdf(codes.float(), "z", points)
    expected = torch.stack(
        [
            torch.stack([slow(named, {**PLAIN, **KINDS[kind]}, torch.cat([c, p.double()])) for p in points])
            for c in codes
        ]
    )
    assert sdf.shape == (2, 15)
    assert (sdf - expected).abs().max() < 1e-5 * expected.abs().max()


def test_volumes(tmp_path: Path) -> None:
    write(tmp_path)
    found = opened(tmp_path, resolution=8)
    z = found.latents(range(3), "z")
    volumes = found.decode(z, "z")
    assert volumes.shape == (3, 1, 8, 8, 8)
    torch.testing.assert_close(to_sdf(volumes), found.sdf(z, "z", grid(8)).view(3, 8, 8, 8))
    torch.testing.assert_close(volumes[1:2], found.decode(z[1:2], "z"), rtol=1e-5, atol=1e-5)
    code = z[:1].clone().requires_grad_()
    found.decode(code, "z").sum().backward()
    assert code.grad is not None
    assert code.grad.abs().max() > 0


def test_codes_are_drawn_from_the_gaussian_of_the_training_codes(tmp_path: Path) -> None:
    codes = write(tmp_path, embedding=False)["codes"]
    found = opened(tmp_path)
    assert torch.equal(found.codes, codes)
    assert torch.equal(found.latents([3, 4], "z"), torch.cat([found.latents([3], "z"), found.latents([4], "z")]))
    drawn = found.latents(range(8000), "z")
    # Standard errors: of a mean 0.012, of a covariance at most 0.02; six of them, over 42 numbers.
    assert (drawn.mean(0) - codes.mean(0)).abs().max() < 6 * 0.012 * codes.std(0).max()
    assert (torch.cov(drawn.T) - torch.cov(codes.T)).abs().max() < 6 * 0.02 * codes.var(0).max()


def test_fewer_codes_than_dimensions_span_what_they_span(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "LatentCodes" / "latest.pth"
    torch.save({"epoch": 7, "latent_codes": torch.eye(CODE)[:2]}, path)
    drawn = opened(tmp_path).latents(range(50), "z")
    torch.testing.assert_close(drawn[:, :2].sum(1), torch.ones(50))
    assert drawn[:, 2:].abs().max() < 1e-6


def test_checkpoints_by_name(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, epoch="500")
    assert opened(tmp_path, checkpoint="500").fingerprint != opened(tmp_path).fingerprint
    assert opened(tmp_path, resolution=16).fingerprint != opened(tmp_path).fingerprint
    assert opened(tmp_path).card["epoch"] == 7
    with pytest.raises(
        ValueError, match=r"1000\.pth does not exist; choose another with generator\.deepsdf\.checkpoint"
    ):
        opened(tmp_path, checkpoint="1000")


def test_the_format_is_recognised(tmp_path: Path) -> None:
    write(tmp_path)
    discover()
    assert opener(tmp_path, read_checkpoint(tmp_path)).name == "deepsdf"


def test_errors_name_the_fix(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give generator\.deepsdf\.path=FOLDER"):
        deepsdf("any")
    write(tmp_path)
    with pytest.raises(ValueError, match="resolution=2 must be at least 8"):
        opened(tmp_path, resolution=2)
    (tmp_path / "specs.json").write_text(json.dumps({"NetworkSpecs": {**PLAIN, "dims": [12] * 5}, "CodeLength": CODE}))
    with pytest.raises(
        ValueError, match=r"holds another network: it has 11 tensors of other shapes such as layers.0.bias"
    ):
        opened(tmp_path)
    (tmp_path / "specs.json").write_text(json.dumps({"NetworkSpecs": {}, "CodeLength": CODE}))
    with pytest.raises(ValueError, match="it has no 'dims'"):
        opened(tmp_path)
    for change, message in (
        ({"dims": [30000] * 8}, "holds another network"),
        ({"dims": [-3]}, r"dims=-3 must be a whole number"),
        ({"dims": 7}, "dims=7 must be a list of numbers"),
        ({"latent_in": ["4"]}, "latent_in=4 must be a whole number"),
        ({"weight_norm": "yes"}, "weight_norm=yes must be true or false"),
        ({"activation": "elu"}, "option activation=elu is not supported"),
    ):
        (tmp_path / "specs.json").write_text(json.dumps({"NetworkSpecs": PLAIN | change, "CodeLength": CODE}))
        with pytest.raises(ValueError, match=message):
            opened(tmp_path)
    for length in (-1, None, 2.5, 10**30):
        (tmp_path / "specs.json").write_text(json.dumps({"NetworkSpecs": PLAIN, "CodeLength": length}))
        with pytest.raises(ValueError, match=r"CodeLength=.* must be a whole number"):
            opened(tmp_path)
    other = {"NetworkSpecs": PLAIN, "CodeLength": CODE, "NetworkArch": "siren_decoder"}
    (tmp_path / "specs.json").write_text(json.dumps(other))
    with pytest.raises(
        ValueError, match="option NetworkArch=siren_decoder is not supported, only NetworkArch=deep_sdf_dec"
    ):
        opened(tmp_path)
    (tmp_path / "specs.json").write_text("{}")
    with pytest.raises(ValueError, match="no DeepSDF experiment"):
        opened(tmp_path)
