"""Fine-tuning by importance: what is drawn and accepted, that weights of 1 change nothing, and what others change."""

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.generators import stylegan2_training
from assay.generators.latent_diffusion import SIGNAL, LatentDiffusionNetwork, train_latent_diffusion
from assay.generators.networks import ddim
from assay.generators.networks.seeds import normal
from assay.generators.sampling.selection import acceptance_rate, high_share
from assay.generators.stylegan2 import StyleGAN2, stylegan2
from assay.generators.stylegan2_training import train_stylegan2
from assay.generators.vae import VAENetwork
from assay.harness import cli
from assay.harness import train as module
from assay.harness.arrays.subsets import Subset
from assay.harness.command import overrides
from assay.harness.command.hydra_jobs import run_jobs
from assay.harness.core.discovery import PLUGINS
from assay.harness.core.files import sha256_of
from assay.harness.core.protocols import Dataset, Samples
from assay.harness.core.registry import DATASETS, EXTRACTORS, discover
from assay.harness.formats.weights import ZOO, read_weights, write_weights
from assay.harness.studies.fine_tune.importance import by_pseudo_density
from assay.harness.train import Importance, Measure, train
from assay.metrics.neighbours import precision, recall
from assay.metrics.pseudo_density import pseudo_density, reference_density

discover()
CPU = torch.device("cpu")
START = {"stylegan2": {"start": "zoo", "epochs": 2}, "latent_diffusion": {"start": "zoo", "epochs": 2, "batch": 100}}
PLAIN = {"weight_real": 1, "weight_fake": None, "tau": 0.5, "space": "classifier", "k": 10, "network": 0}


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return DATASETS["digits"].function()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def weigh(digits: Dataset) -> Callable[..., Callable[[bool], Importance | None]]:
    return lambda **options: partial(by_pseudo_density, digits, CPU, **PLAIN | options)


@pytest.fixture(scope="module")
def features(digits: Dataset) -> Tensor:
    extract = EXTRACTORS["classifier"].function("digits")
    return extract(digits.take("train", 0, digits.count("train")).images.float() / 255)  # type: ignore[no-any-return]


def given(importance: Importance | None) -> Importance:
    assert importance is not None
    return importance


# What is seen more often


def test_weights_follow_the_density_of_each_image_left_out(weigh: Any, features: Tensor) -> None:
    """Against the definition in float64, a loop over images: w above the quantile, 1 at and below it."""
    found = given(weigh(weight_real=7, tau=0.8, k=5)(False))
    x = features.double()
    distances = torch.stack([torch.cat([(x[i] - x[:i]).norm(dim=1), (x[i] - x[i + 1 :]).norm(dim=1)]).sort().values
                             for i in range(len(x))])  # fmt: skip
    rho = 1 / distances[:, :5].mean(1)
    rho = rho / rho.mean()
    threshold = float(rho.quantile(0.8))
    assert found.found["threshold"] == pytest.approx(threshold, rel=1e-5)
    sure = (rho - threshold).abs() > 1e-4  # float32 distances may settle the others either way
    assert torch.equal(found.weights[sure], torch.where(rho > threshold, 7.0, 1.0).float()[sure])
    assert found.accept is None
    assert found.found["weight_fake"] == 1


def test_images_are_drawn_by_their_weights(weigh: Any) -> None:
    """20,000 draws: the count of heavy images within 5 standard deviations of a binomial, false alarm 6 in 10^7."""
    for weight in (33, 0.03):
        found = given(weigh(weight_real=weight, tau=0.8)(False))
        torch.manual_seed(0)
        rows = module._rows(len(found.weights), 20_000, found)()
        high = found.weights == weight
        share = high_share(1 - float(high.double().mean()), weight)
        heavy = high[rows].sum().item()
        assert abs(heavy - 20_000 * share) < 5 * (20_000 * share * (1 - share)) ** 0.5
        assert len(rows.unique()) < len(rows)


