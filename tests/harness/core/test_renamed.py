"""Names of the first release are read as those of today, and each is told once."""

import pytest

from assay.harness.core.renamed import renamed

PAIRS = {
    "through=pixels": "space=pixels",
    "reals=100": "n_real=100",
    "sets=[precision]": "set_metrics=[precision]",
    "signals=[judge_entropy]": "quality_signals=[judge_entropy]",
    "given.norm=negative_norm": "covariates.norm=negative_norm",
    "~given.norm": "~covariates.norm",
    "task=[edit,groups]": "study=[edit,groups]",
    "+task.groups.share=0.1": "+study.groups.share=0.1",
    "task.perturb.through=judge": "study.perturb.judge_space=judge",
    "study.tradeoff.through=judge": "study.tradeoff.judge_space=judge",
    "task.interpolate.rate=0.1": "study.interpolate.lr=0.1",
    "task.fine_tune.trainers.stylegan2.most=16": "study.fine_tune.trainers.stylegan2.max_channels=16",
    "trainer.vae.rate=1e-3": "trainer.vae.lr=1e-3",
    "trainer.most=16": "trainer.max_channels=16",
    "generator.conditional_vae.rate=1e-3": "generator.conditional_vae.lr=1e-3",
    "importance.through=pixels": "importance.space=pixels",
    "measure.through=[pixels]": "measure.spaces=[pixels]",
    "extractor.shaded.through=judge": "extractor.shaded.extractor=judge",
    "generator=autoencoder_kl": "generator=autoencoder",
    "generator=[vae,autoencoder_kl]": "generator=[vae,autoencoder]",
    "generator.autoencoder_kl.path=FOLDER": "generator.autoencoder.path=FOLDER",
    "metric=ink": "metric=mean_intensity",
    "metric=[ink,precision]": "metric=[mean_intensity,precision]",
    "metric.ink.k=1": "metric.mean_intensity.k=1",
    "scores=[{metric: latent_density, through: recoded}]": "scores=[{metric: latent_density, space: reencoded}]",
    "given={complexity: [ink]}": "covariates={complexity: [mean_intensity]}",
}
UNTOUCHED = (
    "-m",
    "study.tradeoff.rates=[0.5]",
    "study.tradeoff.space=w",
    "study.few_shot.path=through/ink.npz",
    "generator.replay.path=ink",
    "generator.autoencoder.path=autoencoder_kl",
    "generator=through",
    "name=through",
    "dataset.folder.root=/sets/ink",
    "metric=[ink_saturation]",
    "generator.faulty.through=1",
)


@pytest.mark.parametrize("old", PAIRS)
def test_an_old_name_is_read_as_the_new_one_and_told(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert renamed([old]) == [PAIRS[old]]
    assert "the old name still works" in capsys.readouterr().err


def test_names_of_today_and_what_only_looks_like_an_old_one_stay(capsys: pytest.CaptureFixture[str]) -> None:
    for override in (*PAIRS.values(), *UNTOUCHED):
        assert renamed([override]) == [override]
    assert capsys.readouterr().err == ""


def test_each_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    renamed(["task=[edit,groups]", "task.edit.count=3", "task.groups.share=0.1", "reals=100"])
    assert capsys.readouterr().err.splitlines() == [
        "task is called study now; the old name still works",
        "reals is called n_real now; the old name still works",
    ]
