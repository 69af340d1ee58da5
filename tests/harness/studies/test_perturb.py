"""Perturbation as a run: what moves, whether an honest network is believed and a lying one caught, and the page."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.harness.arrays.records import read_records
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Estimate
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.studies.perturb import measure as module
from assay.harness.studies.perturb.measure import perturb

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
def study(open_views: Callable[..., Views], tmp_path: Path) -> Run:
    return Run(
        experiment="moved", generator="grainy", dataset="squares", views=open_views(Grainy()),  # type: ignore[arg-type]
        folder=tmp_path / "moved", seed=1, n=100, n_real=1000, scores=(), quality_signals=("negative_norm",),
        classes="predicted_class", covariates={}, set_metrics=(),
    )  # fmt: skip


def numbers(run: Run) -> Mapping[tuple[str, str], Mapping[str, Estimate]]:
    """Estimates by part and direction."""
    records = [record for record in read_records(run.folder) if record.cell.metric == "perturb"]
    assert all(record.status == "ok" for record in records), [record.error for record in records]
    return {(r.cell.params["gradient"], r.cell.params["direction"]): r.values for r in records}


def test_what_an_honest_network_promises_comes_true(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Moves, "network", Smooth(1))
    perturb(run, **TINY)  # type: ignore[arg-type]
    found = numbers(run)
    for direction, sense in (("higher", 1), ("lower", -1)):
        one = found["sign", direction]
        assert one["largest move ~ moved"].value == pytest.approx(0.3, abs=1e-6)
        assert one["largest move ~ random"].value == pytest.approx(0.3, abs=1e-6)
        assert one["predicted density moves right ~ moved"].value == 1
        assert one["exact density moves right ~ moved"].interval[0] > 0.8
        assert one["exact density moves right ~ moved"].value > one["exact density moves right ~ random"].interval[1]
        assert one["exact density moves right ~ moved - random"].interval[0] > 0
        assert sorted(sense * x for x in one["exact density ~ moved - random"].interval)[0] > 0
        assert one["fooled ~ moved"].value == pytest.approx(1 - one["exact density moves right ~ moved"].value)
        assert one["exact change a predicted one ~ moved"].interval[0] > 0
        for name in ("exact density", "predicted density", "negative_norm", "precision", "recall"):
            difference = one[f"{name} ~ moved"].value - one[f"{name} ~ before"].value
            assert one[f"{name} ~ moved - before"].value == pytest.approx(difference, abs=1e-9), name
        assert one["exact density ~ before"] == found["none", "none"]["exact density ~ before"]
        assert one["calls ~ moved"].value == 11
    assert found["none", "none"]["rank agreement ~ before"].interval[0] > 0.5


def test_a_network_that_lies_is_caught(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes noise for density: every prediction moves the right way, and the exact density the other."""
    monkeypatch.setattr(module.Moves, "network", Smooth(-1))
    perturb(run, **TINY)  # type: ignore[arg-type]
    found = numbers(run)
    for direction in ("higher", "lower"):
        one = found["sign", direction]
        assert one["predicted density moves right ~ moved"].value == 1
        assert one["fooled ~ moved"].interval[0] > 0.8
        assert one["fooled ~ moved"].value > one["fooled ~ random"].interval[1]
        assert one["exact change a predicted one ~ moved"].interval[1] < 0
    assert found["none", "none"]["rank agreement ~ before"].interval[1] < -0.5
    printed = report(run.folder)
    assert printed.count("works the wrong way") == 2
    assert "fooled 0.9" in printed or "fooled 1 " in printed


def test_the_raw_gradient_moves_less_where_it_is_small(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.Moves, "network", Smooth(1))
    perturb(run, **TINY | {"gradients": ["sign", "raw"], "directions": ["higher"]})  # type: ignore[arg-type]
    found = numbers(run)
    assert 0 < found["raw", "higher"]["largest move ~ moved"].value < 0.3
    assert found["raw", "higher"]["exact density moves right ~ moved"].interval[0] > 0.5


def test_the_page_the_pictures_and_a_second_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    perturb(run, **TINY)  # type: ignore[arg-type]
    printed = report(run.folder)
    assert "higher, sign gradient, epsilon 0.3: " in printed
    assert "judged in doubled" in printed
    (picture,) = (run.folder / "figures").glob("perturb-*.png")
    text = (run.folder / "report.html").read_text()
    assert "rows: original, lower, higher, random" in text
    assert "negative_norm moved - random" in text
    kept = [*(run.folder / "records").rglob("*.json"), picture, run.folder / "report.html"]
    before = {path: path.read_bytes() for path in kept}
    for name in ("moved_by_gradient", "judge", "DensityNetwork"):  # a second run moves, judges and learns nothing
        monkeypatch.setattr(module, name, None)
    perturb(run, **TINY)  # type: ignore[arg-type]
    report(run.folder)
    assert {path: path.read_bytes() for path in before} == before


def test_bad_options(run: Run) -> None:
    with pytest.raises(ValueError, match=r"count=200 must be 10 or more, and at most n=100"):
        perturb(run, count=200)
    with pytest.raises(ValueError, match=r"directions=\['up'\] must be some of lower, higher"):
        perturb(run, count=50, directions=["up"])
    with pytest.raises(ValueError, match="space='w' is not one of this generator's: z"):
        perturb(run, count=50, space="w")
