"""Published results: one file of records an experiment, the tables that follow from it, and a finding in words."""

from pathlib import Path

import pytest

from assay.harness.arrays.records import read_records
from assay.harness.core.registry import discover
from assay.harness.report.tables import READABLE, tables, write_tables

discover()  # studies declare which numbers of a table are decided together
RESULTS = Path(__file__).parents[3] / "results"
PUBLISHED = sorted(path.parent for path in RESULTS.glob("*/records.jsonl*"))


def test_every_experiment_is_published_as_one_file_of_records() -> None:
    assert len(PUBLISHED) >= 8
    assert not list(RESULTS.glob("*/records/*.json"))
    assert all((folder / "README.md").is_file() for folder in PUBLISHED)


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_tables_are_those_of_the_records(folder: Path, tmp_path: Path) -> None:
    write_tables(tables(read_records(folder)), tmp_path)
    made = {path.name: path.read_bytes() for path in (tmp_path / "tables").iterdir()}
    there = {path.name: path.read_bytes() for path in (folder / "tables").glob("*")}
    if (folder / "records.jsonl").is_file():
        assert made == there
    else:  # where records are many, so are the rows of tables: those are there that are not large
        assert there.items() <= made.items()


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_long_tables_have_no_typeset_twin(folder: Path) -> None:
    for path in (folder / "tables").glob("*.csv"):
        short = path.read_text().count("\n") - 1 <= READABLE
        assert path.with_suffix(".md").is_file() == path.with_suffix(".tex").is_file() == short, path


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda folder: folder.name)
def test_no_published_cell_failed(folder: Path) -> None:
    assert [record.cell.label for record in read_records(folder) if record.status != "ok"] == []
