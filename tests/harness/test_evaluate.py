"""One cell to one record: computed once, again when anything it depends on changed, failed where it failed."""

import dataclasses
import json
import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.harness.arrays.records import find_record, read_records, record_name
from assay.harness.arrays.store import Store
from assay.harness.arrays.subsets import Subset
from assay.harness.arrays.views import Views
from assay.harness.core.protocols import Cell, Estimate, Record, View
from assay.harness.core.registry import METRICS, metric
from assay.harness.evaluate import evaluate as evaluate_into
from assay.harness.evaluate import has_floor

FAKE = View("fake", "features")
REAL = View("real", "features")
Open = Callable[..., Views]
Declare = Callable[..., Cell]


def evaluate(cell: Cell, views: Views, folder: Path) -> Record:
    return evaluate_into(cell, views, folder, [])


def file_of(folder: Path, cell: Cell) -> Path:
    return folder / "records" / record_name(cell)


class Counted:
    """A metric that counts its calls and returns what `answer` makes of its tensors."""

    def __init__(self, answer: Callable[[Tensor], Any]):
        self.answer, self.calls = answer, 0

    def __call__(self, fake: Tensor) -> Any:
        self.calls += 1
        return self.answer(fake)


@pytest.fixture
def views(open_views: Open) -> Views:
    return open_views()


def declare(counted: Counted, kind: Any = "set", version: int = 1, **more: Any) -> Cell:
    def tested(fake: Tensor) -> Any:
        return counted(fake)

    metric(better="higher", kind=kind, source="not published", version=version, fake=FAKE)(tested)
    return Cell("study", "squares", "plain", "tested", "tested", 0, 20, {}, {"fake": FAKE} | more)


def mean(fake: Tensor) -> float:
    return float(fake.mean())


def rows(fake: Tensor) -> Tensor:
    return fake.mean(dim=1)


def same(a: Record, b: Record) -> bool:
    """Equal, where an undefined number equals an undefined number."""
    texts = [json.dumps(dataclasses.asdict(record), sort_keys=True) for record in (a, b)]
    return texts[0] == texts[1]


def test_the_record_of_a_set_metric(views: Views, tmp_path: Path) -> None:
    counted = Counted(lambda fake: Estimate(0.5, (0.4, 0.6), 20))
    record = evaluate(declare(counted), views, tmp_path)
    assert (record.status, record.error, record.values) == ("ok", None, {"tested": Estimate(0.5, (0.4, 0.6), 20)})
    assert (record.better, record.source, record.inputs) == (
        "higher",
        "not published",
        {"fake": views.digest(FAKE, 0, 20)},
    )


def test_the_mean_of_a_sample_metric_with_its_interval(views: Views, tmp_path: Path) -> None:
    record = evaluate(declare(Counted(lambda fake: torch.arange(20.0)), "sample"), views, tmp_path)
    half = 2.093 * math.sqrt(35 / 20)  # Student's t with 19 degrees of freedom; the variance of 0..19 is 35
    value = record.values["tested"]
    assert value.value == 9.5
    assert value.interval == pytest.approx((9.5 - half, 9.5 + half), rel=1e-4)
    assert (value.n, value.missing) == (20, 0)


def test_a_valid_record_is_not_computed_again(views: Views, tmp_path: Path) -> None:
    counted = Counted(mean)
    first = evaluate(declare(counted), views, tmp_path)
    assert same(evaluate(declare(counted), views, tmp_path), first)
    assert counted.calls == 1
    assert len(read_records(tmp_path)) == 1


def test_a_run_again_from_nothing_has_the_same_bytes(views: Views, tmp_path: Path) -> None:
    cell = declare(Counted(rows), "sample")
    anew = Views(views.data, views.generator, "doubled", Store(tmp_path / "other store"), views.device)
    evaluate(cell, views, tmp_path / "a")
    evaluate(cell, anew, tmp_path / "b")
    one, two = file_of(tmp_path / "a", cell), file_of(tmp_path / "b", cell)
    assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())


def test_a_new_version_is_computed_again_and_takes_the_place_of_the_old(views: Views, tmp_path: Path) -> None:
    counted = Counted(rows)
    for number in (1, 2, 2):
        record = evaluate(declare(counted, "sample", number), views, tmp_path)
        assert record.version == number
    assert counted.calls == 2
    assert len(read_records(tmp_path)) == 1


