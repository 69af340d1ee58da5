"""Comparing generators as a run: equal ones do not differ, a perfect one is better, and the page says which."""

from typing import Any

import pytest

from assay.harness.arrays.records import read_records
from assay.harness.core.protocols import Record
from assay.harness.core.registry import discover
from assay.harness.open_run import open_run
from assay.harness.report.report import report
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.compare.measure import DIFFERENCE, OTHER, THIS

discover()
SETS = ("frechet_distance", {"metric": "precision", "k": [3, 5]}, "coverage")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Held-out digits, compared with themselves, with a VAE, and with it at half its spread."""
    folder = tmp_path_factory.mktemp("compared")
    run = open_run(
        {"digits": {}}, {"held_out": {}}, folder / "digits", n=300, n_real=600, store=folder / "store", set_metrics=SETS
    )
    to = ["held_out", "vae", {"vae": {"temperature": 0.5}}]
    carry_out(run, "compare", to=to, spaces=["classifier", "pixels"], halves=40)
    return run


def told(run: Run) -> dict[str, Record]:
    records = {r.cell.params["against"]: r for r in read_records(run.folder) if r.cell.metric == "compare"}
    assert all(record.status == "ok" for record in records.values()), [record.error for record in records.values()]
    return records


def test_equal_generators_do_not_differ(run: Run) -> None:
    values = told(run)["held_out"].values
    differences = [estimate for (_, _, subject), estimate in values.items() if subject == DIFFERENCE]
    assert len(differences) == 4 * 2
    assert all(estimate[:2] == (0, (0, 0)) for estimate in differences)


def test_a_difference_is_that_of_the_values(run: Run) -> None:
    for record in told(run).values():
        for metric, space, _ in record.values:
            this, other, difference = (record.values[metric, space, subject] for subject in (THIS, OTHER, DIFFERENCE))
            assert difference.value == pytest.approx(this.value - other.value, abs=1e-12)
            assert difference.interval[0] <= difference.value <= difference.interval[1]


def test_each_is_judged_as_it_would_be_alone(run: Run) -> None:
    (alone,) = run.evaluate(run.cell("precision", space="pixels", k=3)).values.values()
    assert told(run)["vae"].values["precision(k=3)", "pixels", THIS].value == alone.value


def test_real_images_are_better_than_generated_ones_and_the_page_says_so(run: Run) -> None:
    title, lines = "", dict[tuple[str, str], str]()
    for line in report(run.folder).splitlines():
        if not line.startswith("  "):
            title = line
        elif ", less that of " in line:
            claim, decided = line.strip().split(": ")
            lines[tuple(claim.split(", less that of "))] = decided  # type: ignore[index]
    assert len(lines) == 3 * 4 * 2, title
    for other in ("vae", "vae(temperature=0.5)"):
        assert lines["frechet_distance, classifier", other].startswith("better, -")
    assert lines["coverage, pixels", "vae(temperature=0.5)"].startswith("better, 0.")
    assert {decided for (_, other), decided in lines.items() if other == "held_out"} == {"not decided, 0 (0 to 0)."}
    page = (run.folder / "report.html").read_text()
    assert "Is this generator better than that one?" in page
    assert "held_out, digits, seed 0, 300 samples against vae(temperature=0.5)" in page


def test_wrong_calls(run: Run) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"to": []}, r"name the generators to compare with: study\.compare\.to="),
        ({"to": [{"vae": {}, "stylegan2": {}}]}, "choose one generator, not 2"),
        ({"to": ["vae"], "halves": 1}, "halves=1 2 or more"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            carry_out(run, "compare", **options)
    with pytest.raises(LookupError, match="unknown generator 'vea'; did you mean vae"):
        carry_out(run, "compare", to=["vea"])
