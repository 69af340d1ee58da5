"""Classifiers trained on a data set's own labels.

`classifier` and the larger `resnet12` (for few-shot studies) give features, the outputs of the layer before the last.
`judge` has another architecture and another seed, and is used only to judge quality. No score may depend on it.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...harness.core.files import digest
from ...harness.core.protocols import Dataset, Extractor
from ...harness.core.registry import extractor, trainer
from ...harness.formats.built import built
from ...harness.formats.weights import find_weights, read_weights
from .resnet12 import Block, ResNet12

FEATURES = 64
SKETCH = 8
"""Points per axis of the coarse image that the features must predict in training."""
AT_ONCE = 250
"""Number of images per batch in the assessment."""
CPU_IMAGES = 125
"""Number of images that a plain network is shown at a time on a CPU."""


class Halved(nn.MaxPool2d):
    """Max pooling over squares of two pixels. Without gradients, by maxima of strips: the same values much sooner."""

    def __init__(self) -> None:
        super().__init__(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 2 or x.shape[3] % 2 or torch.is_grad_enabled() or x.device.type != "cpu":
            return F.max_pool2d(x, 2, ceil_mode=True)
        rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


LAYERS: dict[int, tuple[Callable[..., nn.Module], ...]] = {
    2: (nn.Conv2d, Halved, nn.AdaptiveAvgPool2d, nn.BatchNorm2d),
    3: (nn.Conv3d, partial(nn.MaxPool3d, 2, ceil_mode=True), nn.AdaptiveAvgPool3d, nn.BatchNorm3d),
}
"""Layers for images (2) and volumes (3). Networks of volumes start with 8 channels, not 32, because of their size."""


class PlainNetwork(nn.Module):
    """Convolutions and max pooling down to at most 7 pixels per side, a hidden layer of 64 features, and logits."""

    def __init__(self, channels: int, size: int, classes: int, dimensions: int = 2):
        super().__init__()
        convolution, pool, average, _ = LAYERS[dimensions]
        layers: list[nn.Module] = []
        width = 32 if dimensions == 2 else 8
        while size > 7:
            layers += [convolution(channels, width, 3, padding=1), nn.ReLU(inplace=True), pool()]
            channels, width, size = width, min(2 * width, 64), (size + 1) // 2
        layers += [convolution(channels, 64, 3, padding=1), nn.ReLU(inplace=True), average(3), nn.Flatten()]
        self.features = nn.Sequential(*layers, nn.Dropout(0.25), nn.Linear(64 * 3**dimensions, FEATURES), nn.ReLU())
        self.last = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.last(self.features(images))
        return logits


class Residual(nn.Module):
    """x plus two normalised convolutions of x, with kernels of 3 points per axis."""

    def __init__(self, width: int, dimensions: int = 2):
        super().__init__()
        convolution, _, _, norm = LAYERS[dimensions]
        self.body = nn.Sequential(
            norm(width), nn.SiLU(), convolution(width, width, 3, padding=1, bias=False),
            norm(width), nn.SiLU(), convolution(width, width, 3, padding=1, bias=False),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)  # type: ignore[no-any-return]


class ResidualNetwork(nn.Module):
    """A narrow residual network with global average pooling; it returns logits."""

    def __init__(self, channels: int, size: int, classes: int, dimensions: int = 2):
        super().__init__()
        convolution, _, average, norm = LAYERS[dimensions]
        layers: list[nn.Module] = []
        width = 32 if dimensions == 2 else 8
        while size > 7:
            layers += [convolution(channels, width, 3, stride=2, padding=1), Residual(width, dimensions)]
            channels, width, size = width, min(2 * width, 96), (size + 1) // 2
        layers += [convolution(channels, width, 3, padding=1), Residual(width, dimensions)]
        layers += [norm(width), nn.SiLU(), average(1), nn.Flatten(), nn.Linear(width, classes)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


NETWORKS: dict[str, type[PlainNetwork] | type[ResidualNetwork] | type[ResNet12]] = {
    "classifier": PlainNetwork,
    "judge": ResidualNetwork,
    "resnet12": ResNet12,
}

STAGE_ENDS = (nn.ReLU, Residual, Block)
"""The last module of a stage of convolutions, in any of the networks."""


class Classifier:
    """One layer of a trained classifier as a feature space; images must have the size of its training images."""

    def __init__(self, family: str, dataset: str, path: str):
        file = find_weights("extractor", family, dataset, path)
        tensors, architecture, sha256 = read_weights(file, family)
        described = {key: value for key, value in architecture.items() if key != "family"}
        self.network = built(lambda: NETWORKS[family](**described), tensors, file)
        if architecture.get("dimensions", 2) == 2:  # on processors without AVX-512 in half the time
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.input_shape = (architecture["channels"], *(architecture["size"],) * architecture.get("dimensions", 2))
        if isinstance(self.network, ResidualNetwork):
            self.layer, output = self.network.layers, "logits"
        else:
            self.layer, output = self.network.features, "last hidden layer"
        self.family, self.fingerprint = family, digest(family, 1, sha256)
        size = "x".join(map(str, self.input_shape[1:]))
        self.preprocessing = f"none, {family} at {size}, {output}; weights of sha256 {sha256}"

    def __call__(self, images: Tensor) -> Tensor:
        layers = self._layers_for(images)
        # On a CPU, larger activations than of these would be given back to the system and asked for again.
        size = CPU_IMAGES if images.device.type == "cpu" and isinstance(self.network, PlainNetwork) else len(images)
        return torch.cat([layers(part) for part in torch.split(images, max(1, size))])

    def layers(self, images: Tensor) -> Mapping[str, Tensor]:
        """The output [N, width, ...] of each stage of convolutions, by name: stage1, stage2, and so on."""
        found: dict[str, Tensor] = {}
        for module in self._layers_for(images):
            images = module(images)
            if isinstance(module, STAGE_ENDS) and images.ndim > 2:
                found[f"stage{len(found) + 1}"] = images
        return found

    def _layers_for(self, images: Tensor) -> nn.Sequential:
        """The layers, on the device of the images. Raises ValueError unless images have the size used in training."""
        shape = tuple(images.shape[1:])
        if shape != self.input_shape:
            raise ValueError(f"{self.family} was trained on images {self.input_shape}, these are {shape}")
        return self.layer.to(images.device)


@extractor
def classifier(dataset: str, path: str = "zoo") -> Extractor:
    """Features [N, 64], the input of the last layer of a small classifier of the data set's classes."""
    return Classifier("classifier", dataset, path)