def test_another_generator_behind_the_same_name_is_computed_again(
    open_views: Open, plain: Any, with_encoder: Any, tmp_path: Path
) -> None:
    counted = Counted(rows)
    cell = declare(counted, "sample")
    records = [evaluate(cell, open_views(generator), tmp_path) for generator in (plain, with_encoder, with_encoder)]
    assert counted.calls == 2
    assert records[0].inputs != records[1].inputs
    assert len(read_records(tmp_path)) == 1


def test_another_seed_or_number_is_another_record(views: Views, tmp_path: Path) -> None:
    cell = declare(Counted(mean))
    others = [{"seed": 1}, {"n": 21}, {"label": "tested(k=2)"}, {"generator": "x"}, {"dataset": "x"}]
    files = {file_of(tmp_path, Cell(**(vars(cell) | change))) for change in [{}, *others]}
    assert len(files) == 1 + len(others)


def test_an_option_that_the_metric_gained_replaces_the_record(views: Views, tmp_path: Path) -> None:
    """The label shows only what differs from the defaults, so it stays; the answer to the old question must not."""
    cell = declare(Counted(mean))
    evaluate(cell, views, tmp_path)

    def tested(fake: Tensor, k: int = 1) -> float:
        return float(k)

    METRICS.pop("tested")
    metric(better="higher", kind="set", source="not published", fake=FAKE)(tested)
    evaluate(dataclasses.replace(cell, params={"k": 1}), views, tmp_path)
    (record,) = read_records(tmp_path)
    assert record.values["tested"].value == 1


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"schema": 1}', '{"schema": 0}'])
def test_a_damaged_record_is_made_again(views: Views, tmp_path: Path, damage: str) -> None:
    counted = Counted(mean)
    cell = declare(counted)
    evaluate(cell, views, tmp_path)
    path = file_of(tmp_path, cell)
    whole = path.read_bytes()
    path.write_text(damage)
    evaluate(cell, views, tmp_path)
    assert counted.calls == 2
    assert path.read_bytes() == whole


def test_a_failure_is_recorded_with_its_reason_and_tried_again(views: Views, tmp_path: Path) -> None:
    def fail(fake: Tensor) -> float:
        raise ValueError("fake has 20 rows,\n k = 30 needs more")

    record = evaluate(declare(Counted(fail)), views, tmp_path)
    assert (record.status, record.values) == ("failed", {})
    assert record.error == "fake has 20 rows, k = 30 needs more"
    assert same(read_records(tmp_path)[0], record)
    mended = evaluate(declare(Counted(mean)), views, tmp_path)
    assert (mended.status, mended.error) == ("ok", None)
    assert len(read_records(tmp_path)) == 1


@pytest.mark.parametrize(
    "error", [KeyError("k"), TypeError("t"), ZeroDivisionError("z"), RuntimeError("r"), AttributeError("a")]
)
def test_whatever_a_metric_raises_the_run_goes_on(views: Views, tmp_path: Path, error: Exception) -> None:
    def fail(fake: Tensor) -> float:
        raise error

    record = evaluate(declare(Counted(fail)), views, tmp_path)
    assert record.status == "failed"
    assert error.args[0] in str(record.error)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("disk full")])
def test_what_is_not_the_fault_of_the_metric_stops_the_run(views: Views, tmp_path: Path, error: BaseException) -> None:
    def fail(fake: Tensor) -> float:
        raise error

    with pytest.raises(type(error)):
        evaluate(declare(Counted(fail)), views, tmp_path)
    assert not (tmp_path / "records").exists()


def test_a_failed_input_is_recorded_too(views: Views, tmp_path: Path) -> None:
    cell = declare(Counted(mean), fake=View("real", "latent"))
    record = evaluate(cell, views, tmp_path)
    assert record.status == "failed"
    assert "no encoder" in str(record.error)


def test_infinite_scores_are_refused(views: Views, tmp_path: Path) -> None:
    record = evaluate(declare(Counted(lambda fake: torch.arange(20.0).log()), "sample"), views, tmp_path)
    assert record.status == "failed"
    assert "infinite for sample 0" in str(record.error)


