"""Declarations: what is refused when it is written, what is found, and what an unknown name is told."""

import inspect
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.harness.core.discovery import PLUGINS, discover, plugin_files, tell_plugin_files
from assay.harness.core.protocols import Part, Row, View
from assay.harness.core.registry import (
    DATASETS,
    EXTRACTORS,
    GENERATORS,
    METRICS,
    STUDIES,
    TRAINERS,
    dataset,
    extractor,
    generator,
    metric,
    study,
    trainer,
)  # fmt: skip

pytestmark = pytest.mark.usefixtures("own_registries")
FAKE = View("fake", "pixels")

PLUGIN = """
from assay import View, metric

@metric(better="higher", kind="set", source="not published", fake=View("fake", "pixels"))
def {name}(fake, power=2):
    return 1.0
"""


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv(PLUGINS, raising=False)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith(("assay_plugin_", "foreign")):
            del sys.modules[name]


@dataclass(frozen=True)
class Options:
    k: int = 2
    spaces: list[str] = field(default_factory=lambda: ["features"])


def yields_parts(run: object, options: Options) -> Iterator[Part]:
    yield from ()


def plugin(folder: Path, name: str, file: str = "plugin.py") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / file).write_text(PLUGIN.format(name=name))
    return folder / file


def test_what_decorators_return_is_called_as_the_function() -> None:
    def score(fake: Tensor, scale: float = 2.0) -> float:
        """The scaled sum."""
        return float(fake.sum()) * scale

    declared = metric(better="higher", kind="set", source="arXiv:0000.00000", fake=FAKE)(score)
    assert (declared(torch.ones(3)), declared(torch.ones(3), 4), declared(fake=torch.ones(3), scale=5.0)) == (6, 12, 15)
    assert (METRICS["score"].function, METRICS["score"].options) == (declared, {"scale": 2.0})
    assert (declared.__name__, declared.__doc__, inspect.unwrap(declared)) == ("score", "The scaled sum.", score)

    def model(dataset: str, depth: int = 3) -> None: ...
    def source() -> None: ...
    def teach(data: object, seed: int, epochs: int = 1) -> None: ...

    assert inspect.unwrap(generator(model)) is model
    assert inspect.unwrap(extractor(model)) is model  # type: ignore[arg-type]
    assert inspect.unwrap(dataset(source)) is source  # type: ignore[arg-type]
    assert study(page=print, table=("score",))(yields_parts) is yields_parts
    assert inspect.unwrap(trainer("model")(teach)) is teach
    assert GENERATORS["model"].options == EXTRACTORS["model"].options == {"depth": 3}
    assert (STUDIES["yields_parts"].page, STUDIES["yields_parts"].function) == (print, yields_parts)
    assert TRAINERS["model"].options == {"epochs": 1}


def test_views_and_parameters_without_default_must_be_the_same() -> None:
    def score(fake: Tensor, real: Tensor, k: int = 5) -> float:
        return 0.0

    with pytest.raises(TypeError, match=r"'score'.*\['fake', 'real'\].*\['fake'\]"):
        metric(better="higher", kind="set", source="x", fake=FAKE)(score)
    with pytest.raises(TypeError, match="same order"):
        metric(better="higher", kind="set", source="x", real=FAKE, fake=FAKE)(score)
    with pytest.raises(TypeError, match="must be the same"):
        metric(better="higher", kind="set", source="x", fake=FAKE, real=FAKE, k=FAKE)(score)
    assert "score" not in METRICS


def test_an_option_chooses_views() -> None:
    @metric(
        better="higher", kind="sample", source="x", reads={"by": {"one": ("one",), "other": ("other", "third")}},
        fake=FAKE, one=FAKE, other=FAKE, third=FAKE,
    )  # fmt: skip
    def chosen(
        fake: Tensor,
        one: Tensor | None = None,
        other: Tensor | None = None,
        third: Tensor | None = None,
        by: str = "one",
    ) -> Tensor:
        return fake

    declared = METRICS["chosen"]
    assert declared.options == {"by": "one"}
    assert declared.unread({"by": "one"}) == {"other", "third"}
    assert declared.unread({"by": "other"}) == {"one"}
    assert declared.unread({"by": "auto"}) == {"other", "third"}
    assert declared.unread({"by": "auto"}, lambda names: "one" not in names) == {"one"}
    with pytest.raises(TypeError, match="must be the same"):
        metric(better="higher", kind="sample", source="x", fake=FAKE, one=FAKE)(chosen)


def test_a_metric_without_source_is_refused() -> None:
    def score(fake: Tensor) -> float:
        return 0.0

    with pytest.raises(TypeError, match="cite"):
        metric(better="higher", kind="set", source="", fake=FAKE)(score)


def test_an_entry_with_other_parameters_is_refused() -> None:
    def model(seed: int) -> None: ...

    with pytest.raises(TypeError, match=r"generator 'model'.*\['seed'\].*\['dataset'\]"):
        generator(model)
    with pytest.raises(TypeError, match=r"trainer 'vae'"):
        trainer("vae")(model)


