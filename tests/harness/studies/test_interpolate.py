"""The study of paths: on generators whose paths are known, and as a command."""

import csv
import json
import math
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import stdtrit
from torch import Tensor

from assay.harness.arrays.records import read_records
from assay.harness.arrays.views import Views
from assay.harness.core import registry
from assay.harness.core.protocols import View
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.interpolate import paths as interpolate_paths
from assay.harness.studies.interpolate.names import ROWS, SCHEMES
from assay.harness.studies.interpolate.options import Options
from assay.harness.studies.interpolate.page import observations
from assay.harness.studies.interpolate.paths import Paths
from assay.metrics.frechet import frechet_distance
from assay.metrics.neighbours import density
from assay.metrics.paths.energy import optimise_path

TINY = {"pairs": 4, "levels": 2, "iterations": 3, "starts": 2, "shown": 1}
LEAST, EXCESS = "least of all rows", "largest excess over the least"
Rows = Mapping[tuple[str, str, str, str], tuple[float, float, float]]


class Flat:
    """Images that are linear in the latent z ~ N(0, I); in the space w = 2z."""

    spaces: Sequence[str] = ("z", "w")

    def __init__(self) -> None:
        self.fingerprint = f"{type(self).__name__} {uuid.uuid4()}"

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        z = torch.from_numpy(np.stack([np.random.default_rng(seed).standard_normal(4) for seed in seeds])).float()
        return 2 * z if space == "w" else z

    def decode(self, latents: Tensor, space: str) -> Tensor:
        return (latents / 2 + 0.5).reshape(-1, 1, 2, 2)


class Round(Flat):
    """Images of the direction of a latent alone: the latents lie on a sphere."""

    def decode(self, latents: Tensor, space: str) -> Tensor:
        return super().decode(torch.nn.functional.normalize(latents, dim=1), space)


