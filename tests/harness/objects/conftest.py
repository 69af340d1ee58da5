"""Small images in every form in which a caller may have them."""

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

FAKES, REALS, SIDE = 40, 60, 8


class Pair(NamedTuple):
    """Images uint8 [N, 8, 8, 3], generated and real."""

    fake: NDArray[np.uint8]
    real: NDArray[np.uint8]


@pytest.fixture(scope="module")
def pair() -> Pair:
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8) for n in (FAKES, REALS))
    for images in (dark := one // 2, other):
        images.setflags(write=False)  # whoever writes into them is found
    return Pair(dark, other)


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a call writes lies here."""
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


class Pictures(Dataset[Any]):
    """As torchvision's: items are pairs of a picture and its class."""

    classes = ("cat", "dog")

    def __init__(self, images: NDArray[np.uint8]):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[i]), i % 2  # like torchvision's, it never says where it ends


class HuggingFace:
    """As a data set of Hugging Face: columns with features, items and slices by number."""

    def __init__(self, images: NDArray[np.uint8]):
        self.images = images
        self.features = {"image": SimpleNamespace(), "label": SimpleNamespace(names=["cat", "dog"])}
        self.column_names = list(self.features)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"image": Image.fromarray(self.images[i]), "label": i % 2}


class Stream(IterableDataset[Any]):
    """Items without a length."""

    def __init__(self, images: NDArray[np.uint8]):
        self.images = images

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for image in self.images:
            yield {"jpg": Image.fromarray(image), "cls": 1}


def channels_first(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images.copy()).permute(0, 3, 1, 2)


def as_folder(images: NDArray[np.uint8], folder: Path) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{i:03d}.png")
    return folder


def shuffled(images: NDArray[np.uint8], labels: bool) -> DataLoader[Any]:
    tensors = [channels_first(images).float() / 255] + [torch.arange(len(images)) % 2] * labels
    return DataLoader(TensorDataset(*tensors), batch_size=7, shuffle=True)


def mappings(images: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return [{"pixel_values": part, "labels": [0] * len(part)} for part in np.array_split(images, 5)]


def nested(images: NDArray[np.uint8]) -> Iterator[Tensor]:
    """Batches that were made in a mode of gradients of their own."""
    with torch.no_grad():
        for part in np.array_split(images, 5):
            yield channels_first(part)


class LazyTensors(Dataset[Any]):
    def __init__(self, images: NDArray[np.uint8]):
        self.images = channels_first(images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.images[i], i


Make = Callable[[NDArray[np.uint8]], Any]
FORMS: dict[str, Make] = {
    "array NHWC": lambda x: x,
    "array NCHW in Fortran's order": lambda x: np.asfortranarray(x.transpose(0, 3, 1, 2)),
    "array float64": lambda x: x / 255,
    "tensor NCHW": channels_first,
    "tensor float16 with gradient": lambda x: (channels_first(x).half() / 255).requires_grad_(),
    "tensor bfloat16 beside": lambda x: (channels_first(x).float() / 255).double(),
    "list of pictures": lambda x: [Image.fromarray(one) for one in x],
    "list of arrays": list,
    "list of batches": lambda x: list(np.array_split(channels_first(x).numpy(), 3)),
    "pair with labels": lambda x: (x, np.arange(len(x)) % 3),
    "mapping with labels": lambda x: {"images": channels_first(x), "labels": torch.arange(len(x)) % 3},
    "torchvision": Pictures,
    "items without an end": LazyTensors,
    "hugging face": HuggingFace,
    "iterable data set": Stream,
    "iterator": lambda x: iter(np.array_split(x, 6)),
    "generator in no_grad": nested,
    "DataLoader of images, shuffled": lambda x: shuffled(x, labels=False),
    "DataLoader of pairs, shuffled": lambda x: shuffled(x, labels=True),
    "DataLoader of lists of pictures": lambda x: DataLoader(
        Pictures(x), batch_size=9, collate_fn=lambda items: [list(column) for column in zip(*items, strict=True)]
    ),
    "batches in mappings": mappings,
    "generator of mappings": lambda x: (batch for batch in mappings(x)),
    "labelled": lambda x: {"any name": x},
}


def function_of(images: NDArray[np.uint8]) -> Callable[[Sequence[int]], Tensor]:
    return lambda seeds: channels_first(images)[[seed % 2**32 for seed in seeds]]


class Net(torch.nn.Module):
    """A decoder with parts that behave otherwise in training, one of which the caller has frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.linear = torch.nn.Linear(4, 3 * SIDE * SIDE)
        self.norm = torch.nn.BatchNorm1d(3 * SIDE * SIDE)
        self.drop = torch.nn.Dropout(0.5)
        self.train()
        self.norm.eval()

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.drop(self.norm(self.linear(z)))).reshape(-1, 3, SIDE, SIDE)


def random_states() -> tuple[Any, ...]:
    legacy: Any = np.random.get_state()  # noqa: NPY002
    return random.getstate(), legacy[1].tolist(), torch.get_rng_state().tolist()
