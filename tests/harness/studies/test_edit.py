"""Editing as a run: what is walked, that curves are those of the samples, and what a score is good for."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from assay.harness.arrays.records import read_records
from assay.harness.core.protocols import Record
from assay.harness.core.registry import METRICS, discover
from assay.harness.open_run import open_run
from assay.harness.report.blocks import Found
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.edit import page
from assay.harness.studies.edit.measure import Edits

discover()
SCORES = ("latent_density", "negative_norm", "nearest_feature", "random_score")
FEW: dict[str, Any] = {
    "attributes": ["laplacian_variance"], "reach": 3.0, "steps": 9, "count": 80, "shown": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("edited")
    run = open_run(
        {"digits": {}}, {"vae": {}}, folder / "digits", n=300, n_real=400, store=folder / "store", scores=SCORES,
        quality_signals=("nearest_feature", "judge_confidence"),
    )  # fmt: skip
    carry_out(run, "edit", **FEW)
    return run


@pytest.fixture
def edits(run: Run) -> Edits:
    return Edits(run, "z", run.cell("laplacian_variance"), 3.0, 9, 80)


def found(run: Run, name: str = "edit") -> Record:
    (record,) = (record for record in read_records(run.folder) if record.cell.metric == name)
    assert record.status == "ok", record.error
    return record


def test_the_middle_of_an_edit_is_the_sample_itself(run: Run, edits: Edits) -> None:
    for name in ("laplacian_variance", "negative_norm", "nearest_feature"):
        cell = run.cell(name)
        sign = -1 if METRICS[name].better == "lower" else 1
        torch.testing.assert_close(edits.curves(cell)[:, 4], sign * run.sample_scores(cell)[:80], atol=1e-5, rtol=1e-5)


def test_points_lie_evenly_along_one_direction(edits: Edits) -> None:
    steps = edits.latents(5).diff(dim=1)
    expected = edits.direction.unit * edits.direction.scale * 0.75
    torch.testing.assert_close(steps, expected.expand_as(steps), atol=1e-5, rtol=0)


def test_the_edit_changes_its_attribute(run: Run) -> None:
    values = found(run).values
    assert values["laplacian_variance", "goes with the edit", "itself"].interval[0] > 0.3
    assert 0.2 < values["laplacian_variance", "linear fit", "itself"].value <= 1
    course = found(run, "edit_course").values
    assert course["laplacian_variance", "0"].value == 0
    assert course["laplacian_variance", "0.75"].value > 0.2 > -0.2 > course["laplacian_variance", "-0.75"].value


def test_the_norm_has_one_maximum_on_every_line_and_so_has_the_way_walked(run: Run) -> None:
    """What the paper shows of its score holds of what knows nothing of the data: hence the baselines."""
    values = found(run).values
    assert values["negative_norm", "one maximum", "itself"].value == 1
    assert values["minus the way walked", "one maximum", "itself"].value == 1
    assert values["minus the way walked", "maximum away by", "itself"].value == 0
    assert values["random_score", "one maximum", "itself"].interval[1] < 0.1


def test_quality_itself_knows_where_to_stop_and_chance_does_not(run: Run) -> None:
    values = found(run).values
    assert values["nearest_feature", "agreement", "nearest_feature"].value == pytest.approx(1)
    assert values["nearest_feature", "gain of stopping", "nearest_feature"].interval[0] > 0
    assert values["nearest_feature", "gain of stopping over the norm", "nearest_feature"].interval[0] > 0
    for quantity in ("agreement", "gain of stopping"):  # each a false alarm once in 20 seeds; this is one of the others
        low, high = values["random_score", quantity, "nearest_feature"].interval
        assert low < 0 < high
    quantities = {(score, quantity) for score, quantity, _ in values}
    assert ("minus the way walked", "gain of stopping") not in quantities
    assert ("negative_norm", "gain of stopping over the norm") not in quantities
    assert [key for key, value in values.items() if math.isnan(value.value)] == []


def test_the_page_says_what_was_found(run: Run) -> None:
    printed = report(run.folder)
    assert "the edit moves laplacian_variance (rank correlation): holds" in printed
    assert "negative_norm: it has one maximum in a share of 1 (" in printed
    assert "Stopping by it is better than by the norm, by nearest_feature " in printed
    (picture,) = (line.partition(": ")[2] for line in printed.splitlines() if "picture:" in line)
    assert Path(picture).read_bytes()[:4] == b"\x89PNG"
    assert "Does a score tell how far an edit may go?" in (run.folder / "report.html").read_text()


def test_arbitrary_smooth_functions_gain_too_and_stand_beside_the_counts(run: Run) -> None:
    chance = found(run, "edit_chance")
    assert chance.cell.params["draws"] == 20
    quantities = {quantity for _, _, quantity, _ in chance.values}
    assert quantities == {"gain of stopping", "gain of stopping over the norm"}
    assert len(chance.values) == 2 * 20 * 2 * 2, "lengths, draws, quantities and signals"
    gains = [each.value for (_, _, quantity, _), each in chance.values.items() if quantity == "gain of stopping"]
    assert len(set(gains)) == len(gains), "each function is another one"
    report(run.folder)
    text = (run.folder / "report.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| negative_norm | random order | 2 |"))
    assert " of 40 |" in row


def test_signals_that_are_one_count_once(run: Run) -> None:
    values = found(run, "edit_signals").values
    assert list(values) == [("nearest_feature", "judge_confidence")]
    frame = pd.DataFrame([("a", "b", 0.95), ("a", "c", 0.2), ("b", "c", 0.1)], columns=["signal", "other", "value"])
    table = pd.DataFrame({"signal": ["itself", "a", "b", "c"]})
    given = Found({"edit": table, "edit_signals": frame}, [], run.folder)
    assert page._kept_signals(given) == [["a", "b"], ["c"]]
    assert page._kept_signals(Found({"edit": table}, [], run.folder)) == [["a"], ["b"], ["c"]]


def test_another_latent_space_is_walked_in_its_own_codes(tmp_path: Path) -> None:
    run = open_run(
        {"digits": {}}, {"stylegan2": {}}, tmp_path / "w", n=60, n_real=60, store=tmp_path / "store",
        scores=("latent_knn", "negative_norm"), quality_signals=("judge_confidence",),
    )  # fmt: skip
    carry_out(run, "edit", **FEW | {"spaces": ["w", "x_T"], "count": 20})
    assert found(run).cell.params["space"] == "w"
    edits = Edits(run, "w", run.cell("laplacian_variance"), 3.0, 9, 20)
    norm = -edits.latents(20).norm(dim=2)
    torch.testing.assert_close(edits.curves(run.cell("negative_norm")), norm.double(), atol=1e-4, rtol=1e-5)


def test_wrong_calls(run: Run) -> None:
    for options, message in (
        ({"steps": 8}, "steps=8 must be odd, 5 or more"),
        ({"reach": 0.0}, r"reach=0\.0 positive"),
        ({"count": 301}, "count=301 must be 10 or more, and at most n=300"),
    ):
        with pytest.raises(ValueError, match=message):
            carry_out(run, "edit", **FEW | options)
