"""Files of tables for papers: those published, what the commands write, and that LaTeX reads all of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from assay.harness.arrays.records import read_records
from assay.harness.command.paper import main
from assay.harness.core.registry import discover
from assay.harness.report.paper.files import DESCRIBED, paper_files, write_paper
from assay.harness.report.paper.spec import read_specs
from assay.harness.report.report import report
from tests.harness.report.paper.records import body, failed, metric, written

discover()
RESULTS = Path(__file__).parents[4] / "results"
EXPERIMENTS = sorted(path.stem for path in DESCRIBED.glob("*.yaml"))
PUBLISHED = sorted(RESULTS.glob("*/paper/*.tex"))
HOSTILE = 'vae_50%&$x$#{y}\\input{secrets}~^\n\\end{tabular}[*] --fake <|> "é→Đ" \x1b'
OWN = "a:\n  table: leaderboard\n  rows: generator\n  columns: [{title: P, metric: precision}]\n"


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_published_files_are_those_of_the_records(name: str) -> None:
    made, refused = paper_files(read_specs(DESCRIBED / f"{name}.yaml"), read_records(RESULTS / name), f"{name}.yaml")
    assert refused == {}
    assert made == {path.name: path.read_bytes() for path in (RESULTS / name / "paper").iterdir()}


def test_every_paper_has_its_tables() -> None:
    assert {"quickstart", "few_shot", "shapes", "pseudo_density", "path_energy"} <= set(EXPERIMENTS)
    assert {path.parents[1].name for path in PUBLISHED} == set(EXPERIMENTS)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_published_tables_have_as_many_cells_as_columns_in_every_row(path: Path) -> None:
    found = body(path.read_text())
    assert len(found) >= 4
    assert re.search(
        r"^% Records: \d+ of assay run experiment=\w+, sha256 [0-9a-f]{64}$", path.read_text(), re.MULTILINE
    )


def test_the_published_numbers_are_those_of_the_finding() -> None:
    """README of results/quickstart: .493 (.473 to .515) of the aggregate posterior, with the norm held fixed."""
    text = (RESULTS / "quickstart" / "paper" / "correlation.tex").read_text()
    (row,) = [row for row in body(text) if row[0] == r"Aggregate posterior $\log q(z)$"]
    assert row[2] == r"$0.49^{*}{\scriptstyle\,\pm\,0.02}$"


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", metric(HOSTILE, 0.5, 0.4, 0.6), failed(metric("b", 0, 0, 0), HOSTILE))
    (tmp_path / "own.yaml").write_text(OWN)
    (path,) = write_paper(folder, read_records(folder), tmp_path / "own.yaml").paths
    text = path.read_text()
    assert [len(row) for row in body(text)] == [2, 2, 2]
    assert r"\input{" not in text
    assert text.count(r"\end{tabular}") == 1
    assert "\x1b" not in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_latex_reads_them_with_booktabs_alone(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", metric(HOSTILE, 0.5, 0.4, 0.6), failed(metric("b", 0, 0, 0), HOSTILE))
    (tmp_path / "own.yaml").write_text(OWN)
    own = write_paper(folder, read_records(folder), tmp_path / "own.yaml").paths
    inputs = "".join(f"\\input{{{path}}}\\clearpage\n" for path in [*PUBLISHED, *own])
    head = "\\documentclass{article}\n\\usepackage[a4paper,textwidth=5.5in]{geometry}\n\\usepackage{booktabs}\n"
    (tmp_path / "all.tex").write_text(f"{head}\\begin{{document}}\n{inputs}\\end{{document}}\n")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "all.log").read_text(errors="replace")
    assert "Missing character" not in log
    assert f"({len(PUBLISHED) + 1} pages" in done.stdout
    wide = [float(found) for found in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\) in paragraph", log)]
    assert len(wide) <= 1, "the row of the hostile name is wider than a page, and no published table is"


# Commands


def test_a_report_makes_the_tables_of_an_experiment_of_its_name(tmp_path: Path) -> None:
    """A run that has no such study still gets its page, and is told what could not be made."""
    models = [metric(f"vae{t}", 0.5, 0.4, 0.6, metric=name) for t in ("", "(temperature=0.7)", "(temperature=1.3)")
              for name in ("frechet_distance", "precision", "recall", "density", "coverage")]  # fmt: skip
    folder = written(tmp_path / "quickstart", *models)
    (folder / "paper").mkdir()
    (folder / "paper" / "correlation.tex").write_text("of an earlier run")
    said = report(folder)
    assert (folder / "paper" / "models.tex").is_file()
    assert not (folder / "paper" / "correlation.tex").exists()
    assert "table correlation was not made: unknown table 'correlate'" in said
    assert f"for papers: {folder / 'paper' / 'models.tex'}" in said


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", metric("vae", 0.5, 0.4, 0.6))
    (tmp_path / "outside").mkdir()
    (folder / "paper").symlink_to(tmp_path / "outside")
    (tmp_path / "own.yaml").write_text(OWN)
    with pytest.raises(ValueError, match="is a link out of"):
        write_paper(folder, read_records(folder), tmp_path / "own.yaml")


def test_the_command_prints_its_files_and_what_it_could_not_make(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = written(tmp_path / "run", metric("vae", 0.5, 0.4, 0.6))
    (tmp_path / "own.yaml").write_text(OWN + OWN.replace("a:", "b:").replace("precision", "recall"))
    assert main([str(folder), str(tmp_path / "own.yaml"), "--out", str(tmp_path / "tex")]) == 1
    said = capsys.readouterr()
    assert said.out == f"{tmp_path / 'tex' / 'a.tex'}\n"
    assert said.err.startswith("table b was not made: P: unknown metric 'recall'")
    assert not (folder / "paper").exists()
    with pytest.raises(
        FileNotFoundError, match=r"called run \(only for few_shot, .*write what the tables show to a file"
    ):
        main([str(folder)])
    with pytest.raises(FileNotFoundError, match=r"mine.yaml: there is no such file"):
        main([str(folder), "mine.yaml"])
