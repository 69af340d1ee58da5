"""A metric of one's own put through all tests by one command."""

import subprocess
import sys
from pathlib import Path

import pytest

from assay.harness.command.tested import put_to_test
from assay.harness.core.registry import discover

discover()
PLUGIN = """
from assay import View, metric

FAKE, REAL = View("fake", "features"), View("real", "features")

@metric(better="higher", kind="set", source="not published", fake=FAKE, real=REAL)
def same_mean(fake, real, scale: float = 1.0):
    \"\"\"exp(-scale |mean(fake) - mean(real)|), in (0, 1]; sets [M, D] and [N, D].\"\"\"
    return float((-scale * (fake.double().mean(0) - real.double().mean(0)).norm()).exp())
"""
SMALL = (
    *("dataset=digits", "features=pixels", "study.sanity.size=60", "study.sanity.points=3", "study.sanity.repeats=2"),
    *("study.damage.samples=[60]", "study.damage.few=[20,60]", "study.damage.sound=3"),
)


def test_metrics_become_what_the_studies_test() -> None:
    entries = "[{metric: precision, k: 3, strict: true},recall]"
    given = ["experiment=metric", "metric=[precision,recall]", "metric.precision.k=3", "metric.precision.strict=true"]
    overrides, names = put_to_test([*given, "seed=1"])
    assert names == ["precision", "recall"]
    assert overrides == [
        "experiment=metric", "seed=1", f"study.sanity.metrics={entries}", f"study.damage.metrics={entries}",
    ]  # fmt: skip
    overrides, _ = put_to_test(["experiment=metric", "metric=recall", "study.humans.folders={cifar10: there}"])
    assert overrides[-2:] == ["study=[sanity,damage,humans]", "set_metrics=[recall]"]
    one_study = ["experiment=metric", "metric=recall", "study=[sanity]"]
    assert put_to_test(one_study)[0] == ["experiment=metric", "study=[sanity]", "study.sanity.metrics=[recall]"]
    alone = ["experiment=sanity", "metric=recall"]
    assert put_to_test(alone) == (alone, [])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], ValueError, "needs their names: add metric=NAME"),
        (["metric=glob(*)"], ValueError, "needs their names: add metric=NAME"),
        (["metric=recal"], LookupError, "recal"),
    ],
)
def test_what_cannot_be_tested_is_told(given: list[str], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        put_to_test(["experiment=metric", *given])


def test_a_metric_of_a_file_goes_through_all_of_it(tmp_path: Path) -> None:
    """It prints the row: checks passed, of 15; damage noticed; bias; and what was not measured."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    call = [
        sys.executable,
        "-m",
        "assay",
        "--plugin",
        "mine.py",
        "run",
        "experiment=metric",
        "metric=same_mean",
        *SMALL,
    ]
    untold = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True)
    assert untold.returncode == 2
    assert "give study.sanity.kind=fidelity" in untold.stderr
    done = subprocess.run([*call, "study.sanity.kind=fidelity"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("same_mean: reads training features"))
    row = {line.split("  ")[1].strip(): line for line in lines[start + 1 : start + 9]}
    assert next(iter(row)) == "checks passed"
    share = float(row["checks passed"].split()[2])
    assert share * 15 == pytest.approx(round(share * 15), abs=0.05)  # of 15 checks, in three digits
    assert " of 24]" in row["checks passed"]  # beside the 23 published ones
    assert "not measured" in row["people"]
    assert "not measured" not in row["damage noticed"]
    again = subprocess.run([*call, "study.sanity.kind=fidelity"], cwd=tmp_path, capture_output=True, text=True)
    assert "nothing was recomputed" in again.stderr
    assert again.stdout.splitlines()[start:] == lines[start:]
