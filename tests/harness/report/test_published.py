"""Published results: the tables in git are those of the records in git."""

import shutil
from pathlib import Path

import pytest

from assay.harness.arrays.records import read_records
from assay.harness.report.tables import tables, write_tables

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
