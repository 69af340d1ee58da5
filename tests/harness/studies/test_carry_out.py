"""The contract of a study: what it may yield, what is refused, and when its records are made again."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.harness.arrays.records import find_record, read_records, record_name
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Estimate, Part, Row, View
from assay.harness.core.registry import METRICS, STUDIES, metric, study
from assay.harness.evaluate import StudyError
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out, imported_metrics

N = 20
LATENT, PIXELS = View("fake", "latent"), View("fake", "pixels")
ONE = Estimate(1.0, (0.5, 1.5), 20)


@dataclass(frozen=True)
class Options:
    share: float = 0.5
    spaces: list[str] = field(default_factory=lambda: ["features", "pixels"])
    trainer: Mapping[str, Any] | None = None


@pytest.fixture
def run(open_views: Callable[..., Views], plain: Any, tmp_path: Path) -> Run:
    return Run("study", "plain", "squares", open_views(plain), tmp_path, seed=0, n=N)


def declare_metric(version: int = 1, better: Any = "higher", works: bool = True) -> None:
    METRICS.pop("tested", None)

    @metric(better=better, kind="sample", source="not published", version=version, fake=LATENT)
    def tested(fake: Tensor) -> Tensor:
        if not works:
            raise ValueError("not today")
        return fake[:, 0].double()


class Parts:
    """A study of one part, whose rows are what `rows` returns; calls: how often it was asked."""

    def __init__(self, rows: Callable[[Run], Any], **part: Any):
        self.rows, self.part, self.calls = rows, part, 0

    def declare(self, version: int = 1, **more: Any) -> None:
        more.setdefault("things", ("thing",))

        @study(version=version, **more)
        def studied(run: Run, options: Options) -> Iterator[Part]:
            yield Part(lambda: self.called(run), **self.part)

    def called(self, run: Run) -> Any:
        self.calls += 1
        return self.rows(run)


class Rows(Parts):
    """A study that yields rows."""

    def declare(self, version: int = 1, **more: Any) -> None:
        @study(version=version, things=("thing",), **more)
        def studied(run: Run, options: Options) -> Iterator[Row]:
            yield from self.called(run)


def one_row(run: Run) -> list[tuple[tuple[str], Estimate]]:
    return [(("it",), ONE)]


def test_a_study_that_yields_rows_is_one_record_with_all_its_options(run: Run) -> None:
    Rows(one_row).declare(version=4)
    (record,) = carry_out(run, "studied", share=0.25, trainer={"lr": 0.1, "sizes": [1, 2]})
    assert record.cell.params == {"share": 0.25, "spaces": "features, pixels", "trainer": "lr 0.1, sizes 1, 2"}
    assert (record.cell.metric, record.kind, record.version, record.status) == ("things", "study", 4, "ok")
    assert record.cell.label == "things(share=0.25, spaces=features, pixels, trainer=lr 0.1, sizes 1, 2)"
    assert (list(record.columns), record.values) == (["thing"], {"it": ONE})
    assert run.written == [record]
    assert read_records(run.folder)[0].values == record.values


def test_a_study_that_yields_parts_has_a_record_for_each(run: Run) -> None:
    @study(first=("place", "rank"), second=("place",))
    def studied(run: Run, options: Options) -> Iterator[Part]:
        for space in options.spaces:
            yield Part(lambda: [(("here", 1), ONE), Row(("here", 2), ONE)], {"space": space, "k": 3}, "first")
        yield Part(lambda: iter([Row(("there",), ONE)]), table="second")

    records = carry_out(run, "studied")
    assert [record.cell.label for record in records] == [
        "first(k=3, space=features)", "first(k=3, space=pixels)", "second"
    ]  # fmt: skip
    assert list(records[0].cell.params) == ["space", "k"], "columns are in the order of the setting"
    assert records[0].values == {("here", 1): ONE, ("here", 2): ONE}
    assert records[2].values == {"there": ONE}


def test_a_finished_part_is_not_computed_again_and_a_new_version_is(run: Run) -> None:
    counted = Parts(one_row)
    for version, calls in ((1, 1), (1, 1), (2, 2), (2, 2)):
        counted.declare(version)
        carry_out(run, "studied")
        assert counted.calls == calls
    assert len(read_records(run.folder)) == 1


def test_an_unknown_option_is_told(run: Run) -> None:
    Parts(one_row).declare()
    with pytest.raises(ValueError, match=r"unknown option of study studied: 'shares'; did you mean share"):
        carry_out(run, "studied", shares=1)


REFUSED: list[tuple[str, Parts, str]] = [
    ("a list in the setting", Parts(one_row, setting={"ks": [3, 5]}), r"'studied': ks=\[3, 5\] is a list"),
    ("a mapping in it", Parts(one_row, setting={"a": {}}), "a={} is a dict"),
    ("a tensor in it", Parts(one_row, setting={"a": torch.ones(2)}), "is a Tensor"),
    ("a number that is none", Parts(one_row, setting={"a": float("nan")}), "a=nan is a float"),
    ("too many keys", Parts(lambda run: [(("a", "b"), ONE)]), r"keys \('a', 'b'\); its columns are thing"),
    ("no keys", Parts(lambda run: [((), ONE)]), r"keys \(\); its columns are thing"),
    ("a bare key", Parts(lambda run: [("a", ONE)]), "keys 'a'; its columns are thing"),
    ("a key that is a list", Parts(lambda run: [((["a"],), ONE)]), r"thing=\['a'\] is a list"),
    ("a bare number", Parts(lambda run: [(("a",), 0.5)]), "a row is a pair of keys and an Estimate"),
    ("an Estimate alone", Parts(lambda run: [ONE]), "a row is a pair of keys and an Estimate"),
    ("the same keys twice", Parts(lambda run: [(("a",), ONE), (("a",), ONE)]), r"two rows with the keys \('a',\)"),
    ("a column of every table", Parts(one_row, setting={"seed": 1}), "a column 'seed' already"),
    ("a column beside the number", Parts(one_row, setting={"value": 1}), "a column 'value' already"),
    ("a column of the rows", Parts(one_row, setting={"thing": 1}), "a column 'thing' already"),
    ("an unknown table", Parts(one_row, table="thing"), "a part of table 'thing'; it declares things"),
]


@pytest.mark.parametrize(("counted", "message"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_no_table_could_show_is_refused_and_nothing_is_written(run: Run, counted: Parts, message: str) -> None:
    counted.declare()
    with pytest.raises(StudyError, match=message) as caught:
        carry_out(run, "studied")
    assert "studied" in str(caught.value)
    assert not (run.folder / "records").exists()
    assert run.written == []


def test_columns_of_every_table_are_no_columns_of_a_study(run: Run) -> None:
    Parts(lambda run: [(("vae",), ONE)]).declare(things=("generator",))
    with pytest.raises(StudyError, match="a column 'generator' already"):
        carry_out(run, "studied")


def test_a_part_of_one_of_several_tables_says_which(run: Run) -> None:
    Parts(one_row).declare(others=("thing",))
    with pytest.raises(StudyError, match=r"a part of table ''; it declares others, things"):
        carry_out(run, "studied")


def test_rows_where_parts_were_announced_are_refused(run: Run) -> None:
    @study(things=("thing",))
    def studied(run: Run, options: Options) -> Iterator[Part]:
        yield from one_row(run)  # type: ignore[misc]

    with pytest.raises(StudyError, match="it is annotated to yield parts"):
        carry_out(run, "studied")


def test_a_failure_is_recorded_and_tried_again(run: Run) -> None:
    def fail(run: Run) -> Any:
        raise ValueError("too few samples")

    Parts(fail).declare()
    (record,) = carry_out(run, "studied")
    assert (record.status, record.error, record.rows) == ("failed", "too few samples", ())
    Parts(one_row).declare()
    (record,) = carry_out(run, "studied")
    assert (record.status, record.values) == ("ok", {"it": ONE})


def test_another_metric_in_the_same_folder_changes_nothing(run: Run) -> None:
    """Whether the cells that a study names have records of their own is no matter."""
    declare_metric()
    counted = Parts(one_row, cells=[run.cell("tested"), run.cell("random_score")])
    counted.declare()
    carry_out(run, "studied")
    run.evaluate(run.cell("tested"))
    run.evaluate(run.cell("random_score"))
    run.evaluate(run.cell("precision"))
    carry_out(run, "studied")
    assert counted.calls == 1


def test_a_new_version_of_a_cells_metric_and_other_options_make_the_study_stale(run: Run) -> None:
    declare_metric()
    counted = Parts(one_row, cells=[run.cell("tested")])
    for version in (1, 2):
        declare_metric(version)
        counted.declare()
        carry_out(run, "studied")
    assert counted.calls == 2
    counted.part["cells"] = [run.cell("tested", space="pixels")]
    carry_out(run, "studied")
    assert counted.calls == 3


def test_views_and_fingerprints_that_a_part_declares_are_read(
    run: Run, open_views: Callable[..., Views], with_encoder: Any
) -> None:
    counted = Parts(one_row, views={"codes": LATENT}, fingerprints={"weights": "a"})
    counted.declare()
    (record,) = carry_out(run, "studied")
    assert record.inputs["codes"] == run.views.digest(LATENT, 0, N)
    assert record.cell.views == {"codes": LATENT}
    counted.part["fingerprints"] = {"weights": "b"}
    carry_out(run, "studied")
    assert counted.calls == 2
    carry_out(Run("study", "plain", "squares", open_views(with_encoder), run.folder, 0, N), "studied")
    assert counted.calls == 3


def test_a_metric_that_is_called_directly_is_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions of metrics among the names of the study's file, or of a module that it imports as a whole."""
    declare_metric()

    @metric(better="higher", kind="set", source="not published", fake=LATENT)
    def another(fake: Tensor) -> float:
        return 0.0

    monkeypatch.setitem(globals(), "function_of_a_metric", METRICS["tested"].function)
    whole = ModuleType("some_metrics")
    whole.__dict__["another"] = another
    monkeypatch.setitem(globals(), "some_metrics", whole)
    counted = Parts(one_row)
    counted.declare()
    assert imported_metrics(STUDIES["studied"]) == {"tested", "another"}
    for version in (1, 1, 2):
        declare_metric(version)
        monkeypatch.setitem(globals(), "function_of_a_metric", METRICS["tested"].function)
        (record,) = carry_out(run, "studied")
    assert counted.calls == 2
    assert record.inputs["metric tested"] == "2"


