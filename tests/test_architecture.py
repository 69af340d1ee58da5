"""The shape of the house: the order of its folders, what lies at their tops, and that packaging knows all of them."""

import ast
import itertools
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("harness", "metrics", "generators", "datasets", "configs")
FLOORS = (
    ("core",),
    ("stats", "shapes", "formats"),
    ("arrays",),
    ("evaluate", "report"),
    ("sinks",),
    ("run", "train"),
    ("open_run",),
    ("studies",),
    ("objects",),
    ("engines",),
    ("command",),
    ("cli",),
)
"""The harness from the bottom up: a file imports from its own room and from the floors below."""
SHARED = {"core", "stats", "shapes", "formats"}
"""Rooms of the harness that metrics, generators and data sets may use."""
DECORATORS = {
    "metrics": {"metric", "extractor", "trainer"},
    "generators": {"generator", "trainer"},
    "datasets": {"dataset"},
}
"""What declares something, by folder."""


def imports(path: Path) -> Iterator[tuple[str, ...]]:
    """Modules of assay that a file imports, as parts from the root, and the top-level name of all others."""
    here = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0],) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = here[: len(here) - node.level + 1]
            module = tuple((node.module or "").split(".")) if node.module else ()
            for alias in node.names:
                inner = base + module
                yield (*inner, alias.name) if (ROOT.joinpath(*inner)).is_dir() else inner
        elif isinstance(node, ast.ImportFrom):
            yield ((node.module or "").split(".")[0],)


def sources(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def floor(room: str) -> int:
    (found,) = [i for i, rooms in enumerate(FLOORS) if room in rooms]
    return found


def each(*folders: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", sources(*folders), ids=lambda p: str(p.relative_to(ROOT)))


@each("metrics", "generators", "datasets")
def test_families_know_only_themselves_and_the_ground_floors(path: Path) -> None:
    own, *inner = path.relative_to(ROOT).parts[:-1]
    for parts in imports(path):
        if parts[0] == "harness":
            assert parts[1] in SHARED, f"{path} imports harness.{parts[1]}"
        assert parts[0] not in set(FOLDERS) - {own, "harness"}, f"{path} imports {parts[0]}"
        if parts[0] == own and inner and (ROOT / own).joinpath(*parts[1:2]).with_suffix(".py").is_file():
            raise AssertionError(f"{path} imports {'.'.join(parts)}, which stands above it")


@each("harness")
def test_the_harness_imports_downwards(path: Path) -> None:
    own = path.relative_to(ROOT).parts[1].removesuffix(".py")
    families = set() if own in ("studies", "objects") else {"metrics", "generators", "datasets"}
    for parts in imports(path):
        assert parts[0] not in families, f"{path} knows {'.'.join(parts)} by name"
        if parts[0] == "harness":
            below = floor(parts[1]) < floor(own) or parts[1] == own
            assert below, f"{path} imports harness.{parts[1]}, which does not stand below it"
        if parts[0] == "hydra":
            assert path.parent.name == "command", f"{path} imports hydra"


@each("harness/studies")
def test_studies_know_no_other_study(path: Path) -> None:
    """What several of them need lies beside their folders."""
    own = path.relative_to(ROOT / "harness" / "studies").parts[:-1]
    for parts in imports(path):
        if parts[:2] == ("harness", "studies") and (ROOT / "harness" / "studies" / parts[2]).is_dir():
            assert own == parts[2:3], f"{path} imports {'.'.join(parts)}"


def test_the_harness_has_at_most_twelve_rooms() -> None:
    assert len([folder for folder in (ROOT / "harness").iterdir() if list(folder.glob("**/*.py"))]) <= 12
    assert {path.stem for path in (ROOT / "harness").glob("*.py")} == {"cli", "evaluate", "open_run", "run", "train"}


@pytest.mark.parametrize("folder", DECORATORS)
def test_files_at_the_top_of_a_family_declare_something(folder: str) -> None:
    for path in (ROOT / folder).glob("*.py"):
        found = set()
        for node in ast.walk(ast.parse(path.read_text())):
            for decorator in getattr(node, "decorator_list", []):
                called = decorator.func if isinstance(decorator, ast.Call) else decorator
                found.add(getattr(called, "id", ""))
        assert found & DECORATORS[folder], f"{path} declares nothing; parts live in a folder below"


def test_nothing_needs_torchvision() -> None:
    for path in sources(*FOLDERS):
        assert not {"torchvision", "timm", "lpips"} & {parts[0] for parts in imports(path)}, path


def test_packaging_lists_every_folder() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    code = {path.parent for path in sources(*FOLDERS)}
    data = {path.parent for pattern in ("configs/**/*.yaml", "*/**/zoo/*.json") for path in ROOT.glob(pattern)}
    found = {".".join(("assay", *folder.relative_to(ROOT).parts)) for folder in code | data}
    assert found | {"assay"} == listed


def test_code_folders_are_no_packages_of_their_own() -> None:
    """An __init__.py would make `import datasets` from the root find ours and not Hugging Face's."""
    for folder in ("harness", "metrics", "generators", "datasets"):
        assert not list((ROOT / folder).rglob("__init__.py"))


def test_slow_tests_are_there() -> None:
    """A line for a test that has another name by now would leave it in the quick loop."""
    lines = [line for line in (ROOT / "tests" / "slow.txt").read_text().splitlines() if not line.startswith("#")]
    for file, listed in itertools.groupby(lines, lambda line: line.split("::")[0]):
        functions = {
            node.name for node in ast.parse((ROOT / file).read_text()).body if isinstance(node, ast.FunctionDef)
        }
        for line in listed:
            assert set(line.split("[")[0].split("::")[1:]) <= functions, line


def test_type_checkers_see_the_same_files() -> None:
    links = ROOT / ".typing" / "assay"
    assert {link.name for link in links.iterdir()} == {"__init__.py", "__main__.py", "checkpoints.py", *FOLDERS}
    assert all(link.is_symlink() and link.resolve().is_relative_to(ROOT) for link in links.iterdir())


def test_the_normal_quantile_has_one_home() -> None:
    """Two constants and two means with an interval once drifted apart."""
    homes = [path.relative_to(ROOT) for path in sources(*FOLDERS) if "1.95996" in path.read_text()]
    assert homes == [Path("harness/stats/intervals.py")]