@pytest.mark.parametrize("network", [0, 2])
def test_generated_images_are_accepted_as_algorithm_2_says(
    network: int, weigh: Any, features: Tensor, digits: Dataset
) -> None:
    """Of 1,438 real images shown as generated ones, shares within 5 standard deviations: false alarm 2 in 10^6."""
    images = digits.take("train", 0, digits.count("train")).images.float() / 255
    for weight in (20, 0.05):
        found = given(weigh(weight_real=1 / weight, tau=0.5, network=network)(True))
        assert found.accept is not None
        assert found.found["weight_fake"] == pytest.approx(weight)
        assert ("held_out_error" in found.found) == bool(network)
        torch.manual_seed(0)
        accepted = found.accept(images)
        if network:
            assert found.found["held_out_error"] < reference_density(features).density.var()
            continue  # what it predicts is its own affair; the exact density can be told again here
        high = pseudo_density(features, features) > found.found["threshold"]
        low = 1 - float(high.double().mean())
        rate = acceptance_rate(low, weight)
        assert abs(float(accepted.double().mean()) - rate) < 5 * (rate * (1 - rate) / len(images)) ** 0.5
        share = high_share(low, weight)
        among = high[accepted].double()
        assert abs(float(among.mean()) - share) < 5 * (share * (1 - share) / len(among)) ** 0.5


def test_both_networks_learn_from_accepted_samples_alone(digits: Dataset) -> None:
    """Latents of samples over a brightness are w times as frequent: of 2,000, within 5 standard deviations."""
    training = train_stylegan2(digits, 0, start="zoo")
    torch.manual_seed(0)
    with torch.no_grad():
        prior = training._cropped(training.live(torch.randn(2000, training.z_dim))).mean((1, 2, 3))
    threshold = float(prior.quantile(0.7))
    training.accept = lambda images: (images.mean((1, 2, 3)) > threshold) | (torch.rand(len(images)) < 0.1)
    z = training._latents(2000, CPU)
    assert z.shape == (2000, training.z_dim)
    assert training.tried == pytest.approx(2000 / acceptance_rate(0.7, 10), rel=0.1)
    with torch.no_grad():
        high = float((training._cropped(training.live(z)).mean((1, 2, 3)) > threshold).double().mean())
    expected = high_share(0.7, 10)
    assert abs(high - expected) < 5 * (2 * expected * (1 - expected) / 2000) ** 0.5  # the threshold is estimated too
    tried: list[int] = []
    training.accept = lambda images: (tried.append(len(images)), torch.rand(len(images)) < 0.5)[1]  # type: ignore[func-returns-value]
    (losses,) = training.epoch(iter([(digits.take("train", 0, 16).images.float() / 255, None)]))
    assert losses["tried_for_one"] == sum(tried) / 32


def test_a_choice_that_accepts_nothing_is_told(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stylegan2_training, "MAX_TRIED", 10)
    training = train_stylegan2(digits, 0, start="zoo")
    training.accept = lambda images: torch.zeros(len(images), dtype=torch.bool)
    with pytest.raises(ValueError, match=r"only 0 of \d+ generated samples were accepted: choose milder weights"):
        training._latents(4, CPU)


# Training with it


def card_of(weights: Path) -> dict[str, Any]:
    """What a training says of itself, without the time that it took."""
    card: dict[str, Any] = json.loads(weights.with_suffix(".json").read_text())
    assert card.pop("cpu_seconds") > 0
    return card


@pytest.mark.parametrize("family", START)
def test_weights_of_1_change_nothing(family: str, digits: Dataset, weigh: Any, tmp_path: Path) -> None:
    """Bit for bit: weights; and the card with its command, but for the time."""
    plain = train(family, START[family], digits, 0, tmp_path / "a", CPU, images=100)
    same = train(family, START[family], digits, 0, tmp_path / "b", CPU, images=100, weigh=weigh(weight_real=1))
    other = train(family, START[family], digits, 0, tmp_path / "c", CPU, images=100, weigh=weigh(weight_real=5))
    assert same.read_bytes() == plain.read_bytes() != other.read_bytes()
    assert card_of(same) == card_of(plain)


def test_without_a_start_or_weights_the_epoch_is_that_of_all_images(digits: Dataset, tmp_path: Path) -> None:
    options = {"epochs": 1, "width": 8, "depth": 1}
    whole = train("latent_diffusion", options, digits, 0, tmp_path / "a", CPU)
    count = digits.count("train")
    named = train("latent_diffusion", options, digits, 0, tmp_path / "b", CPU, images=count)
    assert named.read_bytes() == whole.read_bytes()


