"""The leaderboard of metrics: what is read from which table, ranks, who is preferable, and what was not measured."""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from assay.harness.cli import main as cli
from assay.harness.command.board import main as board
from assay.harness.core.protocols import Estimate
from assay.harness.core.registry import discover
from assay.harness.report.evidence import COSTS, QUESTIONS, Evidence, Question, gathered, needs, undominated
from assay.harness.report.metrics_board import MISSING, about, metric_frame, said

RESULTS = Path(__file__).parents[3] / "results"
discover()


def frame(columns: str, *rows: str) -> pd.DataFrame:
    """A table of text; what looks like a number is one."""
    made = pd.DataFrame([row.split("|") for row in rows], columns=columns.split("|"))
    return made.apply(lambda column: pd.to_numeric(column, errors="coerce") if column.name in NUMERIC else column)


NUMERIC = ("value", "low", "high", "n", "count", "seconds")
SANITY = frame(
    "metric|options|check|case|verdict",
    *(f"precision|k=3|{i}|all|{'low' if i % 2 else 'pass'}" for i in range(6)), "precision|k=3|7|all|fail",
    "precision|k=3|7|first|pass", *(f"recall||{i}|all|undefined" for i in range(7)),
    *(f"density|{k}|{i}|all|{verdict}" for k, verdict in (("", "pass"), ("k=9", "fail")) for i in range(4)),
)  # fmt: skip


def test_the_share_of_checks_is_that_of_their_sums() -> None:
    found = gathered([{"sanity": SANITY}])
    shares = {row: found.values[row, "checks passed"] for row in found.rows}
    assert {row: (share.value, share.n) for row, share in shares.items()} == {
        "density": (1, 4), "density(k=9)": (0, 4), "precision": (6 / 7, 7), "recall": (0, 7),
    }  # fmt: skip
    assert found.ranks["precision", "checks passed"] == 1  # Wilson's intervals of 6 in 7 and of 4 in 4 overlap
    assert found.ranks["recall", "checks passed"] == 3


def test_damage_is_noticed_at_a_little_share_and_slips_are_no_damage() -> None:
    rows = [f"precision||blur {i}|smallest share|{share}|||2" for i, share in enumerate((0.02, 0.1, 0.11, ""))]
    rows += ["precision||slip: range|smallest share|0.01|||2", "precision||slip: range|change|-3|-4|-2|2",
             "precision||slip: JPEG 75|change|2|1|3|2", "precision||blur 0|change|-9|-9|-9|2"]  # fmt: skip
    found = gathered([{"damage_summary": frame("metric|options|damage|number|value|low|high|n", *rows)}])
    assert (found.values["precision", "damage noticed"].value, found.values["precision", "damage noticed"].n) == (
        0.5,
        4,
    )
    assert found.values["precision", "slips withstood"].value == 0.5


def test_bias_is_in_deviations_of_one_value() -> None:
    """Ten values with deviation 2 at 100 samples have a mean that is 3 from that at 1,000: 1.5 deviations."""
    half = float(student.ppf(0.975, 9)) * 2 / math.sqrt(10)
    rows = [f"fid||1000|7|{7 - 0.1}|{7 + 0.1}|10", f"fid||100|10|{10 - half}|{10 + half}|10", "fid||300|90|80|99|10"]
    rows.append("kid||100|1|||1")
    found = gathered([{"damage_few": frame("metric|options|count|value|low|high|n", *rows)}])
    bias = found.values["fid", "bias of few"]
    assert bias.value == pytest.approx(1.5)
    assert bias.interval == pytest.approx((1.5 - math.hypot(half, 0.1) / 2, 1.5 + math.hypot(half, 0.1) / 2))
    assert ("kid", "bias of few") not in found.values  # the spread of one value is not known


