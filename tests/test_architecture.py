"""The shape of the house: which part may import which, and that packaging knows every folder."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("harness", "metrics", "generators", "datasets", "configs")
SHARED = {
    "protocols",
    "registry",
    "files",
    "progress",
    "images",
    "surfaces",
    "shading",
    "weights",
    "checkpoint",
    "download",
}
"""What metrics, generators and data sets may know of the harness."""
ORDER = (
    *(
        "protocols",
        "files",
        "images",
        "surfaces",
        "shading",
        "pictures",
        "progress",
        "weights",
        "pickles",
        "checkpoint",
        "download",
        "registry",
        "costs",
        "store",
        "records",
        "stats",
        "auroc",
        "sentences",
        "feature_files",
        "typeset",
        "tables",
        "scores",
    ),
    *("html", "figures", "report", "inversion", "views", "evaluate", "study", "train", "feature_sets", "tasks", "cli"),
)
"""The harness from the bottom up: a file imports only from those before it."""


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Modules of assay that a file imports, as parts from the root, and the top-level name of all others."""
    here = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0],) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            module = tuple((node.module or "").split(".")) if node.module else ()
            yield from ([base + module] if module else [(*base, alias.name) for alias in node.names])
        elif isinstance(node, ast.ImportFrom):
            yield ((node.module or "").split(".")[0],)


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", sources("metrics", "generators", "datasets"), ids=lambda p: str(p.relative_to(ROOT)))
def test_families_know_only_themselves_and_the_declarations(path: Path) -> None:
    own = path.relative_to(ROOT).parts[0]
    for parts in imports(path):
        if parts[0] == "harness":
            assert parts[1] in SHARED, f"{path} imports harness.{parts[1]}"
        assert parts[0] not in set(FOLDERS) - {own, "harness"}, f"{path} imports {parts[0]}"


@pytest.mark.parametrize("path", sources("harness"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_harness_imports_downwards(path: Path) -> None:
    own = ORDER.index(path.relative_to(ROOT).parts[1].removesuffix(".py"))
    families = {"metrics", "generators", "datasets"} - ({"metrics"} if path.parent.name == "tasks" else set())
    for parts in imports(path):
        assert parts[0] not in families, f"{path} knows {'.'.join(parts)} by name"
        if parts[0] == "harness":
            other = ORDER.index(parts[1])
            assert other <= own, f"{path} imports harness.{parts[1]}, which stands above it"
        if parts[0] == "hydra":
            assert path.name == "cli.py", f"{path} imports hydra"


def test_nothing_needs_torchvision() -> None:
    for path in sources(*FOLDERS):
        assert not {"torchvision", "timm", "lpips"} & {parts[0] for parts in imports(path)}, path


def test_packaging_lists_every_folder() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    code = {path.parent for path in sources(*FOLDERS)}
    data = {path.parent for pattern in ("configs/**/*.yaml", "generators/**/*.json") for path in ROOT.glob(pattern)}
    found = {".".join(("assay", *folder.relative_to(ROOT).parts)) for folder in code | data}
    assert found | {"assay"} == listed


def test_code_folders_are_no_packages_of_their_own() -> None:
    """An __init__.py would make `import datasets` from the root find ours and not Hugging Face's."""
    for folder in ("harness", "metrics", "generators", "datasets"):
        assert not list((ROOT / folder).rglob("__init__.py"))


def test_type_checkers_see_the_same_files() -> None:
    links = ROOT / ".typing" / "assay"
    assert {link.name for link in links.iterdir()} == {"__init__.py", *FOLDERS}
    assert all(link.is_symlink() and link.resolve().is_relative_to(ROOT) for link in links.iterdir())
