"""Old import paths: the same modules as the new ones, so that plugins and notebooks of the first release still run."""

import importlib
import subprocess
import sys

import pytest

from assay.harness.core.moved import MOVED


@pytest.mark.parametrize("old", sorted(MOVED))
def test_an_old_name_is_the_module_of_the_new_one(old: str) -> None:
    module = importlib.import_module(f"assay.{old}")
    assert module is importlib.import_module(f"assay.{MOVED[old]}")
    assert module.__name__ == f"assay.{MOVED[old]}"


def test_public_functions_import_as_before() -> None:
    """In a fresh process, where nothing was imported by its new name."""
    code = (
        "from assay.metrics.path_energy import path_energy, slerp\n"
        "from assay.metrics import path_energy as module, moments\n"
        "from assay.harness.protocols import View\n"
        "from assay.harness.registry import metric\n"
        "assert module.slerp is slerp and moments.Moments"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
