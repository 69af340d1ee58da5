"""What can be set and left out on the command line, with options that are empty mappings and those of experiments."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException

from assay.harness.command.hydra_jobs import plain_config, register, run_jobs
from assay.harness.command.overrides import is_glob, without_flags
from assay.harness.command.sweep import configs
from assay.harness.core.registry import METRICS, STUDIES, discover

discover()


def composed(*overrides: str) -> Any:
    GlobalHydra.instance().clear()
    register(overrides, "evaluate")
    with initialize_config_module("assay.configs", version_base="1.3"):
        return plain_config(compose("evaluate", list(overrides)))


@pytest.mark.parametrize(
    ("study", "option", "given", "expected"),
    [
        ("humans", "folders", "{cifar10: /data}", {"cifar10": "/data"}),
        ("sanity", "fewer", "{precision: 2}", {"precision": 2}),
        ("replicate", "shared", "{digits: 0.01}", {"digits": 0.01}),
    ],
)
def test_an_option_that_is_an_empty_mapping_takes_any_keys(study: str, option: str, given: str, expected: Any) -> None:
    config = composed(f"study={study}", f"study.{study}.{option}={given}")
    assert config["study"][study][option] == expected


def test_an_unknown_key_beside_it_is_refused() -> None:
    with pytest.raises(ConfigCompositionException, match="nothing"):
        composed("study=humans", "study.humans={nothing: 1}")


@pytest.mark.parametrize(
    "flags",
    [["--cfg", "job"], ["-c", "hydra"], ["--cfg=job"], ["--info", "defaults"], ["--info"], ["-p", "study"], ["-m"]],
)
def test_flags_of_hydra_are_no_overrides_nor_are_their_values(flags: list[str]) -> None:
    assert without_flags([*flags, "n=5"]) == without_flags(["n=5", *flags]) == ["n=5"]


def test_a_config_can_be_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])
    assert run_jobs("evaluate", ["metric=precision", "seed=7", "--cfg", "job"], lambda config: None) == []
    assert "\nseed: 7\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("chosen", "studies"),
    [
        ([], ["correlate", "groups", "gallery", "tradeoff"]),
        (["study=[correlate]"], ["correlate"]),
        (["study=tradeoff"], ["tradeoff"]),
        (["study=[correlate,samples]"], ["correlate", "samples"]),
        (["study=[]"], []),
    ],
)
def test_a_study_whose_options_an_experiment_sets_can_be_left_out(chosen: list[str], studies: list[str]) -> None:
    """The experiment sets all options of `groups`, so that its options do not tell whether it was chosen."""
    overrides = ["experiment=latent_density", *chosen]
    config = composed(*overrides)
    assert list(config["study"]) == studies
    assert all(set(STUDIES[name].options) == set(options) for name, options in config["study"].items())
    assert configs("evaluate", overrides) == [config]


def test_jobs_that_share_a_composition_and_those_of_hydra_leave_it_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = ["-m", "experiment=latent_density", "study=[correlate]", "study.correlate.resamples=20,30"]
    register(overrides, "evaluate")
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(sys, "argv", [])
    run_jobs("evaluate", overrides, found.append)
    assert [config["study"]["correlate"]["resamples"] for config in found] == [20, 30]
    assert [list(config["study"]) for config in found] == [["correlate"], ["correlate"]]
    assert configs("evaluate", overrides) == found


def test_metrics_of_an_experiment_can_be_left_out_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n# mine\ndefaults: [override /metric: [precision, recall]]\n"
        "metric: {precision: {k: 3, strict: true}, recall: {k: 3, strict: true}}\n"
    )
    overrides = ["--config-dir", str(tmp_path), "experiment=mine", "metric=recall"]
    register(overrides, "evaluate")
    (config,) = configs("evaluate", overrides) or []
    assert config["metric"] == {"recall": dict(METRICS["recall"].options) | {"k": 3, "strict": True}}


@pytest.mark.parametrize(
    ("group", "chosen", "other"), [("study", "[correlate]", "groups.share"), ("metric", "recall", "precision.k")]
)
def test_an_option_of_what_is_left_out_is_refused(group: str, chosen: str, other: str) -> None:
    """It would change nothing, and the user would not notice."""
    overrides = ["experiment=latent_density", f"{group}={chosen}", f"{group}.{other}=1"]
    with pytest.raises(ValueError, match=f"{group}.{other}=1 is an option of {other.split('.')[0]}, and {group}="):
        register(overrides, "evaluate")
    register([f"{group}=all", f"{group}.{other}=1"], "evaluate")


def test_jobs_answer_in_their_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    assert run_jobs("evaluate", ["-m", "seed=3,1,2"], lambda plain: [plain["seed"]]) == [[3], [1], [2]]
    assert list((tmp_path / "cache" / "jobs").iterdir()) == [], "nothing is left behind"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["-m", "metric=glob(*)"], True),
        (["-m", "seed=1", "metric=glob([rar*,rea*],exclude=realism)"], True),
        (["metric=rarity,realism"], False),
        (["metric=[precision]", "generator=glob(va*)"], False),
        (["name='metric=glob(*)'"], False),
        (["metric=[precision"], False),
    ],
)
def test_whether_somebody_named_the_metrics(overrides: list[str], expected: bool) -> None:
    assert is_glob("metric", overrides) == expected
