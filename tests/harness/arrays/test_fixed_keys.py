"""Digests of views and bytes of stored arrays: those of the first release, so that stores and records stay valid."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.harness.arrays.store import Store
from assay.harness.arrays.views import Views
from assay.harness.core import registry
from assay.harness.core.protocols import Encoding, Samples, Split, View


class Data:
    """Images [N, 1, 2, 2] of every grey value in turn."""

    name, classes, fingerprint = "fixed", ("a", "b", "c"), "fixed data"

    def count(self, split: Split) -> int:
        return {"train": 1300, "test": 40}[split]

    def take(self, split: Split, start: int, stop: int) -> Samples:
        index = torch.arange(start, stop)[:, None] + torch.tensor([0, 5, 11, 3])
        return Samples((index % 256).byte().reshape(-1, 1, 2, 2), index[:, 0] % 3)


class Model:
    """Codes z in [0, 1) of whole numbers modulo 256, and w = 2z; with an encoder and a discriminator.

    Its numbers are fractions of a power of two, which no machine rounds in another way.
    """

    spaces, fingerprint = ("z", "w"), "fixed model"

    def latents(self, seeds: Sequence[int], space: str) -> Tensor:
        z = torch.tensor([[(seed * step + seed // 2**32) % 256 for step in (1, 7, 31, 101)] for seed in seeds]) / 256
        return 2 * z if space == "w" else z

    def decode(self, latents: Tensor, space: str) -> Tensor:
        z = latents / 2 if space == "w" else latents
        return (1.25 * z - 0.125).reshape(-1, 1, 2, 2)

    def encode(self, images: Tensor, how: Encoding, seeds: Sequence[int]) -> Tensor:
        mean = (images.flatten(1) * 256).round() / 256
        return {"mean": mean, "logvar": mean - 4}[how] if how != "sample" else mean + self.latents(seeds, "z")

    def discriminate(self, images: Tensor) -> Tensor:
        return (images.flatten(1) * 256).round().sum(1)


class Doubled:
    fingerprint, preprocessing = "fixed extractor", "none"

    def __call__(self, images: Tensor) -> Tensor:
        return 2 * (images * 256).round().flatten(1)


FIXED = (
    (View("fake", "images"), "3aa94ee3dd581477", "3688a3fd2e335c32"),
    (View("real", "images", n="all"), "cf6ee997c4feecfc", "6d8986951c310d86"),
    (View("holdout", "images"), "ea9c0dca11549f6d", "b3223a05e16b0d0b"),
    (View("real", "labels", n="all"), "4d10dfb8f666332f", "9fd00ce8c76bb5a8"),
    (View("fake", "latent"), "777c175622fa2ffe", "435bc246aaaa6e75"),
    (View("fake", "latent:w"), "a3271be029c8c159", "062d631f08f1a0fc"),
    (View("real", "latent", n="all"), "9cd4990d5ffedb8a", "5296bb0edbf6d9c7"),
    (View("real", "latent", n="all", encode="sample"), "f4fac44bc7aea08e", "a10fccf387b9afaa"),
    (View("holdout", "latent:z", encode="logvar"), "dddf482c9df31373", "90b7f7f9f9cc3930"),
    (View("real", "latent:w", n=20, encode="prior"), "014a18f5f0a6bd39", "79e1c43d30e6b0c8"),
    (View("real", "residual", n="all"), "f24e79a871a80772", "da2ea2ac45a69530"),
    (View("fake", "residual", encode="sample"), "626978575feb4428", "f470786ad1284573"),
    (View("fake", "reencoded"), "c18b82f2239b3d17", "2200324065424d80"),
    (View("real", "reencoded", n="all"), "e1a12927ef47392e", "5296bb0edbf6d9c7"),
    (View("fake", "discriminator"), "e4cc409e9ed94ad7", "7aaf2f68428a0f60"),
    (View("real", "discriminator", n="all"), "2cd50252dd4ab2c2", "1edd4eacdbb70aea"),
    (View("fake", "features"), "6133b7a036834b70", "b078a6830bb079d7"),
    (View("real", "fixed_doubled", n="all"), "f6a004c38e8620f4", "aa9fc89351041056"),
)
"""Views of whole sets or of what is made as asked for, and the first digits of their digests and of their bytes."""
DRAWN = (
    (View("real", "labels"), "92f2fcb3bd206b24"),
    (View("real", "latent", n=700), "3f2e03cabcd25f64"),
    (View("holdout", "latent:w", n=3, encode="inversion"), "667c8b841919ee32"),
    (View("holdout", "residual:w", n=3, encode="inversion"), "21bcd78930f028eb"),
)
"""Views that read a subset, which the first release did not draw, and the first digits of their digests."""


@pytest.fixture
def views(tmp_path: Path, own_registries: None) -> Views:
    def fixed_doubled(dataset: str) -> Doubled:
        return Doubled()

    registry.extractor(fixed_doubled)
    return Views(Data(), Model(), "fixed_doubled", Store(tmp_path / "store"), torch.device("cpu"))


@pytest.mark.parametrize(("view", "name", "content"), FIXED, ids=lambda value: str(value) if value else "")
def test_digests_and_bytes_are_those_of_the_first_release(views: Views, view: View, name: str, content: str) -> None:
    """Of repeat 1 and 1,100 samples, so of two shards where there are as many."""
    assert views.digest(view, 1, 1100)[:16] == name
    found = views.tensor(view, 1, 1100)
    files = {json.loads(path.read_text())["key"]["start"]: path for path in cards(views, view)}
    arrays = [np.load(path.with_suffix(".npy")) for _, path in sorted(files.items())]
    raw = b"".join(array.tobytes() for array in arrays)
    assert sum(map(len, arrays)) == len(found)
    assert hashlib.sha256(raw).hexdigest()[:16] == content


@pytest.mark.parametrize(("view", "name"), DRAWN, ids=str)
def test_digests_of_subsets_stay_as_they_are(views: Views, view: View, name: str) -> None:
    assert views.digest(view, 1, 1100)[:16] == name
    assert views.digest(view, 2, 1100)[:16] != name


def cards(views: Views, view: View) -> list[Path]:
    """The cards of the shards of a view in the store; making some views makes others too."""
    space = view.space.replace("features", "fixed_doubled").replace("reencoded", "recoded").partition(":")[0]
    found = []
    for path in views.store.root.rglob("*.json"):
        key = json.loads(path.read_text())["key"]
        if key["of"] == view.source and key["through"].partition(":")[0] == space:
            found.append(path)
    return found