def test_metrics_that_files_of_a_study_import_are_found_through_what_they_share() -> None:
    assert {"precision", "recall"} <= {*imported_metrics(STUDIES["tradeoff"]), *STUDIES["tradeoff"].uses}
    assert "frechet_distance" in imported_metrics(STUDIES["perturb"]), "by judged.py, which it shares with tradeoff"
    assert imported_metrics(STUDIES["gallery"]) == set()


def test_files_of_another_package_are_followed(own_registries: None, monkeypatch: pytest.MonkeyPatch) -> None:
    declare_metric()
    inner, outer = ModuleType("foreign.inner"), ModuleType("foreign.outer")
    exec("def helps(): ...", vars(inner))  # a function of that module
    inner.__dict__["score"] = METRICS["tested"].function
    outer.__dict__["helps"] = inner.__dict__["helps"]
    for module in (inner, outer):
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def studied(run: Run, options: Options) -> Iterator[Part]:
        yield from ()

    studied.__module__ = "foreign.outer"
    study(things=("thing",))(studied)
    assert imported_metrics(STUDIES["studied"]) == {"tested"}


def test_a_metric_that_is_named_in_uses_is_noticed(run: Run) -> None:
    counted = Parts(one_row)
    for version in (1, 1, 2):
        declare_metric(version)
        counted.declare(uses=["tested"])
        carry_out(run, "studied")
    assert counted.calls == 2
    counted.declare(uses=["tessted"])
    with pytest.raises(KeyError, match="unknown metric 'tessted'; did you mean tested"):
        carry_out(run, "studied")


