"""Training: killed and resumed it ends with the same weights; what it leaves behind says how it was made."""

import copy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay.generators.vae import VAE, VAENetwork
from assay.harness import train as module
from assay.harness.core.abilities import Encoder
from assay.harness.core.files import sha256_of
from assay.harness.core.protocols import Dataset, Generator
from assay.harness.core.registry import DATASETS, GENERATORS, discover
from assay.harness.formats.weights import RENAMED, ZOO, find_weights, read_weights
from assay.harness.train import train

discover()
CPU = torch.device("cpu")
EPOCHS = 3
FAMILIES = ("vae", "classifier", "judge", "stylegan2")


class Small:
    """The first 200 training and 50 test images of another data set."""

    def __init__(self, whole: Dataset):
        self.whole, self.classes, self.name, self.fingerprint = whole, whole.classes, "small", whole.fingerprint

    def count(self, split: Any) -> int:
        return {"train": 200, "test": 50}[split]

    def take(self, split: Any, start: int, stop: int) -> Any:
        return self.whole.take(split, start, stop)


@pytest.fixture(scope="module")
def data() -> Small:
    return Small(DATASETS["digits"].function())


def run(family: str, data: Dataset, out: Path, seed: int = 0, epochs: int = EPOCHS) -> Path:
    return train(family, {"epochs": epochs, "batch": 64}, data, seed, out, CPU)


def card_without_cost(path: Path) -> dict[str, Any]:
    card: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    assert card.pop("cpu_seconds") > 0
    return card


class Killed(BaseException):
    pass


def killed(*arguments: object) -> None:
    raise Killed


@contextmanager
def killed_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process dies right after the checkpoint of this epoch."""
    save = module._save

    def save_and_die(checkpoint: Path, training: Any, settings: str, history: list[Any], spent: float) -> None:
        save(checkpoint, training, settings, history, spent)
        if len(history) == epochs:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module, "_save", save_and_die)
        with pytest.raises(Killed):
            yield


@pytest.mark.parametrize("family", FAMILIES)
def test_a_killed_training_goes_on_to_the_same_weights(
    family: str, data: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = run(family, data, tmp_path / "a")
    for epoch in (1, EPOCHS):
        with killed_after(epoch, monkeypatch):
            run(family, data, tmp_path / "b")
    resumed = run(family, data, tmp_path / "b")
    assert "resuming after epoch 1 of 3" in capsys.readouterr().err
    assert resumed.read_bytes() == undisturbed.read_bytes()
    assert card_without_cost(resumed) == card_without_cost(undisturbed)
    assert not list((tmp_path / "b").glob("*.checkpoint.pt"))


def test_the_card_tells_the_cpu_seconds_of_all_sittings(
    data: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that goes on by 100 s at every look: at the begin and once an epoch, then at the end."""
    ticks = iter(range(0, 10_000, 100))
    monkeypatch.setattr(module.time, "process_time", lambda: float(next(ticks)))
    with killed_after(1, monkeypatch):
        run("vae", data, tmp_path / "killed", epochs=2)
    killed = json.loads(run("vae", data, tmp_path / "killed", epochs=2).with_suffix(".json").read_text())
    whole = json.loads(run("vae", data, tmp_path / "whole", epochs=2).with_suffix(".json").read_text())
    assert (killed["cpu_seconds"], whole["cpu_seconds"]) == (300, 300), "100 before the kill, 200 after it"
    assert killed["settings"] == whole["settings"]


