"""Perturbation as a run: what moves, whether an honest network is believed and a lying one caught, and the page."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.harness.arrays.records import read_records
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Estimate, Record
from assay.harness.core.registry import METRICS, STUDIES
from assay.harness.report.report import report
from assay.harness.report.tables import PUBLISHED
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.perturb import measure as module
from assay.harness.studies.perturb import names

TINY = {"epsilons": [0.3], "gradients": ["sign"], "count": 60, "resamples": 50, "epochs": 1, "shown": 3}


class Grainy:
    """Grey images like the real ones, under noise whose amount and shape are the rest of the latent."""

    spaces: Sequence[str] = ("z",)

    def __init__(self) -> None:
        self.fingerprint = f"grainy {uuid.uuid4()}"

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        return torch.from_numpy(np.stack([np.random.default_rng(seed).standard_normal(6) for seed in seeds])).float()

    def decode(self, latents: Tensor, space: str) -> Tensor:
        grey = 0.2 + 0.6 * torch.special.ndtr(latents[:, :1])
        return (grey + 0.05 * (latents[:, 1:2] / 2).exp() * latents[:, 2:]).view(-1, 1, 2, 2)


class Smooth(nn.Module):
    """In the place of a learned density: how little noise there is; or, lying, how much."""

    held_out_error = 0.0

    def __init__(self, sign: int):
        super().__init__()
        self.sign = sign

    def forward(self, features: Tensor) -> Tensor:
        return -self.sign * features.std(1)


@pytest.fixture
def run(open_views: Callable[..., Views], tmp_path: Path) -> Run:
    return Run(
        experiment="moved", generator="grainy", dataset="squares", views=open_views(Grainy()),  # type: ignore[arg-type]
        folder=tmp_path / "moved", seed=1, n=100, n_real=1000, scores=(), quality_signals=("negative_norm",),
        classes="predicted_class", covariates={}, set_metrics=(),
    )  # fmt: skip


def numbers(run: Run) -> Mapping[tuple[str, str], Mapping[tuple[str, str], Estimate]]:
    """Estimates by quantity and whose samples they are of, of each gradient and direction."""
    return {(r.cell.params["gradient"], r.cell.params["direction"]): r.values for r in records_of(run)}


def records_of(run: Run) -> list[Record]:
    records = [record for record in read_records(run.folder) if record.cell.metric == "perturb"]
    assert all(record.status == "ok" for record in records), [record.error for record in records]
    return records


def test_what_an_honest_network_promises_comes_true(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Moves, "network", Smooth(1))
    carry_out(run, "perturb", **TINY)
    found = numbers(run)
    for direction, sense in (("higher", 1), ("lower", -1)):
        one = found["sign", direction]
        assert one["largest move", "moved"].value == pytest.approx(0.3, abs=1e-6)
        assert one["largest move", "random"].value == pytest.approx(0.3, abs=1e-6)
        assert one["predicted density moves right", "moved"].value == 1
        assert one["exact density moves right", "moved"].interval[0] > 0.8
        assert one["exact density moves right", "moved"].value > one["exact density moves right", "random"].interval[1]
        assert one["exact density moves right", "moved - random"].interval[0] > 0
        assert sorted(sense * x for x in one["exact density", "moved - random"].interval)[0] > 0
        assert one["fooled", "moved"].value == pytest.approx(1 - one["exact density moves right", "moved"].value)
        assert one["exact change a predicted one", "moved"].interval[0] > 0
        for name in ("exact density", "predicted density", "negative_norm", "precision", "recall"):
            difference = one[name, "moved"].value - one[name, "before"].value
            assert one[name, "moved - before"].value == pytest.approx(difference, abs=1e-9), name
        assert one["exact density", "before"] == found["none", "none"]["exact density", "before"]
        assert one["calls", "moved"].value == 11
    assert found["none", "none"]["rank agreement", "before"].interval[0] > 0.5


def test_a_network_that_lies_is_caught(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes noise for density: every prediction moves the right way, and the exact density the other."""
    monkeypatch.setattr(module.Moves, "network", Smooth(-1))
    carry_out(run, "perturb", **TINY)
    found = numbers(run)
    for direction in ("higher", "lower"):
        one = found["sign", direction]
        assert one["predicted density moves right", "moved"].value == 1
        assert one["fooled", "moved"].interval[0] > 0.8
        assert one["fooled", "moved"].value > one["fooled", "random"].interval[1]
        assert one["exact change a predicted one", "moved"].interval[1] < 0
    assert found["none", "none"]["rank agreement", "before"].interval[1] < -0.5
    printed = report(run.folder)
    assert printed.count("does not hold, the opposite is seen") == 2
    assert printed.count("The network is fooled in 0.9") + printed.count("The network is fooled in 1 ") == 2


