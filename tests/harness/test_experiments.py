"""Every experiment of `configs/experiment`, on a tiny setting, by the command itself."""

import sys
from pathlib import Path
from typing import Any

import pytest

from assay.harness.command.hydra_jobs import run_jobs
from assay.harness.core.registry import discover

from .shell import TINY, Shell, is_one_line

discover()
RESULTS = Path(__file__).parents[2] / "results"
EXPERIMENTS = sorted(path.stem for path in (Path(__file__).parents[2] / "configs" / "experiment").glob("*.yaml"))
SMALLER = {
    "costs": (
        "scores=[latent_density,log_volume]",
        "quality_signals=[judge_confidence]",
        "study.costs.count=20",
        "n=20",
    ),
    "damage": (
        *("n=null", "study.damage.metrics=[precision,frechet_distance]"),
        *("study.damage.samples=[20]", "study.damage.shares=[1.0]", "study.damage.few=[10,20]"),
    ),
    "edit": ("study.edit.count=20", "study.edit.steps=5", "scores=[latent_density,negative_norm]"),
    "few_shot": (
        *("dataset=none", "study.few_shot.path=features.npz", "generator.conditional_vae.epochs=2"),
        *(f"study.few_shot.{option}" for option in ("episodes=20", "pools=2", "logistic=2", "shots=[1]")),
        *("generator.conditional_vae.hidden=16", "scores=[latent_density,negative_norm]"),
    ),
    "faults": ("scores=[latent_density]", "study.detect.resamples=5"),
    "fine_tuning": (
        *("generator=latent_diffusion", "extractor.efficientnet_lite.size=32"),
        *("study.fine_tune.tunings=[control,fidelity]", "study.fine_tune.count=60", "study.fine_tune.halves=3"),
        *("study.fine_tune.curve=20", "study.fine_tune.trainers.latent_diffusion.epochs=1"),
        "study.fine_tune.trainers.latent_diffusion.images=64",
    ),
    "guarantee": ("study.guarantee.count=20", "study.guarantee.splits=3", "scores=[latent_density,random_score]"),
    "latent_density": (
        *("networks=[]", "scores=[latent_density,log_volume,negative_norm]", "extractor.efficientnet_lite.size=32"),
        *("study.correlate.resamples=5", "study.groups.scores=[latent_density]", "study.gallery.scores=[log_volume]"),
        *("study.gallery.sheet=[log_volume]", "study.tradeoff.scores=[log_volume]", "study.tradeoff.keep=0.3"),
        *("study.tradeoff.halves=2", "study.tradeoff.psis=[0.5]", "study.correlate.against=[negative_norm]"),
    ),
    "humans": ("n=null", "study.humans.resamples=20"),
    "metric": (
        *("n=null", "metric=precision", "study.sanity.checks=[scale of one dimension]", "study.sanity.size=40"),
        *("study.sanity.points=3", "study.sanity.repeats=2", "study.damage.samples=[20]", "study.damage.few=[10,20]"),
    ),
    "quickstart": ("study.correlate.resamples=5",),
    "replicate": (
        *(
            "n=null",
            f"study.replicate.folders=[{RESULTS / 'quickstart'}]",
            "study.replicate.signals=[judge_confidence]",
        ),
        "study.replicate.scores=[latent_density,negative_norm]",
    ),
    "sanity": (
        *("n=null", "study.sanity.metrics=[precision,coverage]", "study.sanity.checks=[scale of one dimension]"),
        *("study.sanity.size=40", "study.sanity.points=3", "study.sanity.repeats=2"),
    ),
    "shapes": (
        *("dataset=sdf_primitives", "dataset.sdf_primitives.train=60", "dataset.sdf_primitives.test=30", "n=30"),
        *("generator=sdf_vae,faulty", "extractor.points.count=32", "extractor.shaded.size=8"),
        *("study.correlate.resamples=5", "study.detect.resamples=5", "study.gallery.shown=1"),
        *(f"study.samples.{option}" for option in ("rows=1", "columns=3", "turning=1", "meshes=1")),
    ),
    "path_energy": (
        "n_real=500",
        *(f"study.interpolate.{option}" for option in ("pairs=4", "levels=2", "iterations=3", "starts=1")),
    ),
    "pseudo_density": (
        "n=200",
        "n_real=200",
        "extractor.efficientnet_lite.size=32",
        *(f"study.perturb.{option}" for option in ("count=20", "epochs=1", "epsilons=[0.1]", "gradients=[sign]")),
        *(f"study.tradeoff.{option}" for option in ("quantiles=[0.5]", "weights=[2]", "shares=[0.5]", "psis=[0.7]")),
        *(f"study.tradeoff.{option}" for option in ("thresholds=[1]", "rhos=[1]", "percentiles=[0.5]", "rates=[0.5]")),
        *(
            f"study.tradeoff.{option}"
            for option in ("lengths=[2]", "steps=[1]", "step_sizes=[0.1]", "nulls=1", "halves=4")
        ),
        *(f"study.fine_tune.{option}" for option in ("tunings=[control,fidelity]", "count=60", "halves=3", "curve=20")),
        *("study.fine_tune.trainers.stylegan2.epochs=1", "study.fine_tune.trainers.stylegan2.images=64"),
        *("study.fine_tune.trainers.latent_diffusion.epochs=1", "study.fine_tune.trainers.latent_diffusion.images=64"),
    ),
    **{
        f"pseudo_density_{name}": (
            "generator=vae",
            "features=classifier",
            "space=pixels",
            "study.tradeoff.judge_space=pixels",
            *(
                f"study.tradeoff.{option}"
                for option in ("keep=0.2", "quantiles=[0.5]", "weights=[2]", "nulls=1", "halves=4")
            ),
        )
        for name in ("stylegan3", "adm")
    },
    "path_energy_faces": ("generator=vae", "n_real=500", "study.interpolate.pairs=2", "study.interpolate.iterations=1"),
}
"""What keeps an experiment's studies small in the tests."""


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_runs_on_a_tiny_setting(assay: Shell, name: str) -> None:
    finished = assay("run", f"experiment={name}", *TINY, *SMALLER.get(name, ()), "out=experiments")
    assert finished.returncode == 0, finished.stderr
    assert f"page: experiments/{name}/report.html" in finished.stdout
    assert "published tables" in finished.stderr


def test_of_an_experiment_only_the_studies_that_are_chosen_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An experiment sets options of all its studies; those that the user leaves out stay out."""
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.chdir(tmp_path)
    for overrides, studies in (
        (["study=[tradeoff]"], ["tradeoff"]),
        (["study=[]"], []),
        ([], ["fine_tune", "perturb", "tradeoff"]),
    ):
        found: list[dict[str, Any]] = []
        run_jobs("evaluate", ["experiment=pseudo_density", *overrides], found.append)
        assert len(found) == 3, "one for each generator"
        assert all(sorted(config["study"]) == studies for config in found)


@pytest.mark.parametrize("name", ["stylegan3", "adm"])
def test_what_published_checkpoints_are_for_says_which_file_it_needs(assay: Shell, name: str) -> None:
    without = assay("run", f"experiment=pseudo_density_{name}", "out=checkpoints")
    assert without.returncode == 2
    assert "give dataset.folder.root=DIRECTORY" in without.stderr
    assert is_one_line(without.stderr)
    alone = assay("run", f"experiment=pseudo_density_{name}", "dataset=digits", "out=checkpoints")
    assert f"give generator.{name}.path=FILE" in alone.stderr
    assert is_one_line(alone.stderr)
