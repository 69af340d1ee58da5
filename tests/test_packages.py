"""What travels: the wheel holds all that the installed command needs and nothing else, and runs where it is alone."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Set
from email.message import Message
from email.parser import Parser
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

import assay

from .benchmarks.wheel import AGREES, environment, install

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOLDERS = ("configs", "datasets", "generators", "harness", "metrics")
ZOO = ("generators/zoo/*", "metrics/extractors/zoo/*")
DATA = ("configs/**/*.yaml", *ZOO, "harness/report/templates/**/*", "py.typed")
FACTS = tuple(f"harness/studies/{name}" for name in ("sanity/published.csv", "humans/models.csv", "humans/LICENSE.*"))
RESULTS = ("results/*/tables/*.csv", "results/*/records.jsonl*", "results/papers/*.csv")
JUNK = ("harness/__pycache__/run.cpython-311.pyc", "harness/notes.txt", "build/lib/assay/gone.py", "results/a/b.png")
"""Files beside ours that no package may hold: a cache, a note, a module of an earlier build, a picture."""


class Packages(NamedTuple):
    wheel: Path
    sdist: Path


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Both, as `make dist` makes them, of a copy with junk in it. The wheel is built from what the sdist holds."""
    top = tmp_path_factory.mktemp("packages")
    left_out = shutil.ignore_patterns(".git", ".venv*", ".*_cache", "outputs", "wheels", "dist", "*.egg-info")
    shutil.copytree(ROOT, top / "assay", symlinks=True, ignore=left_out)
    for name in JUNK:
        (top / "assay" / name).parent.mkdir(parents=True, exist_ok=True)
        (top / "assay" / name).touch()
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(top / "dist"), str(top / "assay")]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    (wheel,), (sdist,) = (top / "dist").glob("*.whl"), (top / "dist").glob("*.tar.gz")
    return Packages(wheel, sdist)


@pytest.fixture(scope="module")
def metadata(packages: Packages) -> Message:
    with zipfile.ZipFile(packages.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return Parser().parsestr(wheel.read(name).decode())


def of_repository(*patterns: str) -> Set[str]:
    found = (path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file())
    return {str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts}


def test_the_wheel_holds_code_configs_weights_templates_and_published_tables_and_nothing_else(
    packages: Packages,
) -> None:
    code = of_repository("__init__.py", "__main__.py", "checkpoints.py", *(f"{folder}/**/*.py" for folder in FOLDERS))
    data, results = of_repository(*DATA, *FACTS), of_repository(*RESULTS)
    assert {"generators/zoo/vae-fashion_mnist.safetensors", "harness/report/templates/page.html"} <= data
    assert {"configs/experiment/quickstart.yaml", "configs/engine/ray.yaml", "py.typed"} <= data
    assert {"results/quickstart/tables/correlate.csv", "results/papers/few_shot.csv"} <= results
    with zipfile.ZipFile(packages.wheel) as wheel:
        held = {name.removeprefix("assay/") for name in wheel.namelist() if ".dist-info/" not in name}
        assert {name for name in wheel.namelist() if name.endswith("licenses/LICENSE")}
    assert held == code | data | results


def test_the_sdist_has_what_a_build_needs_and_the_documents_but_no_tests(packages: Packages) -> None:
    with tarfile.open(packages.sdist) as sdist:
        held = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    documents = of_repository("docs/*", "*.md", "LICENSE", "Makefile", "Dockerfile", "constraints.txt")
    assert documents | {"pyproject.toml", "setup.py", "MANIFEST.in"} <= held
    assert not [name for name in held if name.startswith(("tests/", "build/", ".")) or name.endswith((".pyc", ".png"))]


def test_metadata_is_complete(metadata: Message) -> None:
    for field in ("Summary", "Author", "License-Expression", "License-File", "Keywords"):
        assert metadata[field], field
    assert metadata["Version"] == assay.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    versions = [f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)]
    assert {*versions, "Typing :: Typed"} <= set(metadata.get_all("Classifier", []))
    urls = dict(line.split(", ") for line in metadata.get_all("Project-URL", []))
    assert urls == PROJECT["urls"]
    assert all(url.startswith(urls["Source"]) for url in urls.values())
    needed = {re.split(r"[<>=; ]", line)[0] for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert needed == {re.split(r"[<>=; ]", line)[0] for line in PROJECT["dependencies"]}


def test_links_and_pictures_of_the_description_are_addresses_of_files_that_exist(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    text = metadata.get_payload()
    assert isinstance(text, str)
    ours = f"{PROJECT['urls']['Source']}/(raw|blob)/v{assay.__version__}/(.+)"
    links = re.findall(r"(!?)\[[^]]*\]\(([^)\s]+)\)", text)
    assert all(link.startswith("https://") for _, link in links)
    found = [(mark, match) for mark, link in links if (match := re.fullmatch(ours, link))]
    assert all((match[1] == "raw") == (mark == "!") for mark, match in found)
    assert all((ROOT / match[2]).exists() for _, match in found)
    here = re.findall(r"\]\((?!https?:)([^)\s]+)\)", (ROOT / "README.md").read_text())
    assert sorted(here) == sorted(match[2] for _, match in found)


def test_the_image_is_made_of_what_is_there_as_make_does_it() -> None:
    """No image is built here: its files, packages and libraries are compared with those of the Makefile."""
    lines, make = (ROOT / "Dockerfile").read_text(), (ROOT / "Makefile").read_text()
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    copied = [word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", lines, re.MULTILINE) for word in line.split()]
    assert copied == [".", "constraints.txt"]
    sources = {path.partition("/")[0] for path in of_repository("*.py", *DATA, *RESULTS, "pyproject.toml", "README.md")}
    assert not [name for name in {*sources, *FOLDERS, *copied[1:]} for rule in ignored if fnmatch(name, rule)]
    assert {"tests", ".git"} <= {name for name in ("tests", ".git") for rule in ignored if fnmatch(name, rule)}
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", lines, re.MULTILINE))
    assert {arguments["EXTRAS"], *re.findall(r"EXTRAS=(\w+)", lines)} <= set(PROJECT["optional-dependencies"])
    assert f"TORCH_INDEX ?= {arguments['TORCH_INDEX']}\n" in make
    (libraries,) = re.findall(r"^LIBRARIES := (.+)$", make, re.MULTILINE)
    assert f"--no-install-recommends {libraries} " in lines


def test_installed_alone_in_an_empty_folder_it_runs_and_finds_its_tables(packages: Packages, tmp_path: Path) -> None:
    """The published run of another name stands in for the quickstart, which takes minutes: `make dist-run`."""
    command = install(packages.wheel, tmp_path / "venv")
    (tmp_path / "empty").mkdir()
    line = [str(command), "run", "dataset=digits", "metric=precision", "n=50", "name=zoo", "device=cpu"]
    done = subprocess.run(
        line, cwd=tmp_path / "empty", env=environment(tmp_path / "cache"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"does NOT {AGREES.replace('agrees', 'agree')}{tmp_path / 'venv'}" in done.stderr
    assert "precision" in done.stdout
    assert os.listdir(tmp_path / "empty") == ["outputs"]
