"""Where declarations are: our folders, installed packages and plugin files, all of which are imported to find them."""

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path

from .files import digest

PLUGINS = "ASSAY_PLUGINS"
"""Environment variable: plugin files, separated as in PATH. Worker processes inherit it."""
DECLARING = (
    "metrics/*.py",
    "metrics/extractors/*.py",
    "generators/*.py",
    "datasets/*.py",
    "harness/studies/*/measure.py",
    "harness/sinks/*.py",
)
"""Files that declare metrics, feature spaces, generators, data sets, studies and sinks."""


def discover(*patterns: str) -> None:
    """Import every module that may declare something: our folders, entry points `assay.plugins`, and PLUGINS files.

    patterns: those of DECLARING whose files are enough; by default all.
    """
    root = Path(__file__).parents[2]
    package = __package__.removesuffix(".harness.core")
    for pattern in patterns or DECLARING:
        for file in sorted(root.glob(pattern)):
            importlib.import_module(".".join([package, *file.relative_to(root).with_suffix("").parts]))
    for entry in entry_points(group="assay.plugins"):
        entry.load()
    for plugin in plugin_files():
        _import_file(plugin)


def plugin_files() -> list[Path]:
    """The files in the variable PLUGINS, which colons part; a colon within a path has a backslash before it."""
    texts = re.split(rf"(?<!\\){os.pathsep}", os.environ.get(PLUGINS, ""))
    return [Path(text.replace(f"\\{os.pathsep}", os.pathsep)) for text in texts if text]


def tell_plugin_files(files: Sequence[Path]) -> None:
    """Put files into that variable, which other processes inherit."""
    os.environ[PLUGINS] = os.pathsep.join(str(file).replace(os.pathsep, f"\\{os.pathsep}") for file in files)


def _import_file(file: Path) -> None:
    name = f"assay_plugin_{digest(str(file.absolute()))[:12]}_{file.stem}"
    if name in sys.modules:
        return
    if not file.is_file():
        raise FileNotFoundError(f"plugin {file} does not exist; give the path of a Python file that declares something")
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"plugin {file} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