DETECT = "dataset|generator|seed|samples|covariates|score|fault|value|low|high|n"
DETECTED = (
    "mnist|faulty(faults=content)|0|100|nothing|realism|any fault|.5|.4|.6|100",
    "mnist|faulty(faults=content)|0|100|class + typicality|realism|any fault|.9|.8|.95|100",
    "mnist|faulty(faults=content)|0|100|class + typicality|realism|hole|.1|.0|.2|100",
    "mnist|faulty(faults=content)|0|100|class + typicality|rarity|any fault|.2|.1|.3|100",
    "digits|faulty|0|100|class|realism|any fault|.7|.6|.8|100",
    "sdf_primitives(test=9)|faulty|0|100|class + typicality|realism|any fault|.6|.5|.7|100",
    "sdf_primitives|sdf_vae|0|100|class + typicality|rarity|any fault|.6|.5|.7|100",
)


def test_faults_are_those_within_the_finest_strata_of_runs_that_all_scores_have() -> None:
    found = gathered([{"detect": frame(DETECT, *DETECTED[:3])}, {"detect": frame(DETECT, *DETECTED[3:])}])
    of_images = found.values["realism", "faults of images"]
    assert of_images.value == pytest.approx(0.8)
    assert of_images.interval == pytest.approx((0.8 - math.hypot(0.1, 0.1) / 2, 0.8 + math.hypot(0.05, 0.1) / 2))
    assert found.values["realism", "faults of shapes"].value == 0.6
    assert found.rows == ["realism"]  # rarity was tried in one of two runs


def test_what_the_published_tables_say() -> None:
    humans = pd.read_csv(RESULTS / "humans" / "tables" / "humans.csv")
    found = gathered([{"humans": humans}])
    assert found.values["frechet_distance", "people"].value == pytest.approx(0.79073)
    assert "authenticity" not in found.rows  # no direction, no agreement
    assert found.ranks["density", "people"] > found.ranks["coverage", "people"] == 1


ASKED = {question.name: question for question in QUESTIONS}


def values(**of: dict[str, tuple[float, float]]) -> dict[tuple[str, str], Estimate]:
    return {
        (metric, name): Estimate((low + high) / 2, (low, high), 9) for metric, named in of.items()
        for name, (low, high) in named.items()
    }  # fmt: skip


def test_bias_is_the_mean_over_data_sets_and_of_numbers_with_a_spread() -> None:
    half = float(student.ppf(0.975, 3)) / 2  # of the mean of 4 values with a deviation of 1
    rows = [
        f"fid||{data}|{count}|{value}|{value - width}|{value + width}|{n}"
        for data, values in {"mnist": (5, 3), "other": (10, 9)}.items()
        for count, value, width, n in zip((100, 1000), values, (half, 0.1), (4, 4), strict=True)
    ]
    rows.append("fid||mnist|9000|0|||1")
    found = gathered([{"damage_few": frame("metric|options|dataset|count|value|low|high|n", *rows)}])
    assert found.values["fid", "bias of few"].value == pytest.approx((2 + 1) / 2)


def test_damage_of_more_samples_does_not_count_twice() -> None:
    rows = ["fid||blurred|smallest share|1000|.2|.2|.2|2", "fid||blurred|smallest share|5000|.05|.05|.05|2"]
    found = gathered([{"damage_summary": frame("metric|options|damage|number|size|value|low|high|n", *rows)}])
    assert found.values["fid", "damage noticed"].value == 0
    assert found.values["fid", "damage noticed"].n == 1


def test_preferable_is_what_is_better_somewhere_and_worse_nowhere() -> None:
    found = values(
        good={"people": (0.8, 0.9), "bias of few": (0.1, 0.2), "checks passed": (0.5, 0.6)},
        worse={"people": (0.1, 0.2), "bias of few": (0.1, 0.3)},
        other={"people": (0.1, 0.2), "bias of few": (0.0, 0.05)},
        alone={"people": (0.1, 0.9), "seconds": (9.0, 9.0)},
    )
    assert undominated(["good", "worse", "other", "alone"], found) == {"good", "other", "alone"}