def test_a_study_is_declared_with_its_options_and_tables() -> None:
    study(version=3, uses=["precision"], one=["score", "group"], two=("fault",))(yields_parts)
    found = STUDIES["yields_parts"]
    assert found.options == {"k": 2, "spaces": ["features"]}
    assert found.make_options(k=5) == Options(k=5)
    assert found.tables == {"one": ("score", "group"), "two": ("fault",)}
    assert (found.version, found.uses, found.in_parts, found.page) == (3, ("precision",), True, None)


def test_a_study_of_rows_is_told_from_one_of_parts() -> None:
    def yields_rows(run: object, options: Options) -> Iterator[Row]:
        yield from ()

    study(table=("score",))(yields_rows)
    assert not STUDIES["yields_rows"].in_parts


@dataclass(frozen=True)
class Demanding:
    k: int
    spaces: str = "features"


def test_a_study_of_another_form_is_refused() -> None:
    def no_options(run: object) -> Iterator[Part]: ...
    def no_dataclass(run: object, options: int) -> Iterator[Part]: ...
    def no_yield(run: object, options: Options) -> Iterator[int]: ...
    def silent(run: object, options: Options) -> None: ...
    def demanding(run: object, options: Demanding) -> Iterator[Part]: ...

    wrong: list[tuple[Any, dict[str, Any], str]] = [
        (no_options, {"table": ("score",)}, r"no_options\(run: Run, options: Options\), where Options is a dataclass"),
        (no_dataclass, {"table": ("score",)}, "where Options is a dataclass"),
        (no_yield, {"table": ("score",)}, r"must be annotated to return Iterator\[Row\] or Iterator\[Part\]"),
        (silent, {"table": ("score",)}, "must be annotated to return"),
        (demanding, {"table": ("score",)}, "options k have no default"),
        (yields_parts, {}, "must name the columns of its tables"),
        (yields_parts, {"table": "score"}, "must name the columns of its tables"),
        (yields_parts, {"table": ()}, "must name the columns of its tables"),
        (yields_parts, {"metrics": ("score",)}, "a table cannot be called 'metrics'"),
        (yields_parts, {"../up": ("score",)}, r"a table cannot be called '\.\./up'"),
        (yields_parts, {"correlate": ("score",)}, "table 'correlate' is one of study 'correlate'"),
    ]
    for function, tables, message in wrong:
        with pytest.raises(TypeError, match=message):
            study(**tables)(function)
        assert function.__name__ not in STUDIES


def test_a_registry_tells_which_entries_were_looked_up() -> None:
    with METRICS.watched() as outer:
        METRICS["precision"]
        with METRICS.watched() as inner:
            METRICS["recall"]
            assert "coverage" in METRICS
    METRICS["density"]
    assert (outer, inner) == ({"precision", "recall"}, {"recall"})


def test_an_unknown_name_is_told_the_nearest_first_and_then_all() -> None:
    with pytest.raises(KeyError) as caught:
        METRICS["precison"]
    line = caught.value.args[0]
    assert line.startswith("unknown metric 'precison'; did you mean precision")
    assert line.index("did you mean") < line.index("Known: ")
    assert all(name in line.partition("Known: ")[2] for name in ("coverage", "precision", "recall"))


def test_a_colon_in_the_path_of_a_plugin_parts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, "")
    files = [tmp_path / "a:b" / "c:d.py", tmp_path / "e.py"]
    tell_plugin_files(files)
    assert plugin_files() == files
    monkeypatch.setenv(PLUGINS, ":".join(map(str, (tmp_path / "x.py", tmp_path / "y.py"))))
    assert plugin_files() == [tmp_path / "x.py", tmp_path / "y.py"]


def test_the_same_name_in_two_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = plugin(tmp_path, "twice", "one.py"), plugin(tmp_path, "twice", "two.py")
    monkeypatch.setenv(PLUGINS, f"{one}:{two}")
    with pytest.raises(ValueError, match=r"'twice' is declared twice.*one\.py.*two\.py"):
        discover()


def test_our_own_folders_are_found() -> None:
    discover()
    assert {"latent_density", "frechet_distance"} <= set(METRICS)
    assert {"correlate", "groups"} <= set(STUDIES)
    assert {"classifier", "judge", "pixels"} <= set(EXTRACTORS)
    assert {"vae", "classifier", "judge"} <= set(TRAINERS)


def test_plugin_files_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PLUGINS, f"{plugin(tmp_path, 'from_a', 'a.py')}:{plugin(tmp_path, 'from_b', 'b.py')}")
    discover()
    assert METRICS["from_a"].options == METRICS["from_b"].options == {"power": 2}
    discover()  # a second look changes nothing


def test_plugin_files_of_the_same_name_in_two_folders_are_both_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLUGINS, f"{plugin(tmp_path / 'a', 'here')}:{plugin(tmp_path / 'b', 'there')}")
    discover()
    assert {"here", "there"} <= set(METRICS)


