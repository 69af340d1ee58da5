"""Published results: the tables in git are those of the records in git, and the README quotes them."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from assay.harness.arrays.records import read_records
from assay.harness.report.tables import tables, write_tables
from assay.harness.studies.edit.page import counts

ROOT = Path(__file__).parents[3]
PUBLISHED = sorted(folder.parent for folder in (ROOT / "results").glob("*/records"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_tables_are_those_of_the_records(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "records", tmp_path / "records")
    write_tables(tables(read_records(tmp_path)), tmp_path)
    made = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    assert made == {path.name: path.read_bytes() for path in (folder / "tables").iterdir()}


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_no_published_cell_failed(folder: Path) -> None:
    assert [record.cell.label for record in read_records(folder) if record.status != "ok"] == []


def test_the_readme_quotes_the_published_correlations() -> None:
    readme = (ROOT / "README.md").read_text()
    table = pd.read_csv(ROOT / "results/quickstart/tables/correlate.csv")
    table = table[(table.generator == "vae") & (table.signal == "nearest_feature")]
    quoted = {
        "latent density, codes = posterior means, bandwidth 0.2": "latent_density",
        "latent density, codes = posterior samples, bandwidth 0.1": "latent_density(bandwidth=0.1, encode=sample)",
        "the same in the dimensions that have not collapsed": "active_latent_density(bandwidth=0.1)",
        "aggregate posterior, log q(z)": "aggregate_posterior",
    }
    for words, score in quoted.items():
        (line,) = [line for line in readme.splitlines() if line.startswith(f"| {words}")]
        for given in ("nothing", "class + complexity", "class + complexity + norm"):
            row = table[(table.score == score) & (table.given == given)].iloc[0]
            value, low, high = (f"{x:.2f}".replace("0.", ".") for x in (row.value, row.low, row.high))
            assert f"({low} to {high})" in line, (score, given)
            assert value in line, (score, given)


def test_the_readme_quotes_the_published_edits() -> None:
    (line,) = [line for line in (ROOT / "README.md").read_text().splitlines() if "`edit` |" in line]
    found = {row[0]: row[1:4] for row in counts(pd.read_csv(ROOT / "results/edit/tables/edit.csv"))}
    assert found["latent_density"] == ["32", "20", "0"]
    assert (found["negative_norm"][1:], found["pseudo_density"][1:]) == (["16", "2"], ["30", "0"])
    assert found["random_score"][1:] == ["0", "0"]
    assert "in 20 of 32 cases" in line
    assert "worse in none; the norm in 16 and 2, pseudo density in 30 and 0, a random score in none" in line