def test_where_an_older_checkpoint_does_not_tell_its_cost_neither_does_the_card(
    data: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_after(1, monkeypatch):
        run("vae", data, tmp_path)
    checkpoint = tmp_path / "vae-small.checkpoint.pt"
    saved = torch.load(checkpoint, weights_only=True)
    del saved["cpu_seconds"]
    torch.save(saved, checkpoint)
    assert "cpu_seconds" not in json.loads(run("vae", data, tmp_path).with_suffix(".json").read_text())


def test_another_seed_gives_other_weights(data: Small, tmp_path: Path) -> None:
    one, two = (run("vae", data, tmp_path / str(seed), seed, epochs=1) for seed in (0, 1))
    assert one.read_bytes() != two.read_bytes()


def test_a_checkpoint_of_other_settings_is_refused_with_the_fix(
    data: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with killed_after(1, monkeypatch):
        run("vae", data, tmp_path)
    for change in ({"seed": 1}, {"epochs": 4}):
        with pytest.raises(ValueError, match=r"other settings or another seed; choose another folder with out=DIR"):
            run("vae", data, tmp_path, **change)
    run("vae", data, tmp_path)


def test_finished_weights_of_another_training_stay_unless_they_are_to_be_replaced(data: Small, tmp_path: Path) -> None:
    before = run("vae", data, tmp_path, epochs=1).read_bytes()
    with pytest.raises(ValueError, match=r"vae-small\.json belongs to .* another seed; .* name='seed\$\{seed\}'"):
        run("vae", data, tmp_path, 1, epochs=1)
    assert (tmp_path / "vae-small.safetensors").read_bytes() == before
    path = train("vae", {"epochs": 1, "batch": 64}, data, 1, tmp_path, CPU, replacing=True)
    assert path.read_bytes() != before
    assert run("vae", data, tmp_path, 1, epochs=1) == path


@pytest.mark.parametrize("card", ["", "{", "[]", "\x00"])
def test_a_damaged_card_is_named_and_healed(
    data: Small, tmp_path: Path, card: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run("vae", data, tmp_path, epochs=1)
    weights, whole = path.read_bytes(), json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(card)
    run("vae", data, tmp_path, epochs=1)
    assert f"{path.with_suffix('.json')} is damaged" in capsys.readouterr().err
    assert path.read_bytes() == weights
    healed = json.loads(path.with_suffix(".json").read_text())
    assert healed | {"cpu_seconds": 0} == whole | {"cpu_seconds": 0}, "all but the time is as before"


def test_two_seeds_at_once_cannot_share_a_place(data: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins when the first has not yet written anything but its card."""
    with monkeypatch.context() as patched:
        patched.setattr(module, "_resume", killed)
        with pytest.raises(Killed):
            run("vae", data, tmp_path, 0)
    with pytest.raises(ValueError, match="another seed"):
        run("vae", data, tmp_path, 1)


def test_a_damaged_checkpoint_is_told_in_one_line(data: Small, tmp_path: Path) -> None:
    (tmp_path / "vae-small.checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        run("vae", data, tmp_path)


def test_the_card_says_how_the_weights_were_made(data: Small, tmp_path: Path) -> None:
    card = json.loads(run("vae", data, tmp_path, seed=5, epochs=2).with_suffix(".json").read_text())
    assert card["command"].startswith("assay train trainer=vae dataset=small seed=5")
    assert "trainer.vae.epochs=2" in card["command"]
    assert card["seed"] == 5
    assert card["data"] == {"name": "small", "fingerprint": data.fingerprint, "images": 200}
    assert [set(losses) for losses in card["losses"]] == [{"reconstruction", "kl"}] * 2
    assert set(card["test"]) == {"reconstruction", "kl", "collapsed_dimensions"}
    assert {"python", "torch"} <= set(card["versions"])
    assert card["parameters"] == sum(p.numel() for p in VAENetwork(1, 8, 16).parameters())


def test_training_learns(data: Small, tmp_path: Path) -> None:
    losses = json.loads(run("vae", data, tmp_path, epochs=8).with_suffix(".json").read_text())["losses"]
    totals = [sum(loss.values()) for loss in losses]
    assert totals[-1] < 0.95 * totals[0]


KINDS = {"classifier": "extractor", "judge": "extractor"}


def in_the_zoo() -> list[Path]:
    """Weights whose training is finished."""
    return [
        path
        for path in sorted(path for zoo in ZOO.values() for path in zoo.glob("*.safetensors"))
        if not path.with_suffix(".checkpoint.pt").exists()
    ]


@pytest.mark.parametrize("path", in_the_zoo(), ids=lambda path: path.stem)
def test_the_zoo(path: Path) -> None:
    family, _, dataset = path.stem.partition("-")
    weights = read_weights(path, family)
    card = json.loads(path.with_suffix(".json").read_text())
    assert find_weights(KINDS.get(family, "generator"), family, dataset) == path
    assert weights.sha256 == sha256_of(path)
    assert {RENAMED.get(key, key): value for key, value in card["architecture"].items()} == weights.architecture
    assert card["data"]["name"] == dataset
    assert len(card["data"]["fingerprint"]) == 64
    assert f"trainer={family} dataset={dataset} " in card["command"]
    assert f" seed={card['seed']} " in card["command"]
    assert len(card["losses"]) == int(card["command"].split(".epochs=")[1].split()[0])
    assert all(np.isfinite(list(losses.values())).all() for losses in card["losses"])
    assert {"python", "torch"} <= set(card["versions"])
    assert path.stat().st_size < 8 * 2**20


@pytest.mark.parametrize("family", FAMILIES)
def test_the_zoo_has_what_the_digits_need(family: str) -> None:
    assert find_weights(KINDS.get(family, "generator"), family, "digits").is_file()


def test_missing_weights_name_the_command_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match=r"assay train \S+=vae dataset=moons"):
        GENERATORS["vae"].function("moons")
    with pytest.raises(LookupError, match=r"absent\.safetensors does not exist"):
        GENERATORS["vae"].function("digits", path=str(tmp_path / "absent.safetensors"))


def test_weights_of_another_family_and_damaged_ones_are_refused(data: Small, tmp_path: Path) -> None:
    path = run("classifier", data, tmp_path, epochs=1)
    with pytest.raises(ValueError, match="holds weights of 'classifier', not of 'vae'"):
        GENERATORS["vae"].function("digits", path=str(path))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        GENERATORS["vae"].function("digits", path=str(path))


@pytest.fixture(scope="module")
def vae(data: Small, tmp_path_factory: pytest.TempPathFactory) -> VAE:
    path = run("vae", data, tmp_path_factory.mktemp("vae"), epochs=2)
    model: VAE = GENERATORS["vae"].function("small", path=str(path))
    return model


def test_the_vae_is_a_generator_with_an_encoder(vae: VAE) -> None:
    assert isinstance(vae, Generator)
    assert isinstance(vae, Encoder)


def test_a_latent_depends_on_its_own_seed_alone(vae: VAE) -> None:
    together = vae.latents([0, 1, 2, 3])
    assert torch.equal(together, torch.cat([vae.latents([0, 1]), vae.latents([2, 3])]))
    assert torch.equal(together[[3, 1]], vae.latents([3, 1]))
    assert len(torch.unique(together)) == together.numel()


def test_latents_follow_the_prior_of_the_temperature(data: Small, tmp_path: Path) -> None:
    """32,000 normal numbers: their standard deviation leaves T ± 2 % once in 3 million seeds; the seeds are fixed."""
    path = str(run("vae", data, tmp_path, epochs=1))
    for temperature in (0.0, 0.7, 1.0):
        z = GENERATORS["vae"].function("small", path=path, temperature=temperature).latents(range(2000), "z")
        assert float(z.std()) == pytest.approx(temperature, rel=0.02)
    with pytest.raises(ValueError, match="temperature=-1"):
        GENERATORS["vae"].function("small", path=path, temperature=-1)


def test_another_temperature_or_other_weights_are_another_generator(data: Small, tmp_path: Path) -> None:
    paths = [str(run("vae", data, tmp_path / str(seed), seed, epochs=1)) for seed in (0, 1)]
    made = [GENERATORS["vae"].function("small", path=path, temperature=t) for path in paths for t in (0.7, 1.0)]
    assert len({model.fingerprint for model in made}) == 4
    again = GENERATORS["vae"].function("small", path=paths[0], temperature=0.7)
    assert again.fingerprint == made[0].fingerprint


def test_images_are_differentiable_in_the_latent(vae: VAE) -> None:
    z = vae.latents(range(4)).requires_grad_()
    images = vae.decode(z)
    assert images.shape == (4, 1, 8, 8)
    (slope,) = torch.autograd.grad(images[0].sum(), z)
    assert float(slope[0].abs().max()) > 0
    assert float(slope[1:].abs().max()) == 0, "image i depends on latent i alone"
    exact = VAE(copy.deepcopy(vae.network).double(), 16, 1.0, "float64")
    assert torch.autograd.gradcheck(lambda z: exact.decode(z, "z"), vae.latents([7]).double().requires_grad_())


def test_decoding_does_not_clamp(vae: VAE) -> None:
    """Far out the slope must not be exactly 0, as a clamp would make it."""
    images = vae.decode(3 * vae.latents(range(200)))
    assert float(images.min()) > 0
    assert float(images.max()) < 1
    assert len(torch.unique(images)) > 256, "nor is it rounded to 8 bits"


def test_the_three_encodings(vae: VAE, data: Small) -> None:
    images = data.take("train", 0, 50).images.float() / 255
    mean, logvar = vae.encode(images, "mean"), vae.encode(images, "logvar")
    sample = vae.encode(images, "sample", range(50))
    noise = torch.from_numpy(np.stack([np.random.default_rng(seed).standard_normal(16) for seed in range(50)])).float()
    assert mean.shape == logvar.shape == sample.shape == (50, 16)
    torch.testing.assert_close(sample, mean + torch.exp(logvar / 2) * noise)
    parts = torch.cat([vae.encode(images[:20], "sample", range(20)), vae.encode(images[20:], "sample", range(20, 50))])
    torch.testing.assert_close(sample, parts)
    assert not torch.allclose(sample, vae.encode(images, "sample", range(50, 100)), atol=0.1)