def test_the_raw_gradient_moves_less_where_it_is_small(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Moves, "network", Smooth(1))
    carry_out(run, "perturb", **TINY | {"gradients": ["sign", "raw"], "directions": ["higher"]})
    found = numbers(run)
    assert 0 < found["raw", "higher"]["largest move", "moved"].value < 0.3
    assert found["raw", "higher"]["exact density moves right", "moved"].interval[0] > 0.5


def test_the_page_the_pictures_and_a_second_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    carry_out(run, "perturb", **TINY)
    printed = report(run.folder)
    assert "the sign gradient, epsilon 0.3, to higher density raises it more than random moves: " in printed
    assert "judged in doubled" in printed
    (picture,) = (run.folder / "figures").glob("perturb-*.png")
    text = (run.folder / "report.html").read_text()
    assert f"picture: {picture}" in printed
    assert "rows: original, lower, higher, random" in text
    assert "negative_norm moved - random" in text
    kept = [*(run.folder / "records").rglob("*.json"), picture, run.folder / "report.html"]
    before = {path: path.read_bytes() for path in kept}
    for name in ("moved_by_gradient", "judge", "DensityNetwork"):  # a second run moves, judges and learns nothing
        monkeypatch.setattr(module, name, None)
    carry_out(run, "perturb", **TINY)
    report(run.folder)
    assert {path: path.read_bytes() for path in before} == before


def test_a_metric_of_another_version_is_computed_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Moves, "network", Smooth(1))
    few = TINY | {"directions": ["higher"]}
    carry_out(run, "perturb", **few)
    for metric, parts in (
        ("precision", 2),
        ("recall", 2),
        ("frechet_distance", 2),
        ("pseudo_density", 2),
        ("density", 0),
    ):
        run.written.clear()
        monkeypatch.setitem(METRICS, metric, replace(METRICS[metric], version=99))
        carry_out(run, "perturb", **few)
        assert len(run.written) == parts, metric
    carry_out(run, "perturb", **few)
    assert len(run.written) == 0


def test_every_option_is_recorded_under_its_name(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Moves, "network", Smooth(1))
    options = {"alpha": 0.5, "epochs": 1, "halves": 3, "k": 7, "neighbours": 4, "resamples": 21, "steps": 2}
    carry_out(run, "perturb", epsilons=[0.3], gradients=["raw"], directions=["lower"], count=12, shown=1,
              judge_space="pixels", **options)  # fmt: skip
    network, moved = sorted((record.cell.params for record in records_of(run)), key=lambda params: params["epsilon"])
    common = options | {"samples_moved": 12, "features": "doubled", "judge_space": "pixels", "space": "z"}
    assert network == common | {"part": "network", "gradient": "none", "epsilon": 0, "direction": "none"}
    assert moved == common | {"part": "moved", "gradient": "raw", "epsilon": 0.3, "direction": "lower"}


def test_published_records_have_the_settings_of_today() -> None:
    every = [r for r in read_records(PUBLISHED / "pseudo_density") if r.cell.metric == "perturb"]
    records = [r for r in every if r.version == STUDIES["perturb"].version]  # older ones wait for their command
    assert len(every) > 20
    for record in records:
        assert list(record.cell.params) == list(vars(names.Setting(**record.cell.params)))
        assert record.columns == ["quantity", "samples_of"]


def test_bad_options(run: Run) -> None:
    with pytest.raises(ValueError, match=r"count=200 must be 10 or more, and at most n=100"):
        carry_out(run, "perturb", count=200)
    with pytest.raises(ValueError, match=r"directions=\['up'\] must be some of lower, higher"):
        carry_out(run, "perturb", count=50, directions=["up"])
    with pytest.raises(ValueError, match="space='w' is not one of this generator's: z"):
        carry_out(run, "perturb", count=50, space="w")