def test_a_missing_plugin_file_and_one_that_is_no_python_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLUGINS, str(tmp_path / "absent.py"))
    with pytest.raises(FileNotFoundError, match=r"absent\.py does not exist"):
        discover()
    monkeypatch.setenv(PLUGINS, str(plugin(tmp_path, "score", "notes.txt")))
    with pytest.raises(ValueError, match=r"notes\.txt is not a Python file"):
        discover()


def test_entry_points_of_installed_packages_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(tmp_path, "from_elsewhere", "foreign_metrics.py")
    about = tmp_path / "foreign-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[assay.plugins]\nforeign = foreign_metrics\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    discover()
    assert METRICS["from_elsewhere"].source == "not published"


def declare(text: str, file: str, module: str) -> None:
    """As if this text were a file of a module; each cell of a notebook is a file of `__main__`."""
    exec(compile(text, file, "exec"), {"__name__": module})


DECLARATIONS = {
    "metric": (
        METRICS,
        "from assay import View, metric\n"
        "@metric(better='higher', kind='set', source='none', fake=View('fake', 'pixels'){more})\n"
        "def precision(fake): return {number}",
    ),
    "generator": (
        GENERATORS,
        "from assay import generator\n@generator{more}\ndef vae(dataset: str, beta: float = 1.0): return {number}",
    ),
    "dataset": (
        DATASETS,
        "from assay import dataset\n@dataset{more}\ndef digits(share: float = 1.0): return {number}",
    ),
    "extractor": (
        EXTRACTORS,
        "from assay import extractor\n@extractor{more}\ndef pixels(dataset: str, scale: float = 1.0): return {number}",
    ),
    "trainer": (
        TRAINERS,
        "from assay import trainer\n@trainer('vae'{more})\ndef mine(data, seed, beta: float = 1.0): return {number}",
    ),
    "study": (
        STUDIES,
        "from collections.abc import Iterator\nfrom dataclasses import dataclass\nfrom assay import Row, study\n"
        "@dataclass\nclass Options: number: int = {number}\n"
        "@study(compare=('metric',){more})\n"
        "def compare(run: object, options: Options) -> Iterator[Row]: return {number}",
    ),
}


@pytest.mark.parametrize("group", DECLARATIONS)
def test_a_plugin_takes_precedence_over_ours_when_it_says_so(group: str) -> None:
    """Whether it was declared before ours or after, and again in another cell; two that say so are refused."""
    discover()
    registry, text = DECLARATIONS[group]
    say = "(replace=True)" if group in ("generator", "dataset", "extractor") else ", replace=True"
    name = next(iter(name for name in ("precision", "vae", "digits", "pixels", "compare") if name in registry))
    ours = registry[name]
    with pytest.raises(ValueError, match=rf"'{name}' is declared twice.*replace=True"):
        declare(text.format(more="", number=1), "/tmp/plugin.py", "plugin")
    for number in (1, 2):
        declare(text.format(more=say, number=number), f"/tmp/ipykernel/{number}.py", "__main__")
        assert registry[name].function(*[None] * (2 if group in ("study", "trainer") else group != "dataset")) == number
    registry.add(name, ours)  # ours are found later
    assert registry[name] is not ours
    with pytest.raises(ValueError, match=rf"'{name}' is declared twice: .*rename one"):
        declare(text.format(more=say, number=3), "/tmp/other.py", "other")
    del registry[name]
    declare(text.format(more=say, number=3), "/tmp/other.py", "other")
    registry.add(name, ours)
    assert registry[name] is not ours


def test_a_class_can_be_declared_again_too() -> None:
    text = "from assay import generator\n@generator\nclass mine:\n  def __init__(self, dataset, at: int = {0}):"
    text += " self.at = at"
    for number in (1, 2):
        declare(text.format(number), f"/tmp/ipykernel/{number}.py", "__main__")
    assert GENERATORS["mine"].function("").at == 2
    assert GENERATORS["mine"].options == {"at": 2}
    with pytest.raises(ValueError, match=r"'mine' is declared twice: in __main__ and in plugin"):
        declare(text.format(3), "/tmp/plugin.py", "plugin")


def test_a_plugin_imports_all_it_needs_from_assay_itself() -> None:
    """In a fresh process: the names are there, and torch is not imported for them."""
    code = (
        "import sys, assay\n"
        "from assay import dataset, extractor, generator, metric, study, trainer, Estimate, Part, Row, View\n"
        "assert 'torch' not in sys.modules\n"
        "from assay import Run\n"
        "from assay.harness.core import protocols, registry\n"
        "assert (metric, study, View, Part) == (registry.metric, registry.study, protocols.View, protocols.Part)\n"
        "assert Run.__module__ == 'assay.harness.run' and set(assay.__all__) >= {'Run', 'score', 'evaluate'}\n"
        "assert all(hasattr(assay, name) for name in assay.__all__) and not hasattr(assay, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
