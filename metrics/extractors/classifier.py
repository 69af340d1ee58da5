"""Two small classifiers trained on a data set's own labels.

`classifier` gives features (the layer before the last). `judge` has another architecture and another seed and is used
only to judge quality: nothing that produces a score may see it.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...harness.files import digest
from ...harness.protocols import Dataset, Extractor
from ...harness.registry import extractor, trainer
from ...harness.weights import find_weights, read_weights

FEATURES = 64


class PlainNetwork(nn.Module):
    """Convolutions and max pools to at most 7 pixels, a hidden layer of 64 features, logits."""

    def __init__(self, channels: int, size: int, classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        width = 32
        while size > 7:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            channels, width, size = width, min(2 * width, 64), (size + 1) // 2
        layers += [nn.Conv2d(channels, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten()]
        self.features = nn.Sequential(*layers, nn.Dropout(0.25), nn.Linear(64 * 9, FEATURES), nn.ReLU())
        self.last = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(images))
        return logits


class Residual(nn.Module):
    """x + two normalised 3×3 convolutions of x."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.BatchNorm2d(width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width), nn.SiLU(), nn.Conv2d(width, width, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class ResidualNetwork(nn.Module):
    """A narrow residual network with global average pooling; logits."""

    def __init__(self, channels: int, size: int, classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        width = 32
        while size > 7:
            layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1), Residual(width)]
            channels, width, size = width, min(2 * width, 96), (size + 1) // 2
        layers += [nn.Conv2d(channels, width, 3, padding=1), Residual(width)]
        layers += [nn.BatchNorm2d(width), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


NETWORKS: dict[str, type[PlainNetwork] | type[ResidualNetwork]] = {"classifier": PlainNetwork, "judge": ResidualNetwork}

STAGE_ENDS = (nn.ReLU, Residual)
"""What a stage of convolutions ends with in the one network and in the other."""


class Classifier:
    """One layer of a trained classifier as a feature space; the images must have the size it was trained on."""

    def __init__(self, family: str, dataset: str, path: str):
        tensors, architecture, sha256 = read_weights(find_weights("extractor", family, dataset, path), family)
        self.channels, self.size = architecture["channels"], architecture["size"]
        self.network = NETWORKS[family](self.channels, self.size, architecture["classes"])
        self.network.load_state_dict(tensors)
        self.network.eval().requires_grad_(False)
        if isinstance(self.network, PlainNetwork):
            self.layer, shown = self.network.features, "last hidden layer"
        else:
            self.layer, shown = self.network.layers, "logits"
        self.family, self.fingerprint = family, digest(family, 1, sha256)
        self.preprocessing = f"none, {family} at {self.size}x{self.size}, {shown}; weights of sha256 {sha256}"

    def __call__(self, images: Tensor) -> Tensor:
        features: Tensor = self._placed(images)(images)
        return features

    def layers(self, images: Tensor) -> Mapping[str, Tensor]:
        """What each stage of convolutions puts out, [N, width, h, w], by name: stage1, stage2, and so on."""
        found: dict[str, Tensor] = {}
        for module in self._placed(images):
            images = module(images)
            if isinstance(module, STAGE_ENDS) and images.ndim == 4:
                found[f"stage{len(found) + 1}"] = images
        return found

    def _placed(self, images: Tensor) -> nn.Sequential:
        """The layers on the device of the images, which must have the size of those of the training."""
        expected, got = (self.channels, self.size, self.size), tuple(images.shape[1:])
        if got != expected:
            raise ValueError(f"{self.family} was trained on images {expected}, these are {got}")
        return self.layer.to(images.device)


@extractor
def classifier(dataset: str, path: str = "zoo") -> Extractor:
    """Features [N, 64] before the last layer of a small classifier of the data set's classes."""
    return Classifier("classifier", dataset, path)


@extractor
def judge(dataset: str, path: str = "zoo") -> Extractor:
    """Logits [N, classes] of a second classifier, another architecture and seed: the independent judge of quality."""
    return Classifier("judge", dataset, path)


class ClassifierTraining:
    """Cross-entropy with Adam; the rate falls to 0 along a cosine; images shifted by up to 1 pixel in 14."""

    def __init__(self, family: str, data: Dataset, epochs: int, batch: int, rate: float, seed: int):
        sample = data.take("train", 0, 1)
        if sample.labels is None:
            raise ValueError(f"data set {data.name!r} has no labels: a classifier cannot be trained on it")
        channels, size = sample.images.shape[1:3]
        torch.manual_seed(seed)
        self.architecture = {"family": family, "channels": channels, "size": size, "classes": len(data.classes)}
        self.network = NETWORKS[family](channels, size, len(data.classes))
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=rate, weight_decay=1e-3)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, epochs)
        self.epochs, self.batch, self.shift = epochs, batch, size // 14

    def state(self) -> dict[str, nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler]:
        return {"network": self.network, "optimiser": self.optimiser, "schedule": self.schedule}

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[dict[str, float]]:
        self.network.train()
        for images, labels in batches:
            assert labels is not None
            down, right = (int(torch.randint(-self.shift, self.shift + 1, ())) for _ in range(2))
            logits = self.network(images.roll((down, right), dims=(2, 3)))
            loss = F.cross_entropy(logits, labels)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            yield {"cross_entropy": loss.item(), "accuracy": (logits.argmax(1) == labels).float().mean().item()}
        self.schedule.step()

    @torch.no_grad()
    def assess(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Accuracy and cross-entropy on the test split."""
        assert labels is not None
        self.network.eval()
        logits = self.network(images)
        accuracy = (logits.argmax(1) == labels).float().mean()
        return {"accuracy": float(accuracy), "cross_entropy": float(F.cross_entropy(logits, labels))}


@trainer("classifier")
def train_classifier(
    data: Dataset, seed: int, epochs: int = 12, batch: int = 128, rate: float = 1e-3
) -> ClassifierTraining:
    """Train the feature network on the labels of a data set."""
    return ClassifierTraining("classifier", data, epochs, batch, rate, seed)


@trainer("judge")
def train_judge(data: Dataset, seed: int, epochs: int = 12, batch: int = 128, rate: float = 2e-3) -> ClassifierTraining:
    """Train the independent judge on the labels of a data set; it never shares a seed with the classifier."""
    return ClassifierTraining("judge", data, epochs, batch, rate, seed + 1000)