@pytest.mark.parametrize("value", [math.inf, -math.inf, Estimate(math.inf, (0.0, 1.0), 20)])
def test_an_infinite_number_of_a_set_metric_is_refused(views: Views, tmp_path: Path, value: Any) -> None:
    record = evaluate(declare(Counted(lambda fake: value)), views, tmp_path)
    assert record.status == "failed"
    assert "infinite" in str(record.error)


@pytest.mark.parametrize("result", [torch.zeros(19), torch.zeros(20, 1), torch.zeros(()), 0.5])
def test_scores_of_another_shape_are_refused(views: Views, tmp_path: Path, result: Any) -> None:
    record = evaluate(declare(Counted(lambda fake: result), "sample"), views, tmp_path)
    assert record.status == "failed"
    assert "one score per sample, [20]" in str(record.error)


def test_undefined_scores_are_counted_not_dropped_in_silence(views: Views, tmp_path: Path) -> None:
    scores = torch.ones(20)
    scores[:5] = torch.nan
    value = evaluate(declare(Counted(lambda fake: scores), "sample"), views, tmp_path).values["tested"]
    assert (value.value, value.n, value.missing) == (1.0, 15, 5)


def test_scores_that_are_all_undefined(views: Views, tmp_path: Path) -> None:
    value = evaluate(declare(Counted(lambda fake: torch.full((20,), torch.nan)), "sample"), views, tmp_path).values[
        "tested"
    ]
    assert math.isnan(value.value)
    assert (value.n, value.missing) == (0, 20)


def test_a_mapping_gives_a_number_for_each_name(views: Views, tmp_path: Path) -> None:
    result = {"fidelity": Estimate(0.9, (0.8, 1.0), 20), "diversity": 0.25}
    record = evaluate(declare(Counted(lambda fake: result)), views, tmp_path)
    assert {name: value.value for name, value in record.values.items()} == {"fidelity": 0.9, "diversity": 0.25}
    assert record.values["fidelity"].interval == (0.8, 1.0)
    assert record.values["diversity"].n == 20


def test_json_has_null_for_the_undefined_and_nothing_that_json_does_not_know(views: Views, tmp_path: Path) -> None:
    cell = declare(Counted(lambda fake: float("nan")))
    evaluate(cell, views, tmp_path)
    text = file_of(tmp_path, cell).read_text()
    fields = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in {text}"))
    assert fields["rows"] == [["tested", None, None, None, 20, 0]]
    assert text.count("\n") == 1, "a record is a line"
    assert str(tmp_path) not in text


@pytest.mark.parametrize("result", [0.5, float("nan"), {"a": 1.0, "b": Estimate(2.0, (1.0, 3.0), 7, 2)}])
def test_what_is_read_is_what_was_written(views: Views, tmp_path: Path, result: Any) -> None:
    cell = declare(Counted(lambda fake: result))
    record = evaluate(cell, views, tmp_path)
    read = find_record(tmp_path, cell)
    assert read is not None
    assert same(read, record)
    assert read.cell.views == {"fake": FAKE}


def test_a_deleted_array_is_made_again_though_the_record_is_valid(open_views: Open, plain: Any, tmp_path: Path) -> None:
    counted = Counted(mean)
    cell = declare(counted)
    evaluate(cell, open_views(plain), tmp_path)
    (card,) = (card for card in (tmp_path / "store").rglob("*.json") if "doubled" in card.read_text())
    card.with_suffix(".npy").unlink()
    evaluate(cell, open_views(plain), tmp_path)
    assert card.with_suffix(".npy").is_file()
    assert counted.calls == 1


def test_a_metric_that_writes_into_its_tensors_does_no_harm(views: Views, tmp_path: Path) -> None:
    """Tensors are kept between the cells of a process: what one metric writes the next must not read."""
    before = evaluate(declare(Counted(mean)), views, tmp_path / "a").values["tested"].value
    evaluate(declare(Counted(lambda fake: float(fake.add_(1000).mean()))), views, tmp_path / "b")
    METRICS.pop("tested")
    after = evaluate(declare(Counted(mean)), views, tmp_path / "c")
    assert after.status == "failed" or after.values["tested"].value == before


