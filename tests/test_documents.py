"""What the documents say: links lead somewhere, commands can be called, and quoted numbers are the published ones."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from assay.harness.arrays.records import read_records
from assay.harness.cli import HELP
from assay.harness.command.select import as_run
from assay.harness.core.registry import GROUPS, discover
from assay.harness.report.tables import tables

from .benchmarks import verdicts

ROOT = Path(__file__).parent.parent
FINDINGS = sorted((ROOT / "results").glob("*/README.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += [ROOT / "results" / "README.md", *FINDINGS]
FAMILIES = {"experiment": "evaluate", "tuning": "train"}
"""Groups of ready-made configs, and the config that each belongs to."""
COMMANDS = set(re.findall(r"^  assay ([\w-]+)", HELP, re.MULTILINE))
LINK = re.compile(r"\]\(([^)\s]+)\)")
ESTIMATE = re.compile(r"(-?\d*\.?\d+) \((-?\d*\.?\d+) to (-?\d*\.?\d+)\)")

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture(scope="module", autouse=True)
def discovered() -> None:
    discover()


@cache
def published(name: str) -> dict[str, pd.DataFrame]:
    return tables(read_records(ROOT / "results" / name))


# Links and commands


@each_document
def test_links_and_pictures_exist(path: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(path.read_text()) if not link.startswith("http")]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_every_result_has_its_finding_in_the_list() -> None:
    folders = {path.name for path in (ROOT / "results").iterdir() if path.is_dir() and path.suffix != ".plan"}
    listed = re.findall(r"\((\w+)/README\.md\)", (ROOT / "results" / "README.md").read_text())
    assert folders == {path.parent.name for path in FINDINGS} == set(listed)


@pytest.mark.parametrize("path", FINDINGS, ids=lambda path: path.parent.name)
def test_a_finding_tells_its_command(path: Path) -> None:
    name, commands = path.parent.name, list(calls(path.read_text()))
    if (ROOT / "configs" / "experiment" / f"{name}.yaml").is_file():
        assert ["assay", "run", f"experiment={name}"] in commands


def calls(text: str) -> Iterator[list[str]]:
    """The calls of assay in a document, as words: lines of code and `code` that begin with the command."""
    for line in [*re.findall(r"^    (assay .*)$", text, re.MULTILINE), *re.findall(r"`(assay [^`]*)`", text)]:
        yield shlex.split(line, comments=True)


def wrong(words: list[str], plugins: dict[str, set[str]]) -> list[str]:
    """What a call names that does not exist. plugins: names that its --plugin declares, by group."""
    command = next(word for word in words[1:] if not word.startswith("--") and not word.endswith(".py"))
    if command not in COMMANDS:
        return [command]
    if command == "select" and len(words) > 2:
        try:
            words = ["assay", "run", *as_run(words[2:])]
        except ValueError as failure:
            return [str(failure)]
    words = [word for before, word in zip(["", *words], words, strict=False) if before not in ("--fake", "--real")]
    if command == "compare-features":
        asked = words[4 : words.index("--csv") if "--csv" in words else None]
        return [name for name in asked if name != "[METRIC" and name.split("(")[0] not in GROUPS["metric"]]
    if command == "list":
        kinds = {"studies" if group == "study" else f"{group}s" for group in [*GROUPS, *FAMILIES]} | {"networks"}
        metrics = {"--evidence", "NAME", *GROUPS["metric"]} if "--evidence" in words else set()
        return [kind for kind in words[2:] if kind not in kinds | metrics]
    config = "train" if command == "train" else "evaluate"
    options = {str(key) for key in OmegaConf.load(ROOT / "configs" / f"{config}.yaml")} - {"defaults", "hydra"}
    given = [word for word in words if "=" in word and not word.startswith("-")]
    as_trained = r"^(generator|extractor)(?=[.=])" if command == "train" else r"^$"
    return [word for word in given if not known(re.sub(as_trained, "trainer", word), options, plugins)]


def known(word: str, options: set[str], plugins: dict[str, set[str]]) -> bool:
    key, _, value = word.partition("=")
    group, *rest = key.split(".")
    if key.startswith("hydra"):
        return True
    if group in FAMILIES:
        return (ROOT / "configs" / group / f"{value}.yaml").is_file() or value == "NAME"
    if group == "networks":
        lists = {path.stem: OmegaConf.load(path) for path in (ROOT / "configs" / "networks").glob("*.yaml")}
        return any(rest[0] in each for each in lists.values()) if rest else value in {*lists, "LIST", "[]"}
    if group == "engine":
        presets = {path.stem: OmegaConf.load(path) for path in (ROOT / "configs" / "engine").glob("*.yaml")}
        return any(rest[0] in preset for preset in presets.values()) if rest else value in presets
    if group not in GROUPS:
        return group in options
    registry = GROUPS[group]
    names = {*registry, *plugins.get(group, ()), "NAME"}
    if not rest:
        return "(" in value or set(re.findall(r"\w+", value)) <= names
    if len(rest) == 1:  # generator.path=FILE beside generator=NAME
        return any(rest[0] in entry.options for entry in registry.values()) or rest[0] in names
    entry = registry.get(rest[0])
    return rest[0] in names and (entry is None or rest[1] in {*entry.options, "OPTION"})


@each_document
def test_commands_name_what_exists(path: Path) -> None:
    declared = {"metric": {"nearest_cosine"}, "study": {"gap"}, "generator": {"toy"}, "sink": {"lines"}}
    found = {" ".join(words): wrong(words, declared) for words in calls(path.read_text()) if len(words) > 1}
    assert {call: names for call, names in found.items() if names} == {}


def test_a_wrong_command_would_be_found() -> None:
    calls_of = {
        "assay run task=edit": ["task=edit"],
        "assay run study=edits": ["study=edits"],
        "assay run experiment=quickstart2": ["experiment=quickstart2"],
        "assay run study=groups study.groups.shares=0.5": ["study.groups.shares=0.5"],
        "assay run reals=100 n=5": ["reals=100"],
        "assay run engine=threads engine.worker=4": ["engine=threads", "engine.worker=4"],
        "assay run networks=latent networks.seed=1": ["networks=latent", "networks.seed=1"],
        "assay train networks=latent_density networks.seeds=[1]": [],
        "assay list tasks": ["tasks"],
        "assay list metrics --evidence recal": ["recal"],
        "assay list metrics --evidence recall": [],
        "assay evaluate": ["evaluate"],
        "assay select score=realism alpha=.1 labels=FILE least=1": [],
        "assay select score=realism alpha=.1 label=FILE": ["label=FILE"],
        "assay compare-features FAKE REAL precision recal": ["recal"],
        "assay run --fake a=b --real c=d seeds=3": ["seeds=3"],
        "assay train generator=stylegan2 generator.begin=zoo": ["generator.begin=zoo"],
    }
    assert {call: wrong(call.split(), {}) for call in calls_of} == calls_of


# Numbers


def in_tables(name: str, quoted: tuple[str, str, str]) -> bool:
    """Whether a table of a published result has a number that is this one when it is rounded to as many digits."""

    def fits(column: "pd.Series[float]", text: str) -> "pd.Series[bool]":
        half = 0.5 * 10.0 ** -len(text.partition(".")[2])
        return (column - float(text)).abs() <= half * (1 + 1e-6)

    def has(table: pd.DataFrame) -> bool:
        return bool((fits(table.value, quoted[0]) & fits(table.low, quoted[1]) & fits(table.high, quoted[2])).any())

    return any(has(table) for table in published(name).values())


@pytest.mark.parametrize("path", [ROOT / "README.md", *FINDINGS], ids=lambda path: path.parent.name)
def test_every_number_with_an_interval_is_published(path: Path) -> None:
    name = "quickstart" if path.parent == ROOT else path.parent.name
    quoted = ESTIMATE.findall(path.read_text())
    told_in = "replicate" if name == "latent_density" else name  # records of single networks: a finding is about all
    assert [estimate for estimate in quoted if not in_tables(told_in, estimate)] == []
    if (path.parent / "tables").is_dir() and name not in ("edit", "costs"):  # counts, and times, which have none
        assert len(quoted) >= 6


def test_a_number_that_is_not_published_would_be_found() -> None:
    assert in_tables("quickstart", (".055", ".026", ".083"))
    assert not in_tables("quickstart", (".055", ".016", ".083"))


def line_of(name: str, start: str) -> str:
    (line,) = [
        line for line in (ROOT / "results" / name / "README.md").read_text().splitlines() if line.startswith(start)
    ]
    return line


def quoted(row: "pd.Series[float]", digits: int = 2) -> str:
    """As the documents write it: .15 (.13 to .18)."""
    value, low, high = (re.sub(r"\b0\.", ".", f"{round(x, digits) + 0.0:.{digits}f}") for x in row)
    return f"{value} ({low} to {high})"


def row_of(table: pd.DataFrame, **about: object) -> "pd.Series[float]":
    for column, value in about.items():
        table = table[table[column].astype(str) == str(value)]
    (row,) = table[["value", "low", "high"]].itertuples(index=False)
    return pd.Series(row)


@pytest.mark.parametrize(("words", "score"), [
    ("latent density, codes = posterior means, bandwidth 0.2", "latent_density"),
    ("latent density, codes = posterior samples, bandwidth 0.1", "latent_density(bandwidth=0.1, encode=sample)"),
    ("the same in the dimensions that have not collapsed", "active_latent_density(bandwidth=0.1)"),
    ("aggregate posterior, log q(z)", "aggregate_posterior"),
])  # fmt: skip
def test_the_finding_on_latent_density_quotes_the_right_rows(words: str, score: str) -> None:
    line, table = line_of("quickstart", f"| {words}"), published("quickstart")["correlate"]
    cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
    for cell, held in zip(cells, ("nothing", "class + complexity", "class + complexity + norm"), strict=True):
        row = row_of(table, generator="vae", signal="nearest_feature", score=score, covariates=held)
        assert cell == quoted(row, 3), (score, held)


@pytest.mark.parametrize(("words", "generator", "space"), [
    ("held-out images", "held_out", "classifier"),
    ("StyleGAN2", "stylegan2", "classifier"),
    ("latent diffusion", "latent_diffusion", "classifier"),
    ("VAE", "vae", "classifier"),
])  # fmt: skip
def test_the_zoo_quotes_the_right_rows(words: str, generator: str, space: str) -> None:
    line, table = line_of("zoo", f"| {words}"), published("zoo")["metrics"]
    for name in ("precision", "recall"):
        assert quoted(row_of(table, generator=generator, metric=f"{name}(space={space})"), 3) in line


def test_the_finding_on_shapes_quotes_the_right_rows() -> None:
    table = published("shapes")["detect"]
    about = {"fault": "any fault", "covariates": "class + typicality"}
    for words, score in (
        ("latent density, bandwidth 0.1", "latent_density(bandwidth=0.1)"),
        ("latent density, bandwidth 0.2", "latent_density"),
        ("minus the norm", "negative_norm"),
        ("a Gaussian for each class", "class_gaussian_log_density"),
    ):
        assert quoted(row_of(table, score=score, **about), 3) in line_of("shapes", f"| {words}")


def test_the_finding_on_edits_counts_the_right_cases() -> None:
    table = published("edit")["edit"]
    gains = table[
        (table.quantity == "gain of stopping") & (table.signal != "judge_entropy")
    ]  # one signal with confidence
    scores = gains.score.str.replace(r"(, )?encode=prior", "", regex=True).str.removesuffix("()")
    for words, score in (
        ("latent density, bandwidth 0.2", "latent_density"),
        ("minus the norm", "negative_norm"),
        ("pseudo density", "pseudo_density"),
        ("a random score", "random_score"),
    ):
        part = gains[scores == score]
        sides = part.low > 0, part.high < 0
        counts = (
            len(part),
            *(int(side.sum()) for side in sides),
            *(int((side & (part.holm_p < 0.05)).sum()) for side in sides),
        )
        assert line_of("edit", f"| {words}") == f"| {words} | {' | '.join(map(str, counts))} |"


def test_the_finding_on_few_shot_quotes_the_right_rows() -> None:
    table = published("few_shot")["few_shot_splits"]
    table = table[~table.generator.str.contains("published") & (table.generated.astype(int) == 500)]
    for shots in (1, 5):
        row = row_of(
            table, shots=shots, classifier="nearest prototype", selection="top latent_density",
            quantity="gain over random", share=0.2,
        )  # fmt: skip
        assert quoted(row, 5) in line_of("few_shot", f"| {shots} |")


def test_the_finding_on_pseudo_density_quotes_the_right_rows() -> None:
    table = published("pseudo_density")["tradeoff"]
    for side, quantity in (("w > 1", "precision"), ("w < 1", "recall")):
        line = line_of("pseudo_density", f"| {side}, {quantity} ")
        cells = [cell.strip() for cell in line.strip("|").split("|")][1:]
        for cell, generator in zip(cells, ("stylegan2", "vae", "latent_diffusion"), strict=True):
            about = {"method": "importance pseudo_density", "setting": f"all {side}", "quantity": f"{quantity} gain"}
            assert cell == quoted(row_of(table, generator=generator, **about), 3)


def test_the_tables_of_latent_density_are_those_of_replicate() -> None:
    text = verdicts.PAGE.read_text()
    assert verdicts.page(text, published("replicate")["replicate"]) == text


def test_the_summary_of_sanity_quotes_its_finding() -> None:
    counts = re.findall(r"\d+ of 1392 published verdicts", (ROOT / "results" / "sanity" / "README.md").read_text())
    assert counts == re.findall(r"\d+ of 1392 published verdicts", (ROOT / "results" / "README.md").read_text())
