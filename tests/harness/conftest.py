"""The command in a folder of its own, for all tests of a file."""

import pytest

from .shell import Shell


@pytest.fixture(scope="module")
def assay(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("cli"))