def test_a_finished_training_is_not_done_again(
    digits: Dataset, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = train("latent_diffusion", START["latent_diffusion"], digits, 0, tmp_path, CPU, images=100)
    content, card = path.read_bytes(), path.with_suffix(".json")
    made = path.stat().st_mtime_ns
    assert train("latent_diffusion", START["latent_diffusion"], digits, 0, tmp_path, CPU, images=100) == path
    assert "is there already, made by the same training; to make it again, delete it" in capfd.readouterr().err
    assert path.stat().st_mtime_ns == made
    path.write_bytes(content[:-1])
    train("latent_diffusion", START["latent_diffusion"], digits, 0, tmp_path, CPU, images=100)
    assert path.read_bytes() == content, "damaged weights are made again"
    with pytest.raises(ValueError, match="belongs to a training with other settings or another seed"):
        train("latent_diffusion", START["latent_diffusion"], digits, 1, tmp_path, CPU, images=100)
    train("latent_diffusion", START["latent_diffusion"], digits, 1, tmp_path, CPU, images=100, replacing=True)
    assert path.read_bytes() != content, "another seed is another training"
    card.unlink()
    train("latent_diffusion", START["latent_diffusion"], digits, 0, tmp_path, CPU, images=100)
    assert path.read_bytes() == content
    assert card.is_file()


class Killed(BaseException):
    pass


@pytest.mark.parametrize("family", START)
def test_a_killed_tuning_goes_on_to_the_same_weights(
    family: str, digits: Dataset, weigh: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: str) -> Path:
        measure = Measure(["frechet_distance", "recall"], ["pixels"], 20)
        chosen = weigh(weight_real=5, network=1)
        return train(family, START[family], digits, 0, tmp_path / out, CPU, None, "five", 100, True, chosen, measure)

    undisturbed = run("a")
    save = module._save

    def save_and_die(*given: Any) -> None:
        save(*given)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module, "_save", save_and_die)
        with pytest.raises(Killed):
            run("b")
    resumed = run("b")
    assert undisturbed.name == f"{family}-digits-five.safetensors"
    assert resumed.read_bytes() == undisturbed.read_bytes()
    card = card_of(resumed)
    assert card == card_of(undisturbed)
    zoo = ZOO["generator"] / f"{family}-digits.safetensors"
    assert card["start"] == {"file": zoo.name, "sha256": sha256_of(zoo)}
    assert f"trainer.{family}.start=zoo" in card["command"]
    assert "images=100 importance.weight_real=5 importance.weight_fake=" in card["command"]
    assert card["importance"]["weight_fake"] == (0.2 if family == "stylegan2" else 1)
    assert [entry["images"] for entry in card["measured"]] == [0, 100, 200]
    assert set(card["measured"][0]) == {"images", "frechet_distance in pixels", "recall in pixels"}
    snapshots = sorted(undisturbed.with_suffix(".snapshots").glob("*.safetensors"))
    assert [path.stem.rpartition("-")[2] for path in snapshots] == ["0000100", "0000200"]
    assert snapshots[-1].read_bytes() == undisturbed.read_bytes() != snapshots[0].read_bytes()
    first = json.loads(snapshots[0].with_suffix(".json").read_text())
    assert first["measured"] == card["measured"][:2]


def test_tuning_starts_from_the_weights(digits: Dataset) -> None:
    """Both generators from the averaged one of the file, the discriminator from its own; architecture from the file."""
    training = train_stylegan2(digits, 0, z_dim=7, start="zoo")
    file = read_weights(ZOO["generator"] / "stylegan2-digits.safetensors", "stylegan2")
    assert training.architecture == file.architecture
    for name, tensor in file.tensors.items():
        part, _, rest = name.partition(".")
        assert torch.equal(training.network.state_dict()[name], tensor)
        assert part == "D" or torch.equal(training.live.state_dict()[rest], tensor)
    zoo = stylegan2("digits")
    assert isinstance(zoo, StyleGAN2)
    for network in (training.network, zoo.network):  # the rounding of float32 depends on the processor
        network.double()
    shown = zoo.decode(normal(range(3), training.z_dim).double(), "z").clamp(0, 1)
    torch.testing.assert_close(training.pictures(3), shown, atol=1e-12, rtol=0)
    diffusion = train_latent_diffusion(digits, 0, width=7, start="zoo")
    known = read_weights(ZOO["generator"] / "latent_diffusion-digits.safetensors", "latent_diffusion")
    assert diffusion.architecture == known.architecture
    assert all(torch.equal(diffusion.network.state_dict()[name], tensor) for name, tensor in known.tensors.items())
    assert all(map(torch.equal, diffusion.online.parameters(), diffusion.network.denoiser.parameters()))


