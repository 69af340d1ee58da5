"""Fine-tuning as a run: what is trained, what is compared with what, that nothing is done twice, and the page."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assay.harness import train as training
from assay.harness.arrays.records import read_records
from assay.harness.core.protocols import Record
from assay.harness.core.registry import discover
from assay.harness.report.report import report
from assay.harness.run import Run, open_run
from assay.harness.studies.fine_tune.measure import fine_tune
from assay.metrics.pseudo_density import reference_density

discover()
SETS = ("frechet_distance", "precision", "recall")
PLAIN_TOO = {"tuning": "control", "tau": 0.3}
FEW = {
    "trainers": {"stylegan2": {"epochs": 1, "images": 64}, "latent_diffusion": {"epochs": 1, "images": 300}},
    "spaces": ["classifier", "pixels"],
    "count": 100, "halves": 4, "curve": 20, "shown": 3,
}  # fmt: skip


def opened(folder: Path, generator: Mapping[str, Any], **changes: Any) -> Run:
    given = {"n": 100, "reals": 300, "sets": SETS, "store": folder / "store"}
    return open_run({"digits": {}}, generator, folder / "tuning", **{**given, **changes})


def told(run: Run, table: str = "fine_tune") -> dict[str, Record]:
    records = {
        record.cell.params["tuning"]: record for record in read_records(run.folder) if record.cell.metric == table
    }
    assert all(record.status == "ok" for record in records.values()), [record.error for record in records.values()]
    return records


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A latent diffusion on digits, tuned four times, of which two are plain."""
    run = opened(tmp_path_factory.mktemp("tuned"), {"latent_diffusion": {}})
    fine_tune(run, ["control", PLAIN_TOO, {"tuning": "fidelity", "weight_real": 9}, "diversity"], **FEW)  # type: ignore[arg-type]
    return run


def test_every_generator_is_judged_as_it_would_be_alone(run: Run) -> None:
    for name, path in (
        ("untuned", "zoo"),
        ("diversity", run.folder / "tuned/latent_diffusion-digits-diversity.safetensors"),
    ):
        alone = opened(run.folder.parent, {"latent_diffusion": {"path": str(path)}})
        found = told(run)[name].values
        for cell in alone.cells([{"metric": metric, "space": "pixels"} for metric in SETS]):
            (expected,) = alone.evaluate(cell).values.values()
            same = found[f"{cell.metric} ~ pixels ~ nothing"]
            assert same.value == expected.value
            assert same.interval == pytest.approx(expected.interval, nan_ok=True)


def test_differences_are_those_of_the_values_and_hold_for_equal_generators(run: Run) -> None:
    found = told(run)
    assert not any(key.endswith(" ~ control") for name in ("untuned", "control") for key in found[name].values)
    for name in ("control(tau=0.3)", "fidelity(weight_real=9)", "diversity"):
        values = found[name].values
        for key in (f"{metric} ~ {space}" for metric in SETS for space in ("classifier", "pixels")):
            for other in ("untuned", "control"):
                difference = values[f"{key} ~ {other}"]
                theirs = found[other].values[f"{key} ~ nothing"].value
                assert difference.value == pytest.approx(values[f"{key} ~ nothing"].value - theirs, abs=1e-12)
                low, high = difference.interval
                assert low <= difference.value <= high or math.isnan(low)
    same = [value for key, value in found["control(tau=0.3)"].values.items() if key.endswith("~ control")]
    assert all(estimate[:2] == (0, (0, 0)) for estimate in same), "weights of 1 train the very same generator"
    assert len(same) == 6
    assert found["fidelity(weight_real=9)"].values["frechet_distance ~ classifier ~ control"].value != 0


