"""Zip archives: names stay inside, and false sizes cost nothing."""

import zipfile
from pathlib import Path

import pytest

from assay.harness.core import folders
from assay.harness.core.folders import open_files


@pytest.mark.parametrize("name", ["../out.png", "a/../../out.png", "/etc/out.png", "..\\out.png"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"x")
        archive.writestr(name, b"y")
    with pytest.raises(ValueError, match="lies outside of it; pack it again"):
        open_files(tmp_path / "a.zip")


def test_a_file_that_expands_too_far_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "LARGEST", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("large.png", bytes(2**20 + 1))
        archive.writestr("small.png", bytes(2**20))
    files = open_files(tmp_path / "a.zip")
    assert len(files.open("small.png").read()) == 2**20
    with pytest.raises(ValueError, match="1,048,577 bytes; files of at most 1,048,576 bytes are read"):
        files.open("large.png")
