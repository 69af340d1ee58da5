"""Jobs of a sweep: a shared composition gives each the config that Hydra composes for it alone."""

from pathlib import Path

import pytest

from assay.harness.command import sweep
from assay.harness.command.hydra_jobs import register
from assay.harness.core.registry import discover

discover()

SWEEPS = {
    "seeds": (["-m", "seed=range(0,5)", "metric=precision"], 5),
    "options of a metric": (
        ["-m", "metric=latent_density", "metric.latent_density.bandwidth=0.1,0.5,2", "seed=1,2"],
        6,
    ),
    "generators": (["-m", "generator=vae,stylegan2", "dataset=digits", "n=10,20"], 4),
    "a pattern": (["-m", "metric=glob(*recall)", "seed=0,1"], None),
    "lists and texts": (["-m", "scores=[],[random_score,{metric: realism, k: [3, 5]}]", "name='a b','c,d'"], 4),
    "a mapping is merged": (["-m", "covariates={},{norm: latent_knn}", "seed=0,1"], 4),
    "added and deleted": (["-m", "seed=0,1", "+new.key=3", "~covariates.norm"], 2),
    "an experiment that sweeps": (["experiment=pseudo_density", "seed=3"], 3),
    "no sweep": (["seed=4", "metric=[precision,recall]"], 1),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_jobs_are_those_of_hydra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, count = SWEEPS[name]
    register(arguments, "evaluate")
    shared = sweep.configs("evaluate", arguments)
    assert shared is not None
    assert count is None or len(shared) == count
    monkeypatch.setattr(sweep, "_refers", lambda node: True)  # nothing is shared: Hydra composes every job
    assert sweep.configs("evaluate", arguments) == shared


def test_a_config_that_refers_to_itself_is_composed_for_each_job(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\n# mine\nn: ${seed}\n")
    arguments = ["-m", "--config-dir", str(tmp_path), "experiment=mine", "seed=7,8"]
    register(arguments, "evaluate")
    assert [config["n"] for config in sweep.configs("evaluate", arguments) or []] == [7, 8]


@pytest.mark.parametrize("more", [["hydra/launcher=joblib"], ["--cfg", "job"], ["seed=0,1"]])
def test_what_hydra_must_do_itself_is_left_to_it(more: list[str]) -> None:
    arguments = ["metric=precision", *more]
    register(arguments, "evaluate")
    assert sweep.configs("evaluate", arguments) is None


def test_what_cannot_be_composed_is_one_line() -> None:
    arguments = ["-m", "seed=0,1", "covariates={more: png_bytes}"]
    register(arguments, "evaluate")
    with pytest.raises(ValueError, match=r"Could not override 'covariates'\. To append to your config use"):
        sweep.configs("evaluate", arguments)
