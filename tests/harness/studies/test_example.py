"""The study that CONTRIBUTING shows, carried out as it stands there, in a folder outside of the repository."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ASSAY = Path(sys.executable).with_name("assay")
TEXT = (Path(__file__).parents[3] / "CONTRIBUTING.md").read_text()
FILES = dict(re.findall(r"^`(\w*my_study[\w.]+)`[^\n]*:\n\n```\w+\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL))
COMMANDS = re.findall(r"^    assay --plugin (my_study\.py run [^#\n]*)", TEXT, re.MULTILINE)
"""Files of the example, and the calls below it."""

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def call(folder: Path) -> Call:
    """Run a program in the folder, with a store of its own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ASSAY_")}
    environment = kept | {"ASSAY_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words, cwd=folder, env=environment, text=True, capture_output=True, timeout=300)

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_example_is_short_and_complete() -> None:
    assert list(FILES) == ["my_study.py", "my_study.yaml", "test_my_study.py"]
    assert sum(len(text.splitlines()) for text in FILES.values()) <= 60
    assert len(COMMANDS) == 2


@pytest.fixture(scope="module")
def printed(call: Call) -> str:
    """What the first call prints; the second one was carried out too."""
    done = [call(ASSAY, "--plugin", *command.split()) for command in COMMANDS]
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    return done[0].stdout


def test_the_example_makes_a_table_and_a_page(printed: str, folder: Path) -> None:
    table = rows(folder / "outputs/my_study/tables/gap.csv")
    assert list(table[0]) == [
        *("dataset", "generator", "seed", "samples", "share", "score", "signal"),
        *("value", "low", "high", "n", "missing"),
    ]
    gaps = {(row["score"], row["signal"]): (float(row["low"]), float(row["high"])) for row in table}
    assert len(gaps) == 2 * 4
    assert gaps["pseudo_density", "nearest_feature"][0] > 0
    assert gaps["random_score", "nearest_feature"][0] < 0 < gaps["random_score", "nearest_feature"][1]
    page = (folder / "outputs/my_study/report.html").read_text()
    assert "Are the samples with the highest scores better than those with the lowest?" in page
    assert re.search(r">holds</span> .*better by nearest_feature: <b>", page)
    assert "better by nearest_feature: holds" in printed


def test_options_do_what_the_config_does(printed: str, folder: Path) -> None:
    by_config, by_options = (rows(folder / f"outputs/{name}/tables/gap.csv") for name in ("my_study", "run"))
    assert {row["share"] for row in by_options} == {"0.2"}
    same = [row for row in by_options if row["score"] in ("pseudo_density", "random_score")]
    assert same == by_config


def test_other_scores_are_another_answer(printed: str, call: Call, folder: Path) -> None:
    """The rows of a study depend on what the run asks for, which is no option of the study."""
    done = call(ASSAY, "--plugin", *COMMANDS[1].split(), "scores=[negative_norm]")
    assert done.returncode == 0, done.stderr
    assert {row["score"] for row in rows(folder / "outputs/run/tables/gap.csv")} == {"negative_norm"}


def test_the_examples_own_test_passes(call: Call) -> None:
    done = call(sys.executable, "-m", "pytest", "-q", "-p", "no:dash", "-p", "no:cacheprovider", "test_my_study.py")
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_a_key_that_no_column_can_hold_is_refused(call: Call, folder: Path) -> None:
    wrong = FILES["my_study.py"].replace("(score.label, signal.label)", "(score.label, [signal.label])")
    assert wrong != FILES["my_study.py"]
    (folder / "wrong_study.py").write_text(wrong)
    done = call(
        ASSAY, "--plugin", "wrong_study.py", "run", "study=gap", "dataset=digits", "n=60", "name=wrong",
        "scores=[random_score]", "quality_signals=[nearest_pixel]",
    )  # fmt: skip
    assert done.returncode == 2
    assert "error: study 'gap': signal=['nearest_pixel'] is a list, which no column of a table can hold" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((folder / "outputs/wrong/records").glob("gap-*"))
