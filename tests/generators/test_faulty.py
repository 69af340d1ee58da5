"""Samples with known faults, and held-out samples with codes, in a generator's place."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from assay.datasets.parts.sdf_shapes import STATES, make_shape
from assay.datasets.parts.sdf_styles import CATEGORIES, STYLES
from assay.datasets.sdf_primitives import SDFPrimitives, sdf_primitives
from assay.generators import faulty as module
from assay.generators.faulty import OFF_DATA, STEP, Broken, Corrupted, Faulty, faulty
from assay.generators.held_out import FIRST, Encoded, held_out
from assay.harness.core.abilities import Encoder, HasGroundTruth
from assay.harness.core.protocols import Samples
from assay.harness.core.registry import DATASETS, GENERATORS, discover

discover()


class Identity:
    """A generator whose codes are the samples themselves."""

    fingerprint, spaces = "identity", ("z",)

    def latents(self, seeds: list[int], space: str) -> torch.Tensor:
        raise AssertionError("nobody asks for draws of the model")

    def decode(self, latents: torch.Tensor, space: str) -> torch.Tensor:
        return latents.reshape(-1, 1, 8, 8, 8)

    def encode(self, images: torch.Tensor, how: str, seeds: object) -> torch.Tensor:
        return images.flatten(1)


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> Faulty:
    """Small shapes, half of them broken, encoded by themselves."""
    entry = DATASETS["sdf_primitives"]

    def small(**options: float) -> SDFPrimitives:
        made = sdf_primitives(resolution=8, **options)  # type: ignore[arg-type]
        assert isinstance(made, SDFPrimitives)
        return made

    identity = type(entry)("identity", lambda dataset: Identity(), {})
    monkeypatch.setitem(DATASETS, "sdf_primitives", type(entry)("sdf_primitives", small, entry.options))
    monkeypatch.setitem(GENERATORS, "sdf_vae", identity)
    made = faulty("sdf_primitives")
    assert isinstance(made, Faulty)
    return made


def test_the_truth_about_shapes_is_that_of_their_making(shapes: Faulty) -> None:
    numbers = range(40)
    truth = shapes.truth(numbers)
    data = sdf_primitives(test=10**9, resolution=8, broken=0.5)
    assert isinstance(data, SDFPrimitives)
    for number, state, kind, typicality in zip(numbers, *(part.tolist() for part in truth), strict=True):
        shape = data.shape("test", FIRST + number)
        assert (shape.state, shape.category) == (STATES[state], list(CATEGORIES)[kind])
        assert typicality == shape.typicality == STYLES[shape.category][shape.style]
        labels = data.take("test", FIRST + number, FIRST + number + 1).labels
        assert labels is not None
        assert int(labels) == kind + len(CATEGORIES) * state
    assert shapes.states == STATES
    assert shapes.kinds == tuple(CATEGORIES)


def test_samples_and_codes_are_those_of_fresh_shapes(shapes: Faulty) -> None:
    data = sdf_primitives(test=10**9, resolution=8, broken=0.5)
    expected = data.take("test", FIRST, FIRST + 5).images.float() / 255
    assert torch.equal(shapes.decode(shapes.latents(range(5))), expected)
    codes = shapes.latents(range(5), "z")
    assert torch.equal(codes, expected.flatten(1))
    assert torch.equal(shapes.decode(codes, "z"), expected)
    assert torch.equal(shapes.latents([3], "z"), codes[3:4])
    assert isinstance(shapes, Encoder)
    assert isinstance(shapes, HasGroundTruth)
    usual = sdf_primitives(resolution=8)
    held = {volume.numpy().tobytes() for volume in usual.take("test", 0, 200).images}
    assert not held & {volume.numpy().tobytes() for volume in (expected * 255).round().byte()}
    with pytest.raises(ValueError, match="makes no more"):
        shapes.latents([2**63])


def test_about_half_are_broken_and_the_faults_are_alike() -> None:
    """Of 1,200, 600 broken within 87 (5 standard errors), 150 of each kind within 58: false alarm below 1e-5."""
    data = sdf_primitives(test=2000, resolution=8, broken=0.5)
    assert isinstance(data, HasGroundTruth)
    counts = torch.bincount(data.truth(range(1200)).state, minlength=len(STATES))
    assert abs(int(counts[0]) - 600) < 87
    assert (counts[1:] - 150).abs().max() < 58


def test_a_fault_does_not_change_how_typical_a_shape_is() -> None:
    for state in STATES:
        assert make_shape(7, state).typicality == make_shape(7).typicality


def test_corrupted_images_have_the_stated_fault() -> None:
    made = faulty("fashion_mnist", share=0.75)
    assert isinstance(made, Faulty)
    whole = held_out("fashion_mnist")
    images = made.decode(made.latents(range(400)))
    before = whole.decode(whole.latents(range(400), "sample"), "sample")
    truth = made.truth(range(400))
    assert made.states == ("sound", "blurred", "noisy", "covered")
    assert truth.typicality.isnan().all()
    labels = DATASETS["fashion_mnist"].function().take("test", 0, 400).labels
    assert torch.equal(truth.kind, labels)
    changed = (images - before).flatten(1)
    assert torch.equal(changed.abs().amax(1) > 0, truth.state > 0)
    by_state = {name: changed[truth.state == i] for i, name in enumerate(made.states)}
    # Of 400, 300 within 44 are corrupted and 100 of a kind within 44: five standard errors.
    assert all(abs(len(by_state[name]) - 100) < 44 for name in made.states)
    inner = before[truth.state == made.states.index("noisy")].flatten(1)
    free = (inner > 0.4) & (inner < 0.6)  # clamped at neither end in 9 of 10 cases
    assert by_state["noisy"][free].std() == pytest.approx(0.25, abs=0.05)
    assert (by_state["covered"] != 0).sum(1).max() <= 9 * 9
    blurred = images[truth.state == made.states.index("blurred")]
    sharp = before[truth.state == made.states.index("blurred")]
    assert blurred.mean() == pytest.approx(float(sharp.mean()), abs=0.02)
    assert (blurred.diff(dim=3).square().mean() / sharp.diff(dim=3).square().mean()) < 0.3


def test_corrupted_images_depend_on_their_own_number() -> None:
    data = Corrupted(DATASETS["digits"].function(), 0.9)
    whole = data.take("test", 0, 40).images
    assert torch.equal(torch.cat([data.take("test", i, i + 1).images for i in range(40)]), whole)
    assert (Corrupted(DATASETS["digits"].function(), 0.0).take("test", 0, 40).images == _plain(0, 40).images).all()


def test_content_faults_are_in_the_images_that_the_truth_names() -> None:
    """Of 600 digits 300 within 62 are sound and 43 within 31 of each of 7 kinds: five standard errors."""
    made = faulty("digits", faults="content")
    assert isinstance(made, Faulty)
    count = made.total
    assert count is not None
    images = made.decode(made.latents(range(count)))
    plain = _plain(0, count)
    truth = made.truth(range(count))
    assert torch.equal(truth.kind, plain.labels)
    changed = (images - plain.images / 255).abs().flatten(1).amax(1)
    assert torch.equal(changed > 0, truth.state > 0)
    counts = torch.bincount(truth.state, minlength=8)
    assert len(made.states) == 8
    share = counts / count
    assert abs(float(share[0]) - 0.5) < 5 * 0.5 / count**0.5
    assert (share[1:] - 1 / 14).abs().max() < 5 * (1 / 14 * 13 / 14 / count) ** 0.5
    assert torch.equal(made.decode(made.latents([5, 7])), images[[5, 7]])


def test_typicality_is_the_fifth_of_the_class_by_distance_from_training_images() -> None:
    made = faulty("digits", faults="content", share=0.0)
    assert isinstance(made, Faulty)
    count = made.total
    assert count is not None
    truth = made.truth(range(count))
    data = DATASETS["digits"].function()
    train = data.take("train", 0, data.count("train"))
    held = data.take("test", 0, count)
    for label in range(10):
        here = (held.labels == label).nonzero()[:, 0]
        among = train.images[train.labels == label][:1000].double().flatten(1) / 255
        apart = [
            float((among - image.double().flatten() / 255).norm(dim=1).sort().values[:10].mean())
            for image in held.images[here]
        ]
        order = sorted(range(len(here)), key=lambda i: -apart[i])
        for rank, i in enumerate(order):
            assert truth.typicality[here[i]] == (1 + rank * 5 // len(here)) / 5


def test_an_image_off_the_data_moves_as_its_decoded_codes_do() -> None:
    data = DATASETS["digits"].function()
    model = GENERATORS["vae"].function("digits")
    made = Broken(data, 1.0, model)
    number = next(n for n in range(100) if made.states[int(made.truth([n]).state)] == OFF_DATA)
    plain = data.take("test", number, number + 1).images[0].float() / 255
    found = made.take("test", number, number + 1).images[0].float() / 255
    _, rng = made._draw(number)
    code = model.encode(plain[None], "mean", [0])
    images = data.take("train", 0, 1000).images.float() / 255
    std = model.encode(images, "mean", range(len(images))).std(0)
    moved = code + STEP * std * torch.from_numpy(rng.standard_normal(code.shape, np.float32))
    with torch.no_grad():
        expected = (plain + model.decode(moved, "z")[0] - model.decode(code, "z")[0]).clamp(0, 1)
    assert (found - expected).abs().max() <= 0.5 / 255 + 1e-5


def test_signal_faults_are_those_that_were_published() -> None:
    """The guarantee of results/guarantee rests on them: their fingerprint and content stay."""
    data = Corrupted(DATASETS["digits"].function(), 0.5)
    assert data.states == ("sound", "blurred", "noisy", "covered")
    images = data.take("test", 0, 50).images
    assert hashlib.sha256(images.numpy().tobytes()).hexdigest()[:16] == "ebed93c6a878e60a"


def _plain(start: int, stop: int) -> Samples:
    found: Samples = DATASETS["digits"].function().take("test", start, stop)
    return found


def test_held_out_shapes_have_codes_where_there_is_an_encoder(shapes: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    made = held_out("sdf_primitives")
    assert isinstance(made, Encoded)
    assert tuple(made.spaces) == ("sample", "z")
    expected = sdf_primitives(test=10**9, resolution=8).take("test", FIRST, FIRST + 3).images.float() / 255
    assert torch.equal(made.decode(made.latents(range(3))), expected)
    assert made.fingerprint not in (shapes.fingerprint, held_out("sdf_primitives", encoder="none").fingerprint)
    assert tuple(held_out("sdf_primitives", encoder="none").spaces) == ("sample",)
    assert tuple(held_out("digits").spaces) == ("sample",)
    assert tuple(held_out("digits", encoder="vae").spaces) == ("sample", "z")

    def missing(dataset: str) -> Encoded:
        raise LookupError("no weights")

    monkeypatch.setitem(GENERATORS, "sdf_vae", type(GENERATORS["vae"])("sdf_vae", missing, {}))
    assert tuple(held_out("sdf_primitives").spaces) == ("sample",)
    with pytest.raises(LookupError, match="no weights"):
        faulty("sdf_primitives")


def test_wrong_options_are_named() -> None:
    with pytest.raises(ValueError, match=r"generator.faulty.share=2 must be in \[0, 1\]"):
        faulty("digits", share=2)
    with pytest.raises(ValueError, match="does not encode; choose one that does"):
        held_out("digits", encoder="stylegan2")
    with pytest.raises(ValueError, match="needs"):
        faulty("folder")
    with pytest.raises(ValueError, match="faults"):
        faulty("digits", faults="blur")  # type: ignore[arg-type]


def test_faults_of_the_content_need_images_of_several_classes(shapes: Faulty, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="faults=content is made for images, and 'sdf_primitives' has none"):
        faulty("sdf_primitives", faults="content")


def test_shapes_that_nobody_breaks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Volumes:
        name, classes, fingerprint = "volumes", (), "volumes"

        def count(self, split: str) -> int:
            return 10

        def take(self, split: str, start: int, stop: int) -> Samples:
            return Samples(torch.zeros(stop - start, 1, 8, 8, 8, dtype=torch.uint8), None)

    make = type(DATASETS["digits"])
    monkeypatch.setitem(DATASETS, "volumes", make("volumes", Volumes, {}))
    monkeypatch.setitem(GENERATORS, "sdf_vae", make("sdf_vae", lambda dataset: Identity(), {}))
    with pytest.raises(ValueError, match="'volumes' has no ground truth of faults"):
        module.faulty("volumes")
