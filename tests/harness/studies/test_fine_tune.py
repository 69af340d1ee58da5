"""Fine-tuning as a run: what is trained, what is compared with what, that nothing is done twice, and the page."""

import itertools
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from assay.harness import train as training
from assay.harness.arrays.records import read_records
from assay.harness.command.hydra_jobs import run_jobs
from assay.harness.core.protocols import Estimate, Record
from assay.harness.core.registry import discover
from assay.harness.open_run import open_run
from assay.harness.report.report import report
from assay.harness.report.tables import PUBLISHED
from assay.harness.report.verdict import HOLDS, OPPOSITE, UNDECIDED
from assay.harness.run import Run
from assay.harness.studies.carry_out import carry_out
from assay.harness.studies.fine_tune import measure as module
from assay.harness.studies.fine_tune.names import NOTHING, THESE
from assay.harness.studies.same_seeds import SameSeeds
from assay.metrics.pseudo_density import reference_density

discover()
SETS = ("frechet_distance", "precision", "recall")
PLAIN_TOO = {"tuning": "control", "tau": 0.3}
TUNINGS = [
    "control",
    PLAIN_TOO,
    {"tuning": "fidelity", "weight_real": 9},
    "diversity",
    {"tuning": "control", "seed": 1},
]
FEW = {
    "trainers": {"stylegan2": {"epochs": 1, "images": 64}, "latent_diffusion": {"epochs": 1, "images": 300}},
    "spaces": ["classifier", "pixels"],
    "count": 100, "halves": 4, "curve": 20, "shown": 3,
}  # fmt: skip


def opened(folder: Path, generator: Mapping[str, Any], **changes: Any) -> Run:
    given = {"n": 100, "n_real": 300, "set_metrics": SETS, "store": folder / "store"}
    return open_run({"digits": {}}, generator, folder / "tuning", **{**given, **changes})


def records_of(run: Run, table: str = "fine_tune") -> dict[str, Record]:
    records = {
        record.cell.params["tuning"]: record for record in read_records(run.folder) if record.cell.metric == table
    }
    assert all(record.status == "ok" for record in records.values()), [record.error for record in records.values()]
    return records


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A latent diffusion on digits, tuned five times, of which three are plain, with two seeds."""
    run = opened(tmp_path_factory.mktemp("tuned"), {"latent_diffusion": {}})
    carry_out(run, "fine_tune", tunings=TUNINGS, **FEW)
    return run


def test_every_generator_is_judged_as_it_would_be_alone(run: Run) -> None:
    for name, path in (
        ("untuned", "zoo"),
        ("diversity", run.folder / "tuned/latent_diffusion-digits-diversity.safetensors"),
    ):
        alone = opened(run.folder.parent, {"latent_diffusion": {"path": str(path)}})
        found = records_of(run)[name].values
        for cell in alone.cells([{"metric": metric, "space": "pixels"} for metric in SETS]):
            (expected,) = alone.evaluate(cell).values.values()
            same = found[cell.metric, "pixels", NOTHING]
            assert same.value == expected.value
            assert same.interval == pytest.approx(expected.interval, nan_ok=True)


def test_differences_are_those_of_the_values_and_hold_for_equal_generators(run: Run) -> None:
    found = records_of(run)
    assert not any("control" in key for name in ("untuned", "control") for key in found[name].values)
    for name in ("control(tau=0.3)", "fidelity(weight_real=9)", "diversity"):
        values = found[name].values
        for key in itertools.product(SETS, ("classifier", "pixels")):
            for other in ("untuned", "control"):
                difference = values[*key, f"{other}{THESE}"]
                theirs = found[other].values[*key, NOTHING].value
                assert difference.value == pytest.approx(values[*key, NOTHING].value - theirs, abs=1e-12)
                low, high = difference.interval
                assert low <= difference.value <= high or math.isnan(low)
    same = [
        value for (_, _, against), value in found["control(tau=0.3)"].values.items() if against == f"control{THESE}"
    ]
    assert all(estimate[:2] == (0, (0, 0)) for estimate in same), "weights of 1 train the very same generator"
    assert len(same) == 6
    assert found["fidelity(weight_real=9)"].values["frechet_distance", "classifier", "control"].value != 0


def test_intervals_hold_for_other_trainings_of_which_plain_ones_tell(run: Run) -> None:
    """Two controls: s = |d| / sqrt(2), so each difference of two trainings has a half-width of |d| t(1), and more."""
    found = records_of(run)
    plain = [found[name].values for name in ("control", "control(seed=1)")]
    for key in itertools.product(SETS, ("classifier", "pixels")):
        apart = abs(plain[0][*key, NOTHING].value - plain[1][*key, NOTHING].value)
        for other, trained in (("control", 2), ("untuned", 1)):
            difference, here = (found["diversity"].values[*key, f"{other}{more}"] for more in ("", THESE))
            half = (difference.interval[1] - difference.interval[0]) / 2
            of_these = (here.interval[1] - here.interval[0]) / 2
            assert half == pytest.approx(math.hypot(12.7062 * apart * math.sqrt(trained / 2), of_these), rel=1e-4)
    null = found["control(seed=1)"].values["frechet_distance", "classifier", "control"]
    assert null.interval[0] < 0 < null.interval[1], "trainings that differ by their seeds alone decide nothing"


def test_without_a_second_plain_training_nothing_is_decided() -> None:
    difference = Estimate(1.0, (0.9, 1.1), 100)
    assert all(math.isnan(end) for end in module.over_trainings(difference, [3.0], 2).interval)


@pytest.mark.parametrize(("plain", "trained"), [(2, 2), (3, 1), (5, 2)])
def test_intervals_over_trainings_cover(plain: int, trained: int) -> None:
    """The noise of samples is as large as that of trainings. 4,000 times: standard error of a coverage of 95 %: 0.34 %;
    four of them below, false alarm 3 in 100,000. The interval is rather wide, so it may cover more."""
    generator = torch.Generator().manual_seed(plain)
    values = math.sqrt(2) * torch.randn(4000, plain, generator=generator, dtype=torch.float64)
    noise = math.sqrt(2)  # of the difference of two sets of samples
    difference = torch.randn(4000, generator=generator, dtype=torch.float64) * math.sqrt(trained + 2)
    covered = 0
    for apart, seeds in zip(difference.tolist(), values.tolist(), strict=True):
        here = Estimate(apart, (apart - 1.96 * noise, apart + 1.96 * noise), 100)
        low, high = module.over_trainings(here, seeds, trained).interval
        covered += low <= 0 <= high
    assert covered / 4000 > 0.95 - 4 * 0.0034


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
    values = records_of(run, "fine_tune_course")["diversity"].values
    assert [card["measured"][i]["images"] for i in (0, 1)] == [0, 300]
    for step in card["measured"]:
        for metric in SETS:
            quantity = f"{metric} in classifier"
            assert values[quantity, str(step["images"])].value == step[quantity]
    assert values["denoising", "300"].value == card["losses"][0]["denoising"]


def test_the_course_of_a_card_of_the_first_release(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names metrics THROUGH a space."""
    text = (run.folder / "tuned/latent_diffusion-digits-diversity.json").read_text()
    old = text.replace(" in classifier", " through classifier")
    assert old.count(" through classifier") == 2 * len(SETS)
    (tmp_path / "old.json").write_text(old)
    monkeypatch.setattr(module.Tuned, "weights", lambda tuned, arm: tmp_path / "old.safetensors")
    arm = module.Arm.of("diversity", run.seed, 300)
    course = module.Tuned(run, "latent_diffusion", arm, [arm], {}, SameSeeds(run, ["pixels"], 100, 4), 20).course(arm)
    expected = records_of(run, "fine_tune_course")["diversity"].values
    assert {keys: estimate.value for keys, estimate in course} == {k: each.value for k, each in expected.items()}


