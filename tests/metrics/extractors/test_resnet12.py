"""ResNet-12 against its formula, and as a feature space that is trained and opened again."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.datasets.array import array
from assay.harness.core.abilities import Layered
from assay.harness.train import train
from assay.metrics.extractors.classifier import resnet12
from assay.metrics.extractors.resnet12 import ResNet12


def normalised(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    """Batch normalisation with kept statistics, in float64."""
    mean, var, scale, shift = (
        state[f"{name}.{part}"].double()[:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * scale + shift


def test_blocks_follow_the_formula() -> None:
    torch.manual_seed(0)
    network = ResNet12(3, 40, 5, width=4).eval()
    for name, tensor in network.state_dict().items():  # statistics and scales are trivial at the start
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.copy_(torch.rand(tensor.shape) + (0.5 if name.endswith(("var", "weight")) else -0.5))
    state, images = network.state_dict(), torch.rand(2, 3, 40, 40)
    x = images.double()
    for block in range(4):
        name, y = f"features.{block}", x
        for place in range(3):
            y = F.conv2d(y, state[f"{name}.body.{3 * place}.weight"].double(), padding=1)
            y = normalised(y, state, f"{name}.body.{3 * place + 1}")
            if place < 2:
                y = torch.where(y > 0, y, 0.1 * y)
        shortcut = torch.einsum("oi,nihw->nohw", state[f"{name}.shortcut.0.weight"].double()[:, :, 0, 0], x)
        y = y + normalised(shortcut, state, f"{name}.shortcut.1")
        y = torch.where(y > 0, y, 0.1 * y)
        x = y.unfold(2, 2, 2).unfold(3, 2, 2).amax((4, 5))
    assert x.shape == (2, 32, 2, 2)
    torch.testing.assert_close(network.features(images).double(), x.mean((2, 3)), rtol=0, atol=1e-5)
    logits = x.mean((2, 3)) @ state["last.weight"].double().T + state["last.bias"]
    torch.testing.assert_close(network(images).double(), logits, rtol=0, atol=1e-5)


def test_at_width_64_it_has_the_size_of_the_published_one() -> None:
    """Meta-Baseline and those that follow it count 8.0 million parameters before the last layer."""
    with torch.device("meta"):
        features = ResNet12(3, 80, 64).features
    assert round(sum(parameter.numel() for parameter in features.parameters()) / 1e6, 1) == 8.0
    with pytest.raises(ValueError, match="need at least 16 pixels per side; these have 15"):
        ResNet12(1, 15, 2)


def test_trained_and_opened_again_at_any_width(tmp_path: Path) -> None:
    labels = np.arange(96) % 3
    images = np.random.default_rng(0).integers(0, 60, (96, 16, 16)).astype(np.uint8)
    for label in range(3):
        images[labels == label, 5 * label : 5 * label + 5] += 180
    np.savez(tmp_path / "bars.npz", images=images, labels=labels)
    data = array(str(tmp_path / "bars.npz"), holdout=0.25)
    options = {"epochs": 6, "batch": 16, "lr": 1e-2, "width": 3}
    path = train("resnet12", options, data, 0, tmp_path, torch.device("cpu"))
    space = resnet12("array", str(path))
    samples = data.take("test", 0, 24)
    features = space(samples.images.float() / 255)
    assert features.shape == (24, 24)
    assert samples.labels is not None
    centres = torch.stack([features[samples.labels == label].mean(0) for label in range(3)])
    assert (torch.cdist(features, centres).argmin(1) == samples.labels).all()
    assert isinstance(space, Layered)
    stages = space.layers(samples.images.float() / 255)
    assert [tuple(stage.shape[1:]) for stage in stages.values()] == [(3, 8, 8), (6, 4, 4), (12, 2, 2), (24, 1, 1)]
    assert "resnet12 at 16x16, last hidden layer" in space.preprocessing