def test_what_is_measured_before_training_is_the_start_itself(digits: Dataset) -> None:
    training = train_stylegan2(digits, 0, start="zoo")
    measured = module._measured(training, digits, 0, CPU, Measure(["recall"], ["pixels", "classifier"], 100))
    zoo = stylegan2("digits")
    images = (zoo.decode(normal(range(100), training.z_dim), "z").clamp(0, 1) * 255).round() / 255
    whole = digits.take("train", 0, digits.count("train")).images
    real = whole[Subset("real", len(whole), 100, 0).numbers].float() / 255
    expected = recall(images.flatten(1), real.flatten(1))
    assert measured["recall in pixels"] == pytest.approx(float(expected), abs=0.011)  # one sample may tip
    assert set(measured) == {"recall in pixels", "recall in classifier"}


def test_wrong_calls(digits: Dataset, weigh: Any, tmp_path: Path) -> None:
    for options, message in (
        ({"weight_real": 0}, r"importance\.weight_real=0 must be positive"),
        ({"weight_real": 5, "weight_fake": float("inf")}, r"importance\.weight_fake=inf must be positive and finite"),
        ({"weight_real": 5, "tau": 1}, r"importance\.tau=1 must be a quantile between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            weigh(**options)(True)
    with pytest.raises(ValueError, match=r"weight_fake=2: this training does not learn from samples of its own"):
        weigh(weight_real=5, weight_fake=2)(False)
    for images in (0, 1439):
        with pytest.raises(ValueError, match=rf"images={images} must be between 1 and 1438"):
            train("vae", {}, digits, 0, tmp_path, CPU, images=images)
    with pytest.raises(ValueError, match=r"measure\.metrics: this training makes no samples"):
        train("classifier", {}, digits, 0, tmp_path, CPU, measure=Measure(["recall"]))
    other = ZOO["generator"] / "stylegan2-fashion_mnist.safetensors"
    with pytest.raises(ValueError, match=r"its images have 1 channels and 28 pixels per side, those of digits 1 and 8"):
        train_stylegan2(digits, 0, start=str(other))
    with pytest.raises(LookupError, match=r"no weights of 'stylegan2' for data set 'digits': .*absent"):
        train_stylegan2(digits, 0, start="absent.safetensors")


# What it does to a model


class Ring:
    """Stands in for a data set where the codes are given directly."""

    name, fingerprint = "ring", "ring"
    classes: Sequence[str] = ()

    def count(self, split: Any) -> int:
        return 4

    def take(self, split: Any, start: int, stop: int) -> Samples:
        return Samples(torch.zeros(stop - start, 1, 8, 8, dtype=torch.uint8), None)


def ring(count: int, seed: int) -> Tensor:
    """Eight modes on a circle: of every two neighbours one is dense and one is wide and less frequent."""
    rng = np.random.default_rng(seed)
    mode = rng.choice(8, count, p=[0.15, 0.1] * 4)
    angle, deviation = mode * np.pi / 4, np.where(mode % 2, 0.35, 0.05)[:, None]
    centre = 1.4 * np.stack([np.cos(angle), np.sin(angle)], 1)
    return torch.from_numpy(centre + deviation * rng.standard_normal((count, 2))).float()


def test_weights_over_1_raise_precision_and_under_1_raise_recall(tmp_path: Path) -> None:
    """A diffusion of eight modes in the plane, against plain further training of equal length from the same weights.

    200 samples, 2,000 reals: standard errors are 0.02 for precision and at most 0.02 for recall.
    """
    vae = tmp_path / "vae.safetensors"
    shape = {"channels": 1, "size": 8, "latent_dim": 2}
    write_weights(vae, VAENetwork(**shape).state_dict(), {"family": "vae", **shape}, {})
    codes, test, batch = ring(4000, 0), ring(2000, 1), 256
    rho = reference_density(codes).density

    def tuned(start: LatentDiffusionNetwork | None, weight: float, steps: int) -> LatentDiffusionNetwork:
        training = train_latent_diffusion(Ring(), 0, str(vae), 48, 2, epochs=1, batch=batch, lr=2e-3, ema=0.98)
        training.codes, training.deviation = codes, torch.zeros_like(codes)
        training.network.mean.zero_()
        training.network.scale.copy_(codes.std(0))
        if start:
            training.network.load_state_dict(start.state_dict())
            training.online.load_state_dict(start.denoiser.state_dict())
        weights = torch.where(rho > rho.quantile(0.5), weight, 1.0).float()
        training.rows = module._rows(len(codes), steps * batch, Importance(weights, None, [], {}))
        torch.manual_seed(0)
        list(training.epoch(iter([(torch.zeros(batch, 1), None)] * steps)))
        return training.network

    def judged(network: LatentDiffusionNetwork) -> tuple[float, float]:
        noise = torch.randn(200, 2, generator=torch.Generator().manual_seed(9))
        samples = network.sample(noise, ddim.respaced(SIGNAL, 25))
        return float(precision(samples, test, k=3)), float(recall(samples, test, k=3))

    first = tuned(None, 1, 500)
    plain, dense = tuned(first, 1, 300), tuned(first, 33, 300)
    assert judged(dense)[0] > judged(plain)[0] + 0.02
    assert judged(dense)[1] < judged(plain)[1] - 0.1
    # A model that has lost rare images finds them again sooner when these weigh more.
    again, wide = tuned(dense, 1, 60), tuned(dense, 0.03, 60)
    assert judged(wide)[1] > judged(again)[1] + 0.015


# The configs


@pytest.mark.parametrize("name", sorted(path.stem for path in (overrides.CONFIGS / "tuning").glob("*.yaml")))
def test_every_tuning_composes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(sys, "argv", [])
    run_jobs("train", ["trainer=stylegan2", "trainer.stylegan2.start=zoo", f"tuning={name}"], found.append)
    (config,) = found
    assert config["name"] == name
    assert config["snapshots"]
    assert config["measure"]["metrics"] == ["frechet_distance", "precision", "recall"]
    weights = {"control": (1, None), "fidelity": (33, None), "diversity": (0.03, None), "best_fid": (0.5, 1)}
    assert (config["importance"]["weight_real"], config["importance"]["weight_fake"]) == weights[name]
    assert config["importance"]["tau"] == {"fidelity": 0.8, "diversity": 0.2}.get(name, 0.5)


def test_a_wrong_tuning_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])
    with pytest.raises(LookupError, match="unknown tuning 'fidelty'; did you mean fidelity"):
        run_jobs("train", ["tuning=fidelty"], lambda plain: None)


def test_tuning_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The names are those of the files; what was made opens as a generator."""
    sizes = ("images=64", "generator.epochs=1", "measure.n=20", "importance.network=1", "device=cpu")
    command = ["assay", "train", "generator=stylegan2", "generator.start=zoo", "dataset=digits", "tuning=fidelity"]
    monkeypatch.setattr(sys, "argv", [*command, *sizes, f"out={tmp_path}"])
    monkeypatch.setenv(PLUGINS, "")
    with pytest.raises(SystemExit) as finished:
        cli.main()
    assert finished.value.code == 0, capsys.readouterr().err
    path = tmp_path / "stylegan2-digits-fidelity.safetensors"
    snapshot = path.with_suffix(".snapshots") / "stylegan2-digits-fidelity-0000064.safetensors"
    for file in (path, snapshot):
        opened = stylegan2("digits", str(file))
        assert opened.decode(opened.latents([0], "z"), "z").shape == (1, 1, 8, 8)
    importance = json.loads(path.with_suffix(".json").read_text())["importance"]
    assert (importance["weight_real"], importance["tau"], importance["network"]) == (33, 0.8, 1)
