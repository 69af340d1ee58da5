"""Metrics of images and metrics of shapes: each where it belongs; samples that are shapes are turned and exported."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from assay.harness.arrays.records import read_records
from assay.harness.arrays.views import Views
from assay.harness.core.registry import METRICS, discover
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.shapes.mesh_files import read_mesh
from assay.harness.shapes.pictures import FRAMES, TURNING
from assay.harness.shapes.surfaces import enclosed_volume, grid, is_closed, to_volume
from assay.harness.studies.carry_out import carry_out

discover()
ASSAY = Path(sys.executable).with_name("assay")
SHAPES = {name for name, metric in METRICS.items() if metric.modality == "shape"}
IMAGES = {name for name, metric in METRICS.items() if metric.modality == "image"}


class Balls:
    """Balls as volumes; their radius is the latent."""

    spaces: Sequence[str] = ("z",)
    fingerprint = "balls"

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        return torch.tensor([[0.3 + 0.1 * (seed % 4)] for seed in seeds])

    def decode(self, latents: Tensor, space: str) -> Tensor:
        return to_volume(grid(24).norm(dim=1) - latents)


@pytest.fixture
def open_run(open_views: Callable[..., Views], tmp_path: Path) -> Callable[..., Run]:
    def build(generator: object = None) -> Run:
        return Run(
            experiment="modality", generator="made", dataset="squares", views=open_views(generator),
            folder=tmp_path / "modality", seed=0, n=20, n_real=None, scores=(), quality_signals=(),
            classes="predicted_class", covariates={}, set_metrics=(),
        )  # fmt: skip

    return build


def test_which_metrics_are_of_shapes_and_which_of_images() -> None:
    assert {"components", "one_nn_accuracy", "shading_distance", "watertight"} <= SHAPES
    assert {"mean_intensity", "laplacian_variance", "png_bytes"} == IMAGES
    assert METRICS["precision"].modality == METRICS["latent_density"].modality == "any"


def test_metrics_are_answerable_where_they_belong(open_run: Callable[..., Run]) -> None:
    of_images, of_shapes = (set(open_run(generator).available_metrics()) for generator in (None, Balls()))
    assert of_images >= IMAGES
    assert not of_images & SHAPES
    assert {"components", "solid_volume", "surface_area", "random_score"} <= of_shapes
    assert not of_shapes & IMAGES


def test_samples_that_are_shapes_are_measured_turned_and_exported(open_run: Callable[..., Run]) -> None:
    balls = open_run(Balls())
    carry_out(balls, "samples", turning=7, meshes=3)
    assert {record.cell.metric: record.status for record in read_records(balls.folder)} == {
        "samples": "ok", "solid_volume": "ok", "surface_area": "ok",
    }  # fmt: skip
    (picture,) = (balls.folder / "figures").glob("samples-*-turning.png")
    with Image.open(picture) as turning:
        assert turning.size == (6 * (TURNING + 2) - 2, 2 * (TURNING + 2) - 2)
        assert getattr(turning, "n_frames", 1) >= FRAMES - 1  # frames that do not differ are joined
    assert picture.stat().st_size < 200_000
    meshes = sorted((balls.folder / "meshes").rglob("*.obj"))
    assert len(meshes) == 3
    for i, path in enumerate(meshes):
        mesh = read_mesh(path)
        assert is_closed(mesh)
        assert enclosed_volume(mesh) == pytest.approx(4 / 3 * torch.pi * (0.3 + 0.1 * i) ** 3, rel=0.1)
    assert f"Surfaces of shapes, none chosen:\n  {meshes[0].parent.relative_to(balls.folder)}\n" in report(balls.folder)
    assert "from all sides" in (balls.folder / "report.html").read_text()


def test_a_sweep_leaves_out_what_is_made_for_other_samples(tmp_path: Path) -> None:
    """Named by itself, such a metric fails and says why; a pattern that catches it does not mean it."""
    environment = os.environ | {"ASSAY_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    environment.pop("ASSAY_STORE", None)
    common = ["dataset=digits", "n=60", "device=cpu", f"out={tmp_path}"]
    swept = subprocess.run(
        [ASSAY, "run", "-m", "metric=glob([components,mean_intensity,watertight])", *common, "name=swept"],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert {record.cell.metric for record in read_records(tmp_path / "swept")} == {"mean_intensity"}
    why = "left out: components, watertight: made for shapes, and these samples are images"
    assert swept.stderr.count(why) == 1
    named = subprocess.run(
        [ASSAY, "run", "metric=components", *common, "name=named"], capture_output=True, text=True, env=environment
    )
    assert named.returncode == 1
    assert "are not volumes" in named.stderr
