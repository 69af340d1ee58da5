"""The classifiers of volumes: what they know of shapes, and what their features keep besides the category."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.datasets.sdf_primitives import sdf_primitives
from assay.harness import train as module
from assay.harness.core.abilities import Layered
from assay.harness.core.protocols import Extractor
from assay.harness.core.registry import discover
from assay.harness.formats.weights import ZOO
from assay.harness.train import train
from assay.metrics.extractors.classifier import SKETCH, ClassifierTraining, PlainNetwork, classifier, judge

discover()


@pytest.fixture(scope="module")
def shapes() -> tuple[Tensor, Tensor]:
    """The first 80 held-out shapes [80, 1, 32, 32, 32] in [0, 1] and their categories."""
    samples = sdf_primitives().take("test", 0, 80)
    assert samples.labels is not None
    return samples.images.float() / 255, samples.labels


def learned(path: Path, **options: Any) -> Path:
    data = sdf_primitives(train=24, test=8, resolution=16)
    return train("classifier", {"epochs": 2, "batch": 8, **options}, data, 0, path, torch.device("cpu"))


def test_categories_of_held_out_shapes(shapes: tuple[Tensor, Tensor]) -> None:
    volumes, labels = shapes
    space = classifier("sdf_primitives")
    assert isinstance(space, Extractor)
    features = space(volumes)
    assert features.shape == (80, 64)
    assert "32x32x32" in space.preprocessing
    last = space.network.last(features)  # type: ignore[attr-defined]
    assert (last.argmax(1) == labels).float().mean() >= 0.95
    assert (judge("sdf_primitives")(volumes).argmax(1) == labels).float().mean() >= 0.95
    for family in ("classifier", "judge"):
        card = json.loads((ZOO["extractor"] / f"{family}-sdf_primitives.json").read_text())
        assert card["architecture"]["dimensions"] == 3
        assert card["architecture"]["classes"] == 4, "no class of broken shapes"
        assert card["test"]["accuracy"] > 0.98


def test_features_do_not_depend_on_the_batch(shapes: tuple[Tensor, Tensor]) -> None:
    for space in (classifier("sdf_primitives"), judge("sdf_primitives")):
        whole = space(shapes[0][:5])
        alone = torch.cat([space(volume[None]) for volume in shapes[0][:5]])
        torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-4)


def test_features_tell_more_than_the_category(shapes: tuple[Tensor, Tensor]) -> None:
    """Coarse shapes by a linear map of the features, against the mean of their category; each fitted on 160 others."""
    volumes, labels = shapes
    more = sdf_primitives().take("train", 0, 160)
    assert more.labels is not None
    others = more.images.float() / 255
    space = classifier("sdf_primitives")
    known, unknown = (F.pad(space(v), (0, 1), value=1.0) for v in (others, volumes))
    given, wanted = (F.interpolate(v, size=(SKETCH,) * 3, mode="area").flatten(1) for v in (others, volumes))
    fitted = torch.linalg.solve(known.T @ known + torch.eye(65), known.T @ given)
    means = torch.stack([given[more.labels == label].mean(0) for label in range(4)])
    assert (unknown @ fitted - wanted).square().sum() < 0.8 * (means[labels] - wanted).square().sum()


def test_stages(shapes: tuple[Tensor, Tensor]) -> None:
    space = classifier("sdf_primitives")
    assert isinstance(space, Layered)
    volumes = shapes[0][:2].clone().requires_grad_()
    stages = space.layers(volumes)
    assert [tuple(stage.shape[1:]) for stage in stages.values()] == [
        (8, 32, 32, 32), (16, 16, 16, 16), (32, 8, 8, 8), (64, 4, 4, 4)
    ]  # fmt: skip
    (slope,) = torch.autograd.grad(stages["stage4"][1].sum(), volumes)
    assert slope[1].any()
    assert not slope[0].any()
    with pytest.raises(ValueError, match=r"trained on images \(1, 32, 32, 32\), these are \(1, 32, 32\)"):
        space(torch.zeros(2, 1, 32, 32))


def test_the_sketch_loss_is_the_unexplained_share_of_the_variance() -> None:
    training = ClassifierTraining("classifier", sdf_primitives(train=8, test=1, resolution=16), 1, 8, 1e-3, 0, 1.0)
    volumes = sdf_primitives(train=8, test=1, resolution=16).take("train", 0, 8).images.float() / 255
    coarse = volumes.view(8, 8, 2, 8, 2, 8, 2).mean((2, 4, 6)).flatten(1)
    with torch.no_grad():
        training.draw.weight.zero_()
        training.draw.bias.copy_(coarse.mean(0))
    assert training._sketch_loss(torch.randn(8, 64), volumes).item() == pytest.approx(1)
    with torch.no_grad():
        training.draw.bias.zero_()
    expected = coarse.square().sum() / (coarse - coarse.mean(0)).square().sum()
    assert training._sketch_loss(torch.randn(8, 64), volumes).item() == pytest.approx(expected.item())


def test_the_second_task_is_part_of_a_training_and_not_of_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    save = module._save

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise Killed

    undisturbed = learned(tmp_path / "a", sketch=1.0)
    with monkeypatch.context() as patched:
        patched.setattr(module, "_save", save_and_die)
        with pytest.raises(Killed):
            learned(tmp_path / "b", sketch=1.0)
    assert learned(tmp_path / "b", sketch=1.0).read_bytes() == undisturbed.read_bytes()
    card = json.loads(undisturbed.with_suffix(".json").read_text())
    assert set(card["losses"][0]) == {"cross_entropy", "left", "accuracy"}
    plain = learned(tmp_path / "c")
    assert plain.read_bytes() != undisturbed.read_bytes()
    assert plain.stat().st_size == undisturbed.stat().st_size
    assert set(json.loads(plain.with_suffix(".json").read_text())["losses"][0]) == {"cross_entropy", "accuracy"}
    assert card["parameters"] == sum(p.numel() for p in PlainNetwork(1, 16, 4, 3).parameters())


def test_networks_of_images_refuse_volumes() -> None:
    with pytest.raises(ValueError, match="resnet12 takes images, and 'sdf_primitives' holds volumes"):
        ClassifierTraining("resnet12", sdf_primitives(train=4, test=1, resolution=8), 1, 4, 1e-3, 0)