def test_a_record_tells_with_what_its_numbers_were_computed(views: Views, tmp_path: Path) -> None:
    def plain_labels(fake: Tensor, labels: Tensor) -> float:
        return float(fake.mean() + labels.sum())

    metric(better="higher", kind="set", source="not published", fake=FAKE, labels=View("real", "labels"))(plain_labels)
    labels = Cell("study", "squares", "plain", "plain_labels", "plain_labels", 0, 20, {}, METRICS["plain_labels"].views)
    record = evaluate(declare(Counted(mean)), views, tmp_path)
    assert record.numerics == {
        "assay": version("assay"), "torch": torch.__version__, "device": "cpu", "dtype": "float32",
        "threads": str(torch.get_num_threads()),
    }  # fmt: skip
    assert evaluate(labels, views, tmp_path).numerics["dtype"] == "float32, int64"


def test_stored_scores_tell_with_what_they_were_computed(views: Views, tmp_path: Path) -> None:
    """They may come from another process: a record tells the threads of that one, not of the one that reads them."""
    cell, threads = declare(Counted(rows), "sample"), torch.get_num_threads()
    first = evaluate(cell, views, tmp_path / "a").numerics
    try:
        torch.set_num_threads(threads + 1)
        assert evaluate(cell, views, tmp_path / "b").numerics == first
    finally:
        torch.set_num_threads(threads)
    assert (first["threads"], first["dtype"]) == (str(threads), "float32")


# What is told beside the numbers


def mean_difference(fake: Tensor, real: Tensor) -> Estimate:
    value = float(fake.mean() - real.mean())
    return Estimate(value, (value - 1, value + 1), len(fake))


def comparing(views: Views, n: int, real: View = REAL, **more: View) -> Cell:
    """The cell of a metric that compares means, which is declared here."""
    metric(better="lower", kind="set", source="not published", fake=FAKE, real=real)(mean_difference)
    cell = Cell(
        "study", "squares", "plain", "mean_difference", "mean_difference", 0, n, {}, {"fake": FAKE, "real": real}
    )
    return dataclasses.replace(cell, views={**cell.views, **more})


def test_a_floor_is_the_metric_of_held_out_reals_where_there_are_enough(views: Views, tmp_path: Path) -> None:
    """40 are held out: their mean less that of the 30 reals which the metric reads."""
    record = evaluate_into(comparing(views, 30), views, tmp_path, [], floor=True)
    held = Subset("holdout", 40, 30, 0).numbers
    real = Subset("real", 2600, 30, 0).numbers % 256
    assert record.floor is not None
    assert (record.floor.n, record.floor.samples) == (30, "30 held out against 30 real")
    (row,) = record.floor.rows
    assert row.estimate.value == pytest.approx(2 / 255 * (held.mean() - real.mean()), rel=1e-5)
    assert row.estimate.interval == pytest.approx((row.estimate.value - 1, row.estimate.value + 1))
    assert record.samples == {"fake": {"made": 30}, "real": {"found": 2600, "used": 30, "seed": 0}}


@pytest.mark.parametrize(
    ("n", "of", "sides"),
    [(100, "same", (100, 100)), (100, "all", (100, 2500)), (2000, "same", (1300, 1300)), (9999, "all", (1300, 1300))],
)
def test_else_it_is_that_of_other_reals_of_the_split(
    views: Views, tmp_path: Path, n: int, of: Any, sides: tuple[int, int]
) -> None:
    """Of 2,600; where there are too few for both sides, half on each."""
    cell = comparing(views, n, View("real", "features", n=of))
    record = evaluate_into(cell, views, tmp_path, [], floor=True)
    assert record.floor is not None
    assert (record.floor.n, record.floor.samples) == (
        sides[0],
        f"{sides[0]:,} other real samples against {sides[1]:,} real",
    )
    _, these, those = views.floor(cell.views["real"], 0, n)
    assert (these.count, those.count) == sides
    assert not set(these.numbers) & set(those.numbers)