class Bent(Flat):
    """Images on a curved surface."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.size = size
        self.mix = torch.from_numpy(np.random.default_rng(0).standard_normal((4, size**2))).float()

    def decode(self, latents: Tensor, space: str) -> Tensor:
        return (0.5 + 0.3 * torch.sin(latents @ self.mix / 2)).view(-1, 1, self.size, self.size)


class Grey(Flat):
    """Images of nearly one grey value, as the real ones are of one."""

    def decode(self, latents: Tensor, space: str) -> Tensor:
        grey = latents.mean(1, keepdim=True) / 2 + 0.01 * latents
        return (grey + 0.2).reshape(-1, 1, 2, 2)


class Layers:
    """Twice the pixels, and waves over their intensity."""

    fingerprint, preprocessing = "layers", "none"

    def __call__(self, images: Tensor) -> Tensor:
        return 2 * images.flatten(1)

    def layers(self, images: Tensor) -> Mapping[str, Tensor]:
        return {"first": 2 * images, "second": (3 * images).sin()}


@pytest.fixture
def opened(open_views: Callable[..., Views], tmp_path: Path) -> Callable[..., Run]:
    """opened(generator): a run of it, with `Layers` as features, and scores as asked for."""

    def layers(dataset: str) -> Layers:
        return Layers()

    registry.extractor(layers)

    def build(
        generator: Flat | None = None, folder: str = "paths",
        scores: tuple[str, ...] = (), set_metrics: tuple[str, ...] = (),
    ) -> Run:  # fmt: skip
        views = open_views(generator)
        views.features = "layers"
        return Run(
            experiment="paths", generator="plain", dataset="squares", views=views, folder=tmp_path / folder, seed=0,
            n=50, n_real=100, scores=scores, quality_signals=(), classes="predicted_class", covariates={},
            set_metrics=set_metrics,
        )  # fmt: skip

    return build


def numbers(run: Run) -> Rows:
    """(value, low, high) by row, quantity, what it is measured in, against; records that failed are left out."""
    found = {}
    for record in read_records(run.folder):
        for keys, estimate in record.rows if record.cell.metric == "interpolate" else ():
            found[(record.cell.params["row"], *keys)] = (estimate.value, *estimate.interval)
    return found  # type: ignore[return-value]


def test_where_images_are_linear_in_the_latent_every_path_in_pixels_is_straight(opened: Callable[..., Run]) -> None:
    flat = opened(scores=("negative_norm",))
    carry_out(flat, "interpolate", levels=2, iterations=60, pairs=8, starts=1)
    found = numbers(flat)
    for of in ("latent", "pixel"):
        assert found["pixel", "energy ratio", of, "nothing"][0] == pytest.approx(1, abs=1e-3)
        assert found["linear", "energy ratio", of, "nothing"] == (1, 1, 1)
    for of in ("latent", "pixel"):
        assert found["pixel", "jensen gap", of, "nothing"][0] == pytest.approx(1, abs=1e-3)
        assert found["linear", "straightness", of, "nothing"][0] == pytest.approx(1, abs=1e-6)
        assert found["linear", "turning", of, "nothing"][0] == pytest.approx(0, abs=1e-3)
        assert found["linear", "max_end_distance", of, "nothing"][0] == pytest.approx(0.5, abs=1e-5)
    z = torch.cat([flat.views.generator.latents([seed], "z") for seed in range(16)])
    difference = z[8:] - z[:8]
    pixels = (difference / 2).square().mean(1)
    assert found["linear", "energy", "latent", "nothing"][0] == pytest.approx(float(difference.square().sum(1).mean()))
    assert found["linear", "energy", "pixel", "nothing"][0] == pytest.approx(float(pixels.mean()), rel=1e-5)
    between = torch.stack([z[:8] + t * difference for t in (0.25, 0.5, 0.75)], 1)
    expected = -between.double().norm(dim=2)
    assert found["linear", "mean score", "negative_norm", "nothing"][0] == pytest.approx(float(expected.mean()))
    assert found["linear", "worst score", "negative_norm", "nothing"][0] == pytest.approx(
        float(expected.amin(1).mean())
    )
    difference_of_scores = found["slerp", "mean score", "negative_norm", "linear"][0]
    own, straight = (found[row, "mean score", "negative_norm", "nothing"][0] for row in ("slerp", "linear"))
    assert difference_of_scores == pytest.approx(own - straight, abs=1e-9)
    assert difference_of_scores < 0, "a great arc keeps away from the middle"


def test_each_scheme_lowers_its_own_energy_and_the_curve_ends_there(opened: Callable[..., Run]) -> None:
    bent = opened(Bent())
    carry_out(bent, "interpolate", judges=["pixels"], levels=2, iterations=40, pairs=6, starts=2, rounds=0)
    found = numbers(bent)
    for row in ("pixel", "feature", "~pixel", "~feature"):
        share, excess = (found[row, name, row, "nothing"][0] for name in (LEAST, EXCESS))
        assert (share == 1) == (excess == 0)
        assert share > 0.8, "one path of equalised features is held up in another minimum"
        assert (share, excess) == tuple(found[row, f"{name} at first", row, "nothing"][0] for name in (LEAST, EXCESS))
        assert found[row, "went on", row, "nothing"][0] == 0
        gain = found[row, "improvement", row, "nothing"][0]
        assert gain == found[row, "improvement at first", row, "nothing"][0]
        assert gain > 0.003
        assert found[row, "energy ratio", row, "nothing"][0] == pytest.approx(1 - gain)
        assert found[row, "energy ratio from start 1", row, "nothing"][0] > 0.5
        (curve,) = [
            r for r in read_records(bent.folder) if r.cell.metric == "energy_curve" and r.cell.params["row"] == row
        ]
        assert curve.values["80"].value == pytest.approx(1 - gain, rel=1e-5)
        assert found[row, "calls", row, "nothing"][0] == 2 + 40 * (1 + 3) + 3
    assert found["pixel", "energy ratio", "pixels", "nothing"][0] == pytest.approx(
        found["pixel", "energy ratio", "pixel", "nothing"][0], rel=1e-5
    ), "a judge that sees pixels measures what the pixel distance does"
    plain, straight = found["~pixel", "contrast", "middle", "pixel"], found["~pixel", "contrast", "middle", "linear"]
    assert plain[0] - straight[0] == pytest.approx(-found["pixel", "contrast", "middle", "linear"][0], abs=1e-6)


def test_pairs_that_another_row_undercuts_go_on_from_its_path(opened: Callable[..., Run]) -> None:
    generator, sizes = Bent(), {"levels": 2, "iterations": 40, "pairs": 6, "starts": 1}
    alone, bent = opened(generator, "alone"), opened(generator)
    carry_out(alone, "interpolate", **sizes, rounds=0)
    carry_out(bent, "interpolate", **sizes, rounds=4)
    plain, found = numbers(alone), numbers(bent)
    schemes, images = ("pixel", "feature", "~pixel", "~feature"), 2 + 3 * (40 + 1)
    for row in schemes:
        for name in (LEAST, EXCESS, "improvement"):
            assert found[row, f"{name} at first", row, "nothing"][:1] == plain[row, name, row, "nothing"][:1]
        assert found[row, LEAST, row, "nothing"][0] == 1
        assert found[row, EXCESS, row, "nothing"][0] == 0
        went_on = found[row, "went on", row, "nothing"][0]
        assert went_on >= 1 - plain[row, LEAST, row, "nothing"][0] - 1e-9, "and those that a path that went on undercut"
        times = 6 * (found[row, "calls", row, "nothing"][0] - plain[row, "calls", row, "nothing"][0]) / images
        assert times == pytest.approx(round(times))
        assert round(6 * went_on) <= round(times) <= 4 * round(6 * went_on), "none but them"
        gain = found[row, "improvement", row, "nothing"][0] - plain[row, "improvement", row, "nothing"][0]
        assert (gain > 0) == (went_on > 0)
        assert found[row, "energy ratio", row, "nothing"][0] == pytest.approx(
            1 - found[row, "improvement", row, "nothing"][0], rel=1e-6
        )
    assert plain["~feature", LEAST, "~feature", "nothing"][0] == pytest.approx(5 / 6)
    printed = report(bent.folder)
    assert "by the paper's procedure alone: pixel in 100% of pairs" in printed
    assert "went on from its path, so by construction up to what is left: pixel in 100% of pairs" in printed
    assert "went on" not in report(alone.folder)


def test_latents_whose_length_does_not_matter_are_kept_on_a_sphere(opened: Callable[..., Run]) -> None:
    def paths(generator: Flat, constrain: str = "auto") -> Paths:
        sizes = {"levels": 2, "iterations": 5, "pairs": 4, "chunk": 8}
        return Paths(opened(generator), "z", Options(constrain=constrain, starts=1, rounds=0, **sizes))

    assert paths(Flat()).radius is None
    assert paths(Round(), constrain="free").radius is None
    assert paths(Flat(), constrain="sphere").radius == 2
    on_sphere = paths(Round())
    assert on_sphere.radius == 2
    for row in ("linear", "slerp", "pixel", "~feature"):
        torch.testing.assert_close(on_sphere.path(row).norm(dim=2), torch.full((4, 5), 2.0))
        assert torch.equal(on_sphere.path(row)[:, 0], on_sphere.ends[0])
    with pytest.raises(ValueError, match="constrain='often' must be auto, sphere or free"):
        paths(Flat(), constrain="often")


def test_equalised_images_keep_the_usual_range_of_the_generator(opened: Callable[..., Run]) -> None:
    flat = opened()
    carry_out(flat, "interpolate", **TINY)
    images = flat.views.generator.decode(flat.views.generator.latents(range(8), "z"), "z").clamp(0, 1)
    expected = f"{float(images.mean()):.3g} {float(images.flatten(1).std(1, correction=0).mean()):.3g}"
    assert {record.cell.params["equalised_to"] for record in read_records(flat.folder)} == {expected}
    carry_out(flat, "interpolate", typical=[0.45, 0.23], **TINY)
    assert {record.cell.params["equalised_to"] for record in read_records(flat.folder)} == {expected, "0.45 0.23"}
    assert report(flat.folder).count("Paths of least energy, ") == 2, "both settings are told"


def test_power_2_and_another_space(opened: Callable[..., Run]) -> None:
    flat = opened()
    carry_out(
        flat, "interpolate", spaces=["w", "unheard of"], power=2, levels=1, iterations=1, pairs=3, starts=1, shown=0
    )
    z = flat.views.generator.latents(range(6), "w")
    expected = (z[3:] - z[:3]).square().sum(1).square().mean()
    assert numbers(flat)["linear", "energy", "latent", "nothing"][0] == pytest.approx(float(expected))
    assert {record.cell.params["space"] for record in read_records(flat.folder)} == {"w"}


def test_a_score_that_has_no_answer_fails_alone(opened: Callable[..., Run]) -> None:
    flat = opened(scores=("latent_density", "cycle_consistency", "negative_norm"))
    carry_out(flat, "interpolate", **TINY)
    failed = [record for record in read_records(flat.folder) if record.status == "failed"]
    assert {record.cell.params["part"].partition("(")[0] for record in failed} == {"score cycle_consistency"}
    assert all("encoder" in str(record.error) for record in failed)
    text = report(flat.folder)
    assert "Paths of least energy" in text
    assert "failed: " in (flat.folder / "report.html").read_text()


def test_a_second_run_computes_nothing_and_a_fresh_store_gives_the_same_bytes(opened: Callable[..., Run]) -> None:
    def everything(of: Run) -> dict[str, bytes]:
        report(of.folder)
        return {str(p.relative_to(of.folder)): p.read_bytes() for p in of.folder.rglob("*") if p.is_file()}

    generator = Bent(2)
    first = opened(generator, scores=("pseudo_density",))
    carry_out(first, "interpolate", **TINY)
    before, made = everything(first), first.views.store.made
    times = {path: path.stat().st_mtime_ns for path in first.folder.glob("records/*")}
    carry_out(first, "interpolate", **TINY)
    assert first.views.store.made == made
    assert {path: path.stat().st_mtime_ns for path in first.folder.glob("records/*")} == times
    assert everything(first) == before
    for entry in first.views.store.root.rglob("*.npy"):
        entry.unlink()
    first.views.store._sound.clear()
    second = opened(generator, "again/paths", scores=("pseudo_density",))
    carry_out(second, "interpolate", **TINY)
    after = everything(second)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == []
    assert sum(name.startswith("figures/strip") for name in after) == 1


def test_frames_between_the_ends_are_compared_with_as_many_real_samples(opened: Callable[..., Run]) -> None:
    grey = opened(Grey(), set_metrics=("density", "frechet_distance"))
    carry_out(grey, "interpolate", levels=3, iterations=1, pairs=6, starts=1)
    found, views = numbers(grey), grey.views
    ends = views.generator.latents(range(12), "z")
    t = torch.linspace(0, 1, 9)[1:-1, None]
    codes = ends[:6, None] * (1 - t) + ends[6:, None] * t
    frames = (views.generator.decode(codes.flatten(0, 1), "z").clamp(0, 1) * 255).round() / 255
    fake = Layers()(frames).view(6, 7, -1)
    real = views.tensor(View("real", "layers", n=42), 0, 50)
    inside = [density(path, real).value for path in fake]
    mean, low, high = found["linear", "frames", "density in layers", "nothing"]
    assert mean == pytest.approx(sum(inside) / 6)
    quantile = stdtrit(5, 0.975)  # of Student's t
    half = quantile * np.std(inside, ddof=1) / math.sqrt(6)
    assert half > 0
    assert (low, high) == pytest.approx((mean - half, mean + half), rel=1e-5), "paths are independent, frames are not"
    whole = frechet_distance(fake.flatten(0, 1), real).value
    without = [frechet_distance(fake[torch.arange(6) != i].flatten(0, 1), real).value for i in range(6)]
    mean, low, high = found["linear", "frames", "frechet_distance in layers", "nothing"]
    assert mean == pytest.approx(whole - 5 * (np.mean(without) - whole), rel=1e-6)
    deviation = math.sqrt(5 / 6 * sum((value - np.mean(without)) ** 2 for value in without))
    assert high - mean == pytest.approx(quantile * deviation, rel=1e-5)
    slerp, difference = (found["slerp", "frames", "frechet_distance in layers", of][0] for of in ("nothing", "linear"))
    assert difference == pytest.approx(slerp - mean, abs=1e-9)


def test_records_say_what_was_done_to_the_images(opened: Callable[..., Run]) -> None:
    flat = opened(scores=("pseudo_density",))
    carry_out(flat, "interpolate", judges=["pixels"], **TINY)
    for record in read_records(flat.folder):
        assert record.preprocessing["features"] == "layers: none"
        assert record.preprocessing["pixels"].startswith("pixels: ")
        if record.cell.params.get("part") == "score pseudo_density":
            assert record.preprocessing["pseudo_density fake"] == "layers: none"


def test_a_stopped_run_loses_the_last_few_paths_only(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it ends with the very numbers of an undisturbed one."""
    sizes = {"levels": 2, "iterations": 3, "pairs": 6, "starts": 2, "shown": 0}
    whole, stopped = opened(Bent(), "whole"), opened(Bent())
    monkeypatch.setattr(interpolate_paths, "TOGETHER", 2)
    carry_out(whole, "interpolate", **sizes)
    asked = 0

    def until_the_third(*given: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise KeyboardInterrupt
        return optimise_path(*given, **options)

    monkeypatch.setattr(interpolate_paths, "optimise_path", until_the_third)
    with pytest.raises(KeyboardInterrupt):
        carry_out(stopped, "interpolate", **sizes)
    carry_out(stopped, "interpolate", **sizes)
    schemes, starts, parts = 4, 2, 3
    assert asked == 1 + schemes * starts * parts, "only the part that was under way is made again"
    found, expected = numbers(stopped), numbers(whole)
    assert found.keys() == expected.keys()
    for key, estimate in expected.items():
        assert np.array_equal(found[key], estimate, equal_nan=True), key


def test_pairs_that_are_optimised_together_do_not_depend_on_each_other(
    opened: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same paths in groups of another size, up to the rounding of float32 in networks that see other batches.

    Of what is measured on them, path PPL alone makes more of it: forward differences of length 1e-4 in float32 have a
    relative error of about 1e-3.
    """
    sizes = {"levels": 2, "iterations": 3, "pairs": 6, "rounds": 0}
    together, few = (Paths(opened(Bent()), "z", Options(**sizes)) for _ in range(2))
    expected = {row: together.path(row) for row in SCHEMES}
    monkeypatch.setattr(interpolate_paths, "TOGETHER", 2)
    for row in SCHEMES:
        torch.testing.assert_close(few.path(row), expected[row], rtol=0, atol=1e-5)


def test_records_are_made_again_when_their_metric_has_another_version(opened: Callable[..., Run]) -> None:
    """Those with its scores alone."""
    run = opened(scores=("negative_norm", "pseudo_density"))
    carry_out(run, "interpolate", **TINY)
    declared = registry.METRICS["negative_norm"]
    registry.METRICS["negative_norm"] = replace(declared, version=declared.version + 1)
    run.written.clear()
    carry_out(run, "interpolate", **TINY)
    assert [record.cell.params["part"] for record in run.written] == ["score negative_norm"] * len(ROWS)
    assert {record.version for record in read_records(run.folder)} == {3}


def test_paths_keep_their_names_in_the_store(opened: Callable[..., Run]) -> None:
    """Those of the first release, which called the learning rate a rate."""
    paths = Paths(opened(), "z", Options(levels=1, iterations=2, pairs=3, starts=1, rounds=0))
    key = paths._key("optimise_path", 2, ["~feature"], 3, row="~feature", start=0, first=0)
    assert json.loads(key.params) == {
        "space": "z", "power": 1, "segments": 2, "iterations": 2, "rate": 0.01, "sphere": "free", "pairs": 3,
        "equalised_per": "image", "equalised_to": paths.common.equalised_to, "row": "~feature", "start": 0, "first": 0,
    }  # fmt: skip


def test_paths_are_kept_under_what_they_depend_on(opened: Callable[..., Run]) -> None:
    generator = Bent()
    carry_out(opened(generator), "interpolate", **TINY, rounds=0)
    again = opened(generator, "again")
    carry_out(again, "interpolate", judges=["pixels"], **TINY, rounds=0)
    assert again.views.store.made == 0, "judges change no path"
    carry_out(again, "interpolate", typical=[0.45, 0.23], **TINY, rounds=0)
    energies = 6
    assert again.views.store.made == 2 + energies, "of `typical`, equalised features alone depend, from both starts"


def test_what_cannot_be_done_is_told(opened: Callable[..., Run]) -> None:
    with pytest.raises(ValueError, match="pairs=1 must be 2 or more"):
        carry_out(opened(), "interpolate", pairs=1)
    with pytest.raises(ValueError, match="rounds=-1 must be 0 or more"):
        carry_out(opened(), "interpolate", rounds=-1)
    with pytest.raises(ValueError, match="levels=0 must be 1 or more"):
        carry_out(opened(), "interpolate", levels=0)
    with pytest.raises(ValueError, match="must be a mean and a standard deviation"):
        carry_out(opened(), "interpolate", typical=[0.4])
    with pytest.raises(ValueError, match="unknown latent space 'x'"):
        carry_out(opened(), "interpolate", spaces=["x"])
    bare = opened(folder="bare")
    carry_out(bare, "interpolate", features="doubled", **{**TINY, "shown": 0})
    assert all("'doubled' shows no layers" in str(record.error) for record in read_records(bare.folder))


# What the page says


def observed(**differences: tuple[float, float, float]) -> str:
    """The observations; differences are given as feature_linear=(value, low, high), the others are as in the paper."""
    usual = {
        ("pixel", "contrast", "linear"): (-0.1, -0.2, -0.05),
        ("~pixel", "contrast", "pixel"): (0.1, 0.05, 0.2),
        ("feature", "brightness", "linear"): (-0.1, -0.2, -0.05),
        ("~feature", "brightness", "feature"): (0.1, 0.05, 0.2),
        ("~feature", "brightness", "linear"): (0.0, -0.1, 0.1),
    }
    found: dict[tuple[str, str, str, str], pd.Series[float]] = {}
    for (row, quantity, against), numbers in usual.items():
        numbers = differences.get(f"{row.replace('~', 'equalised_')}_{against}", numbers)
        for other, values in ((against, numbers), ("nothing", (0.5, 0.4, 0.6))):
            found[row, quantity, "middle", other] = pd.Series(dict(zip(("value", "low", "high"), values, strict=True)))
    return "\n".join(map(str, observations(found)))


def test_every_observation_has_its_verdict() -> None:
    assert observed().count("): holds, ") == 4
    pixel = "mid-path (pixel less the straight path): "
    assert f"{pixel}not decided" in observed(pixel_linear=(-0.1, -0.2, 0.05))
    assert f"{pixel}does not hold, the opposite is seen" in observed(pixel_linear=(0.1, 0.05, 0.2))
    assert "contrast (~pixel less pixel): not decided" in observed(equalised_pixel_pixel=(0.1, -0.1, 0.2))
    stops = "stops the darkening (~feature less feature): "
    assert f"{stops}no darkening was found that it could stop" in observed(feature_linear=(0.1, 0.05, 0.2))
    assert f"{stops}holds in part, it lessens" in observed(equalised_feature_linear=(-0.1, -0.2, -0.05))
    assert f"{stops}does not hold" in observed(equalised_feature_feature=(-0.1, -0.2, -0.05))
    assert f"{stops}not decided" in observed(equalised_feature_feature=(0.1, -0.1, 0.2))
    assert "Less that of the straight path it is 0 (-0.1 to 0.1)." in observed()
    assert observations({}) == []


# The command


def test_the_experiment_makes_table_strips_and_page(tmp_path: Path) -> None:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ASSAY_")}
    folders = {"ASSAY_STORE": str(tmp_path / "store"), "ASSAY_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    options = [f"study.interpolate.{name}={value}" for name, value in {**TINY, "shown": 2}.items()]
    tiny = ["dataset=digits", "n=200", "n_real=500", "device=cpu"]
    command = [Path(sys.executable).with_name("assay"), "run", "experiment=path_energy", "generator=stylegan2", *tiny]
    finished = subprocess.run(
        [*command, *options, "out=made"], cwd=tmp_path, env=kept | folders,
        text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    for claim in ("Energy in pixels flattens the contrast mid-path (", "Energy in features darkens the path ("):
        assert claim in finished.stdout
    made = tmp_path / "made" / "path_energy"
    page = (made / "report.html").read_text()
    count = page.count("<img alt=") + page.count('<figure class="plot"')
    assert count == 12, "in z and in w, by the paper's procedure and after rounds: two strips and the curves of energy"
    assert "Equalisation stops the darkening" in page
    with (made / "tables" / "interpolate.csv").open() as file:
        table = list(csv.DictReader(file))
    rows = {"linear", "slerp", "pixel", "feature", "~pixel", "~feature"}
    for space in ("z", "w"):
        assert {line["row"] for line in table if line["space"] == space} == rows
    frames = {line["measured_in"] for line in table if line["quantity"] == "frames"}
    assert frames == {"precision in classifier", "frechet_distance in classifier"}
    in_all = {line["measured_in"] for line in table if line["quantity"] == "energy ratio"}
    assert in_all == {"latent", "pixel", "feature", "~pixel", "~feature", "judge"}
    for line in table:
        if line["quantity"] not in ("calls", EXCESS, f"{EXCESS} at first"):
            assert all(math.isfinite(float(line[bound])) for bound in ("low", "high")), line
            assert line["n"] == "4"