@extractor
def judge(dataset: str, path: str = "zoo") -> Extractor:
    """Logits [N, classes] of a classifier with another architecture and seed: the independent judge of quality."""
    return Classifier("judge", dataset, path)


@extractor
def resnet12(dataset: str, path: str = "zoo") -> Extractor:
    """Features [N, 8 · width] of ResNet-12: the spatial mean of its last block."""
    return Classifier("resnet12", dataset, path)


class ClassifierTraining:
    """Training by cross-entropy and AdamW, with a cosine schedule to 0; images are shifted by up to size / 14 pixels.

    sketch: weight of a second task, to predict from the features, linearly, the image at SKETCH points per axis. Its
            loss is the unexplained share of the variance. The features then keep information that labels do not need.
    shape:  further arguments of the network, besides its channels, size and number of classes.

    Raises ValueError for a data set without labels, or for a network that does not take volumes.
    """

    def __init__(
        self, family: str, data: Dataset, epochs: int, batch: int, lr: float, seed: int, sketch: float = 0.0,
        **shape: int,
    ):  # fmt: skip
        sample = data.take("train", 0, 1)
        if sample.labels is None:
            raise ValueError(f"data set {data.name!r} has no labels, which a classifier needs: choose another data set")
        channels, size = sample.images.shape[1:3]
        if sample.images.ndim == 5:
            if family not in ("classifier", "judge"):
                raise ValueError(f"{family} takes images, and {data.name!r} holds volumes: train extractor=classifier")
            shape = {**shape, "dimensions": 3}
        torch.manual_seed(seed)
        self.architecture = {
            "family": family,
            "channels": channels,
            "size": size,
            "classes": len(data.classes),
            **shape,
        }
        self.network = NETWORKS[family](channels, size, len(data.classes), **shape)
        if sample.images.ndim == 5:
            self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.sketch, self.draw = sketch, nn.Linear(FEATURES, channels * SKETCH ** (sample.images.ndim - 2))
        learned = [*self.network.parameters(), *(self.draw.parameters() if sketch else ())]
        self.optimiser = torch.optim.AdamW(learned, lr=lr, weight_decay=1e-3)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimiser, epochs)
        self.epochs, self.batch, self.shift = epochs, batch, size // 14

    def state(self) -> dict[str, nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler]:
        sketch = {"draw": self.draw} if self.sketch else {}
        return {"network": self.network, "optimiser": self.optimiser, "schedule": self.schedule, **sketch}

    def epoch(self, batches: Iterator[tuple[Tensor, Tensor | None]]) -> Iterator[dict[str, float]]:
        self.network.train()
        self.draw.to(next(self.network.parameters()).device)
        for images, labels in batches:
            assert labels is not None
            axes = tuple(range(2, images.ndim))
            shift = tuple(int(torch.randint(-self.shift, self.shift + 1, ())) for _ in axes)
            losses = self._losses(images.roll(shift, axes), labels)
            self.optimiser.zero_grad()
            (losses["cross_entropy"] + self.sketch * losses.get("left", 0)).backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            yield {key: loss.item() for key, loss in losses.items()}
        self.schedule.step()

    def _losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        sketch: dict[str, Tensor] = {}
        if self.sketch and isinstance(self.network, PlainNetwork):
            features = self.network.features(images)
            logits, sketch = self.network.last(features), {"left": self._sketch_loss(features, images)}
        else:
            logits = self.network(images)
        accuracy = (logits.argmax(1) == labels).float().mean()
        return {"cross_entropy": F.cross_entropy(logits, labels), **sketch, "accuracy": accuracy}

    def _sketch_loss(self, features: Tensor, images: Tensor) -> Tensor:
        """Share of the variance of coarse images that the features do not explain, at least 0; lower is better."""
        coarse = F.interpolate(images, size=(SKETCH,) * (images.ndim - 2), mode="area").flatten(1)
        loss: Tensor = (self.draw(features) - coarse).square().sum() / (coarse - coarse.mean(0)).square().sum()
        return loss

    @torch.no_grad()
    def assess(self, images: Tensor, labels: Tensor | None) -> dict[str, float]:
        """Accuracy and cross-entropy on the test split."""
        assert labels is not None
        self.network.eval()
        logits = torch.cat([self.network(part) for part in torch.split(images, AT_ONCE)])
        accuracy = (logits.argmax(1) == labels).float().mean()
        return {"accuracy": float(accuracy), "cross_entropy": float(F.cross_entropy(logits, labels))}


@trainer("classifier")
def train_classifier(
    data: Dataset, seed: int, epochs: int = 12, batch: int = 128, lr: float = 1e-3, sketch: float = 0.0
) -> ClassifierTraining:
    """Train the feature network on the labels of a data set; sketch: weight of also predicting a coarse image."""
    return ClassifierTraining("classifier", data, epochs, batch, lr, seed, sketch)


@trainer("judge")
def train_judge(data: Dataset, seed: int, epochs: int = 12, batch: int = 128, lr: float = 2e-3) -> ClassifierTraining:
    """Train the independent judge on the labels of a data set; it never shares a seed with the classifier."""
    return ClassifierTraining("judge", data, epochs, batch, lr, seed + 1000)


@trainer("resnet12")
def train_resnet12(
    data: Dataset, seed: int, epochs: int = 4, batch: int = 128, lr: float = 2e-3, width: int = 16
) -> ClassifierTraining:
    """Train ResNet-12 on the labels of a data set. Published networks have width 64 and take images of 80 pixels."""
    return ClassifierTraining("resnet12", data, epochs, batch, lr, seed, width=width)