def test_the_densities_are_those_of_all_training_images(run: Run) -> None:
    """Also where the run sees few reals: the card's threshold is the quantile of the density of all images."""
    card = json.loads((run.folder / "tuned/latent_diffusion-digits-diversity.json").read_text())
    data, extract = run.views.data, run.views.extractor("classifier")
    density = reference_density(extract(data.take("train", 0, data.count("train")).images.float() / 255)).density
    assert card["importance"]["threshold"] == pytest.approx(float(density.quantile(0.2)), rel=1e-5)
    assert card["importance"]["weight_real"] == 0.03
    assert card["start"]["file"] == "latent_diffusion-digits.safetensors"


def test_the_course_is_that_of_the_card(run: Run) -> None:
    card = json.loads((run.folder / "tuned/latent_diffusion-digits-diversity.json").read_text())
    values = told(run, "fine_tune_course")["diversity"].values
    assert [card["measured"][i]["images"] for i in (0, 1)] == [0, 300]
    for step in card["measured"]:
        for metric in SETS:
            assert (
                values[f"{metric} through classifier ~ {step['images']}"].value == step[f"{metric} through classifier"]
            )
    assert values["denoising ~ 300"].value == card["losses"][0]["denoising"]


def test_nothing_is_done_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: record.values for name, record in told(run).items()}

    def never(*given: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "_resume", never)
    again = opened(run.folder.parent, {"latent_diffusion": {}}, store=run.folder / "another store")
    tunings = ["control", PLAIN_TOO, {"tuning": "fidelity", "weight_real": 9}, "diversity"]
    fine_tune(again, tunings, **FEW)  # type: ignore[arg-type]
    assert {name: record.values for name, record in told(again).items()} == before


def test_the_page_says_what_holds(run: Run) -> None:
    printed = report(run.folder)
    assert "diversity (weight 0.03), recall higher than that of control: classifier" in printed
    assert "fidelity(weight_real=9) (weight 9), frechet_distance lower than that of control: classifier" in printed
    assert "control(tau=0.3)" not in printed
    page = (run.folder / "report.html").read_text()
    for words in ("less control", "less untuned", "The course of training", "The same seeds; rows: untuned, control,"):
        assert words in page


def test_a_gan_chooses_among_its_own_samples(tmp_path: Path) -> None:
    """w on real images and 1 / w on generated ones; the samples tried for one accepted stand in the course."""
    run = opened(tmp_path, {"stylegan2": {}})
    fine_tune(run, ["control", {"tuning": "diversity", "network": 0}], **FEW)  # type: ignore[arg-type]
    card = json.loads((run.folder / "tuned/stylegan2-digits-diversity-network-0.json").read_text())
    assert card["importance"]["weight_fake"] == pytest.approx(1 / 0.03)
    assert told(run, "fine_tune_course")["diversity(network=0)"].values["tried_for_one ~ 64"].value > 1
    assert "tried_for_one ~ 64" not in told(run, "fine_tune_course")["control"].values


def test_what_cannot_be_tuned_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = opened(tmp_path, {"vae": {}})
    fine_tune(run, **FEW)  # type: ignore[arg-type]
    assert "fine_tune: vae has no trainer that goes on from weights, so it is left out" in capfd.readouterr().err
    assert not (run.folder / "records").exists()


def test_wrong_calls(run: Run) -> None:
    other = opened(run.folder.parent, {"stylegan2": {"truncation": 0.5}})
    for which, options, message in (
        (run, {"tunings": ["fidelty"]}, "unknown tuning 'fidelty'; did you mean fidelity"),
        (run, {"tunings": [{"tuning": "control", "weight": 3}]}, "unknown option of a tuning: 'weight'; did you"),
        (run, {"tunings": ["control", "control"]}, "must be different ones, the control first"),
        (run, {"tunings": []}, "must be different ones, the control first"),
        (run, {"count": 101}, "count=101 must be 4 or more, and at most n=100"),
        (run, {"halves": 1}, "halves=1 2 or more"),
        (other, {}, r"start=zoo holds another generator than the one that is judged: give the file of"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            fine_tune(which, **{**FEW, **options})  # type: ignore[arg-type]