def test_a_metric_that_is_looked_up_while_computing_is_noticed(run: Run) -> None:
    counted = Rows(lambda run: [((METRICS["tested"].better,), ONE)])
    for version in (1, 1, 2):
        declare_metric(version)
        counted.declare()
        (record,) = carry_out(run, "studied")
    assert counted.calls == 2
    assert record.inputs["metric tested"] == "2"
    METRICS.pop("tested")
    (record,) = carry_out(run, "studied")
    assert str(record.error).startswith("unknown metric 'tested'")


def test_a_view_that_is_read_while_computing_is_noticed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing declared: the extractor has other weights, and the generator and the data are the same."""
    counted = Rows(lambda run: [(("mean",), Estimate(float(run.views.tensor(PIXELS, 0, N).mean()), (0.0, 1.0)))])
    counted.declare()
    for fingerprint in ("a", "a", "b"):
        monkeypatch.setattr(run.views.extractor("pixels"), "fingerprint", fingerprint, raising=False)
        (record,) = carry_out(run, "studied")
    assert counted.calls == 2
    assert record.inputs[f"view fake pixels same mean 0 {N}"] == run.views.digest(PIXELS, 0, N)


def test_images_that_are_looked_at_while_computing_are_noticed(run: Run) -> None:
    Rows(lambda run: [((int(run.views.stored("real", 0, N, [1]).sum()),), ONE)]).declare()
    (record,) = carry_out(run, "studied")
    assert record.inputs[f"view real images same mean 0 {N}"] == run.views.digest(View("real", "images"), 0, N)


def test_a_score_that_is_asked_for_while_computing_is_noticed_though_it_is_stored(run: Run) -> None:
    declare_metric()
    score = run.cell("tested")
    run.sample_scores(score)
    Rows(lambda run: [(("mean",), Estimate(float(run.sample_scores(score).mean()), (0.0, 1.0)))]).declare()
    (record,) = carry_out(run, "studied")
    assert record.inputs[f"view fake latent same mean 0 {N}"] == run.views.digest(LATENT, 0, N)
    assert record.inputs["metric tested"] == "1"


def test_rows_depend_on_all_that_a_run_is_made_of(
    run: Run, open_views: Callable[..., Views], with_encoder: Any, tmp_path: Path
) -> None:
    counted = Rows(one_row)
    counted.declare()
    carry_out(run, "studied")
    others: list[dict[str, Any]] = [
        {"views": open_views(with_encoder)}, {"scores": ("tested",)}, {"set_metrics": ("precision",)}, {"n_real": 10},
        {"covariates": {"size": "png_bytes"}}, {"classes": "predicted_class"}, {"quality_signals": ("png_bytes",)},
    ]  # fmt: skip
    for calls, other in enumerate(others, 2):
        carry_out(Run("study", "plain", "squares", **({"views": run.views} | other), folder=tmp_path, seed=0, n=N),
                  "studied")  # fmt: skip
        assert counted.calls == calls, other


def oriented(run: Run) -> list[Row]:
    return [Row(("mean",), Estimate(float(run.oriented(run.cell("tested")).mean()), (-9.0, 9.0)))]


@pytest.mark.parametrize("form", [Parts, Rows])
def test_a_score_that_failed_makes_the_study_be_computed_again_once_it_works(run: Run, form: type[Parts]) -> None:
    """Nothing that is read has changed: a package was missing, say."""
    counted = form(oriented)
    counted.declare(uses=("tested",))
    declare_metric(works=False)
    (record,) = carry_out(run, "studied")
    assert record.status == "ok"
    assert record.rows[0].estimate.value != record.rows[0].estimate.value
    declare_metric()
    (record,) = carry_out(run, "studied")
    assert record.rows[0].estimate.value == pytest.approx(float(run.views.tensor(LATENT, 0, N)[:, 0].mean()))
    carry_out(run, "studied")
    assert counted.calls == 2


def test_the_same_where_the_cell_is_declared_and_evaluated_before(run: Run) -> None:
    calls = []

    def defined(scores: Tensor) -> Iterator[Row]:
        calls.append(1)
        yield Row(("n",), Estimate(float(scores.isfinite().sum()), (0.0, 1.0)))

    @study(things=("thing",))
    def studied(run: Run, options: Options) -> Iterator[Part]:
        cell = run.cell("tested")
        scores = run.sample_scores(cell)
        yield Part(lambda: defined(scores), cells=[cell])

    values = []
    for works in (False, False, True, True):
        declare_metric(works=works)
        values.append(carry_out(run, "studied")[0].values["n"].value)
    assert values == [0, 0, N, N]
    assert len(calls) == 2


@pytest.mark.parametrize("stored", [False, True])
def test_a_study_tells_with_what_it_was_computed(run: Run, stored: bool) -> None:
    """The same, whether the scores that it declares were in the store before or not."""
    declare_metric()
    score = run.cell("tested")
    if stored:
        run.sample_scores(score)
    Parts(oriented, cells=[score]).declare()
    (record,) = carry_out(run, "studied")
    assert record.numerics["dtype"] == "float32"
    assert set(record.numerics) == {"assay", "torch", "device", "dtype", "threads"}


def test_a_part_that_uses_a_metric_without_saying_so_is_refused(run: Run) -> None:
    """What one part has read another may find in memory: a part that does not declare it would stay valid for good."""
    declare_metric()
    Parts(oriented).declare()
    with pytest.raises(StudyError, match=r"'studied': a part uses tested without saying so.*uses="):
        carry_out(run, "studied")
    Parts(oriented).declare(uses=("tested",))
    carry_out(run, "studied")


def schema2(run: Run, inputs: Mapping[str, str]) -> None:
    """Write the record of a study as the first release did."""
    fields = {
        "better": "neither", "dataset": "squares", "error": None, "experiment": "study", "generator": "plain",
        "inputs": dict(inputs), "kind": "study", "label": "things(score=tested, size=5)", "metric": "things", "n": N,
        "numerics": {}, "params": {"columns": "thing ~ place", "score": "tested", "size": 5}, "preprocessing": {},
        "schema": 2, "seed": 0, "source": "", "status": "ok", "version": 1, "views": {},
        "values": {"it ~ here": {"interval": [0.5, 1.5], "missing": 0, "n": 20, "value": 1.0}},
    }  # fmt: skip
    (run.folder / "records").mkdir(exist_ok=True)
    (run.folder / "records" / "things-0123456789abcdef.json").write_text(json.dumps(fields))


def test_a_record_of_the_first_release_stays_valid_until_something_changes(run: Run) -> None:
    declare_metric()
    cell = run.cell("tested")
    read, real = run.views.digest(LATENT, 0, N), View("real", "pixels")
    old = {
        "tested fake": f"1 ok {read}", "another fake": "1 not a cell of its own 00ff",
        "features": run.views.digest(real, 0, N), "weights": "abc",
    }  # fmt: skip
    counted = Parts(
        lambda run: [(("it", "here"), ONE)], setting={"score": "tested", "size": 5}, cells=[cell],
        views={"features": real}, fingerprints={"weights": "abc"},
    )  # fmt: skip

    def computed(version: int = 1, **more: Any) -> int:
        before = counted.calls
        counted.declare(version, things=("thing", "place"), **more)
        (record,) = carry_out(run, "studied")
        assert record.values == {("it", "here"): ONE}
        own = run.folder / "records" / record_name(record.cell)
        own.unlink(missing_ok=True)
        return counted.calls - before

    schema2(run, old)
    assert computed() == 0
    assert computed(uses=["tested"]) == 0, "the first release noted no version of what a study called directly"
    assert computed(version=2) == 1
    for name, other in (("tested fake", f"1 failed {read}"), ("tested fake", f"2 ok {read}"),
                        ("tested fake", "1 ok 00ff"), ("features", "00ff"), ("weights", "abd")):  # fmt: skip
        schema2(run, old | {name: other})
        assert computed() == 1, (name, other)
    schema2(run, old)
    declare_metric(version=2)
    assert computed() == 1
    counted.part["cells"] = []
    assert computed() == 0
    assert computed(uses=["tested"]) == 1, "all metrics of the first release were version 1"


def test_records_of_parts_are_found_by_their_cells(run: Run) -> None:
    Parts(one_row, setting={"b": 1, "a": "x"}).declare()
    (record,) = carry_out(run, "studied")
    found = find_record(run.folder, run.part("things", {"b": 1, "a": "x"}, {}))
    assert found is not None
    assert found.values == record.values
