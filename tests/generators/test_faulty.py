"""Samples with known faults, and held-out samples with codes, in a generator's place."""

import pytest
import torch

from assay.datasets.parts.sdf_shapes import CATEGORIES, STATES, STYLES, make_shape
from assay.datasets.sdf_primitives import SDFPrimitives, sdf_primitives
from assay.generators import faulty as module
from assay.generators.faulty import Corrupted, Faulty, faulty
from assay.generators.held_out import FIRST, Encoded, held_out
from assay.harness.core.protocols import Encoder, HasGroundTruth, Samples
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
    assert made.states == Corrupted.states
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