def test_a_floor_is_computed_once_for_all_generators(
    open_views: Open, plain: Any, with_encoder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = open_views(plain), open_views(with_encoder)
    cell = comparing(one, 30)
    first = evaluate_into(cell, one, tmp_path / "a", [], floor=True)
    made = one.store.made

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("computed again")

    monkeypatch.setattr(other, "tensor_of", refuse)
    second = evaluate_into(cell, other, tmp_path / "b", [], floor=True)
    assert first.floor == second.floor
    assert first.inputs["fake"] != second.inputs["fake"]
    assert one.store.made == made


def test_metrics_of_codes_and_of_held_out_samples_have_no_floor(views: Views) -> None:
    cell = comparing(views, 30)
    assert has_floor(cell)
    for view in (View("real", "latent"), View("holdout", "features")):
        assert not has_floor(dataclasses.replace(cell, views={"fake": FAKE, "real": view}))
    assert not has_floor(dataclasses.replace(cell, views={**cell.views, "holdout": View("holdout", "features")}))
    assert not has_floor(dataclasses.replace(cell, views={"fake": FAKE}))


def test_a_floor_is_added_to_a_record_without_one_and_its_numbers_stay(views: Views, tmp_path: Path) -> None:
    cell, written = comparing(views, 30), list[Record]()
    without = evaluate_into(cell, views, tmp_path, written)
    assert without.floor is None
    added = evaluate_into(cell, views, tmp_path, written, floor=True)
    assert added.floor is not None
    assert same(dataclasses.replace(added, floor=None), without)
    assert same(evaluate_into(cell, views, tmp_path, written, floor=True), added)
    assert len(written) == 2


def test_a_record_tells_samples_and_floor_on_disk(views: Views, tmp_path: Path) -> None:
    cell = comparing(views, 30)
    record = evaluate_into(cell, views, tmp_path, [], floor=True)
    stored = json.loads(file_of(tmp_path, cell).read_text())
    assert (stored["schema"], stored["samples"]["real"]) == (3, {"found": 2600, "used": 30, "seed": 0})
    assert read_records(tmp_path)[0].floor == record.floor
    plain = evaluate(declare(Counted(mean)), views, tmp_path / "plain")
    assert plain.floor is None
    assert "floor" not in json.loads(file_of(tmp_path / "plain", plain.cell).read_text())


def test_a_metric_that_fails_on_reals_says_so_and_keeps_its_value(views: Views, tmp_path: Path) -> None:
    cell = comparing(views, 2000)
    METRICS.pop("mean_difference")

    def mean_difference(fake: Tensor, real: Tensor) -> float:
        if len(fake) < 2000:
            raise ValueError("too few")
        return 0.5

    metric(better="lower", kind="set", source="not published", fake=FAKE, real=View("real", "features"))(
        mean_difference
    )
    record = evaluate_into(cell, views, tmp_path, [], floor=True)
    assert (record.status, record.values["mean_difference"].value) == ("ok", 0.5)
    assert record.floor is not None
    assert (record.floor.rows, record.floor.error, record.floor.n) == ([], "too few", 1300)


def test_weights_that_are_not_there_fail_their_cell_alone(views: Views, tmp_path: Path) -> None:
    def fail(fake: Tensor) -> float:
        raise FileNotFoundError("no weights of 'inception'")

    record = evaluate(declare(Counted(fail)), views, tmp_path)
    assert (record.status, record.error) == ("failed", "no weights of 'inception'")


def test_an_answer_is_not_lost_to_inputs_that_are_missing_now(
    views: Views, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = declare(Counted(mean))
    found = evaluate(cell, views, tmp_path)

    def missing(*arguments: Any) -> str:
        raise FileNotFoundError("no weights")

    written: list[Record] = []
    with monkeypatch.context() as patch:
        patch.setattr(views, "digest", missing)
        assert evaluate_into(cell, views, tmp_path, written).error == "no weights"
    assert [record.status for record in written] == ["failed"]
    assert same(read_records(tmp_path)[0], found)


def test_one_generated_sample_is_told_as_what_is_wrong(views: Views, tmp_path: Path) -> None:
    record = evaluate(dataclasses.replace(comparing(views, 1), metric="precision", params={"k": 5}), views, tmp_path)
    assert record.status == "failed"
    assert str(record.error).startswith("1 sample was generated, and as many real ones are compared with them")