def test_a_cost_without_interval_is_ranked_by_its_value() -> None:
    costs = frame("metric|seconds|low|high", "fid|2||", "kid|1|.9|1.1", "recall|1||")
    found = gathered([{COSTS: costs}])
    assert {row: found.ranks[row, "seconds"] for row in found.rows} == {"fid": 3, "kid": 1, "recall": 1}
    assert found.best == frozenset()  # nothing but the cost is known of them


def test_what_was_not_measured_is_said_to_be_missing_and_never_zero() -> None:
    found = gathered([{"sanity": SANITY}])
    table = metric_frame(found)
    assert set(table.question) == {question.name for question in QUESTIONS}
    missing = table[table.measured == MISSING]
    assert len(missing) == len(found.rows) * (len(QUESTIONS) - 1)
    assert set(missing.value) | set(missing.low) | set(missing["rank"]) == {""}
    lines = about(found, "recall")
    assert lines[0] == "recall: reads training features"
    assert sum(MISSING in line for line in lines) == len(QUESTIONS) - 1
    assert about(found, "fid")[1:] == [line for line in about(found, "fid") if MISSING in line]
    assert said(found)[0] == "First in checks passed, of 4: density, precision."


def test_needs_are_those_of_the_declaration() -> None:
    assert needs("latent_density(bandwidth=0.5)") == "training codes"
    assert needs("class_gaussian_log_density") == "training codes, training labels"
    assert needs("nearest_feature") == "held-out features"
    assert needs("vendi_score") == "nothing"
    assert needs("of somebody else") == "not known here"


def test_questions_are_of_columns_that_differ() -> None:
    assert len(ASKED) == len(QUESTIONS)
    assert all(isinstance(question, Question) for question in QUESTIONS)
    assert isinstance(gathered([]), Evidence)
    assert gathered([]).rows == []


def test_folders_that_test_metrics_alone_make_a_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    costs = tmp_path / "costs"
    costs.mkdir()
    frame("metric|seconds|low|high", "coverage|2|1.9|2.1", "vendi_score|1||").to_csv(
        costs / f"{COSTS}.csv", index=False
    )
    assert board([str(RESULTS / "humans"), str(costs), "--out", str(tmp_path / "board")]) == 0
    assert sorted(path.name for path in (tmp_path / "board").iterdir()) == ["board.html", "board.md", "metrics.csv"]
    table = pd.read_csv(tmp_path / "board" / "metrics.csv").set_index(["metric", "question"])
    assert table.value["coverage", "seconds"] == 2
    assert np.isnan(table.value["vendi_score", "people"])
    assert table.measured["vendi_score", "people"] == MISSING
    assert "metrics put to the test: 8" in capsys.readouterr().out
    page = (tmp_path / "board" / "board.md").read_text()
    header = next(line for line in page.splitlines() if line.startswith("| metric |"))
    assert all(title.strip() for title in header.strip("|").split("|")), (
        "a screen reader needs the title of each column"
    )
    assert (
        "| coverage | not measured | not measured | not measured | not measured | 0.757 (0.531 to 0.897) [1] |" in page
    )


def test_evidence_about_one_metric_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def call(*words: str) -> tuple[object, str]:
        monkeypatch.setattr("sys.argv", ["assay", "list", *words])
        with pytest.raises(SystemExit) as ended:
            cli()
        return ended.value.code, "".join(capsys.readouterr())

    code, text = call("metrics", "--evidence", "coverage")
    assert code == 0
    assert "0.757 (0.531 to 0.897) [1 of 7]" in text
    for words, told in (
        (("metrics", "--evidence", "coverag"), "unknown metric 'coverag'; did you mean coverage"),
        (("studies", "--evidence", "coverage"), "--evidence is about metrics, not studies"),
        (("metrics", "--evidence", "coverage", "--results", str(tmp_path / "no")), "does not exist; give a folder"),
    ):
        code, text = call(*words)
        assert (code, told in text) == (2, True), text
    code, text = call("metrics", "--evidence", "coverage", "--results", str(tmp_path))
    assert (code, text.count(MISSING)) == (0, len(QUESTIONS))