def test_nothing_is_done_twice(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: record.values for name, record in records_of(run).items()}

    def never(*given: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(training, "_resume", never)
    again = opened(run.folder.parent, {"latent_diffusion": {}}, store=run.folder / "another store")
    carry_out(again, "fine_tune", tunings=TUNINGS, **FEW)
    assert {name: record.values for name, record in records_of(again).items()} == before


def test_the_page_says_what_holds(run: Run) -> None:
    lines = [line.strip() for line in report(run.folder).splitlines()]
    for claim, space in itertools.product(
        ("diversity (weight 0.03) raises recall", "fidelity(weight_real=9) (weight 9) lowers frechet_distance"),
        ("classifier", "pixels"),
    ):
        (line,) = (line for line in lines if line.startswith(f"{claim} in {space}, compared with control: "))
        assert any(words in line for words in (HOLDS, OPPOSITE, UNDECIDED))
        assert "For these trainings alone it is " in line
    assert not any(line.startswith("control") for line in lines), "weights of 1 promise nothing"
    assert any(
        "estimated from 2 plain ones; intervals use Student's t with 1 degree of freedom." in line for line in lines
    )
    page = (run.folder / "report.html").read_text()
    for words in ("less control", "less untuned", "The course of training", "The same seeds; rows: untuned, control,"):
        assert words in page


def test_a_gan_chooses_among_its_own_samples(tmp_path: Path) -> None:
    """w on real images and 1 / w on generated ones; the samples tried for one accepted stand in the course."""
    run = opened(tmp_path, {"stylegan2": {}})
    carry_out(run, "fine_tune", tunings=["control", {"tuning": "diversity", "network": 0}], **FEW)
    card = json.loads((run.folder / "tuned/stylegan2-digits-diversity-network-0.json").read_text())
    assert card["importance"]["weight_fake"] == pytest.approx(1 / 0.03)
    assert records_of(run, "fine_tune_course")["diversity(network=0)"].values["tried_for_one", "64"].value > 1
    assert ("tried_for_one", "64") not in records_of(run, "fine_tune_course")["control"].values


def test_what_cannot_be_tuned_is_left_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = opened(tmp_path, {"vae": {}})
    carry_out(run, "fine_tune", **FEW)
    assert "fine_tune: vae has no trainer that goes on from weights, so it is left out" in capfd.readouterr().err
    assert not (run.folder / "records").exists()


def test_the_defaults_of_a_tuning_are_those_of_the_command_line(run: Run) -> None:
    """One place says them: configs/train.yaml."""
    found: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [])
        run_jobs("train", ["trainer=stylegan2"], found.append)
    assert dict(module.Arm.of("control", 0, None).importance) == found[0]["importance"] == module.plain()


def test_published_records_know_their_control() -> None:
    """The fingerprint of a control is that of the first release, though its space has another name now."""
    control = module.Arm.of("control", 0, 2500)
    found = [record for record in read_records(PUBLISHED / "pseudo_density") if record.cell.metric == "fine_tune"]
    known = {
        record.cell.generator: value for record in found for name, value in record.inputs.items() if "control" in name
    }
    assert control.fingerprint == known["stylegan2"]


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
            carry_out(which, "fine_tune", **{**FEW, **options})
