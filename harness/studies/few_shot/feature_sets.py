"""Feature sets for few-shot studies: those in files, and those made from the images of a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from ...arrays.shards import SHARD
from ...arrays.spaces import BATCH
from ...arrays.store import ShardKey, Store
from ...core.abilities import ClassSubset, HasAttributes
from ...core.files import digest
from ...core.progress import say, track
from ...core.protocols import Dataset, Extractor, FeatureSet
from ...core.registry import EXTRACTORS, TRAINERS, unknown
from ...formats.feature_files import read_feature_set
from ...formats.weights import read_safetensors
from ...train import train
from .sentences import TEMPLATES, class_embeddings

SEMANTICS = ("own", "sentences", "prototypes")
SHARPNESS = 10.0
"""Weights of base classes in a "prototypes" description are exp(SHARPNESS · cosine): our choice, not published."""


def open_feature_set(
    source: Dataset | str | Path,
    store: Store,
    device: torch.device,
    *,
    split: int = 0,
    novel: int = 8,
    features: str = "resnet12",
    semantics: str = "own",
    least: int = 1,
    seed: int = 0,
    extractor: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> FeatureSet:
    """The feature set of a data set's training images, or the one in a file or folder (`read_feature_set`).

    A file brings its own classes and features, so that only `semantics` and `least` have a meaning. For a data set:

    split:     which of the divisions into base and novel classes, see `novel_classes`; the same for every seed.
    novel:     how many classes are novel.
    features:  an extractor. One that assay can train is trained here, from `seed`, on the base classes alone: what it
               trains on has no other (`ClassSubset`). The weights are kept beside the arrays of `store`.
    semantics: "own" (the attributes that the data set states, or `semantics` of the file), "sentences" (embeddings of
               the names of classes, `sentences`), or "prototypes" (`described_by_base`).
    least:     how many images every novel class must have: shots and queries of an episode.
    extractor: options of an extractor that is not trained here; training: options of the trainer of one that is.

    Raises ValueError and LookupError with what to do.
    """
    if semantics not in SEMANTICS:
        raise ValueError(unknown("semantics", semantics, list(SEMANTICS)))
    if isinstance(source, (str, Path)):
        return _complete(read_feature_set(source), semantics, least)
    labels = source.take("train", 0, source.count("train")).labels
    if labels is None:
        raise ValueError(f"data set {source.name!r} has no labels, so its classes cannot be told apart")
    chosen = novel_classes(source, novel, split)
    base = [number for number in range(len(source.classes)) if number not in chosen]
    how, named = dict(extractor or {}), features
    if features in TRAINERS:
        weights = _trained(source, base, features, training or {}, seed, store, device)
        how, named = {"path": str(weights)}, f"{features} of seed {seed}"
    opened: Extractor = EXTRACTORS[features].function(source.name, **how)
    own = source.attributes if isinstance(source, HasAttributes) else torch.zeros(len(source.classes), 0)
    found = FeatureSet(
        f"{source.name} split {split}, {named}",
        _features(source, features, opened, store, device),
        labels,
        source.classes,
        chosen,
        own,
        digest("feature set", 1, source.fingerprint, opened.fingerprint, chosen, own.tolist()),
    )
    return _complete(found, semantics, least)


def novel_classes(images: Dataset, count: int, split: int) -> list[int]:
    """Numbers of the novel classes of a split, in order.

    The classes of each kind (`HasAttributes`) are shuffled, then dealt in turns; the splits take `count` of them after
    each other, and begin again with another shuffle once all classes were dealt equally often: eight of twenty in five
    splits, each class in two of them.
    """
    classes = len(images.classes)
    if not 1 <= count < classes:
        raise ValueError(f"novel={count} of the {classes} classes of {images.name!r}: give 1..{classes - 1}")
    if split < 0:
        raise ValueError(f"split={split} must be 0 or more")
    deal, place = divmod(split, classes // gcd(count, classes))
    rng = np.random.default_rng(deal)
    kinds = images.kinds if isinstance(images, HasAttributes) else [""] * classes
    numbers = {kind: [number for number in range(classes) if kinds[number] == kind] for kind in dict.fromkeys(kinds)}
    shuffled = [rng.permutation(of_kind) for of_kind in numbers.values()]
    turns = max(len(of_kind) for of_kind in shuffled)
    order = [int(of_kind[turn]) for turn in range(turns) for of_kind in shuffled if turn < len(of_kind)]
    return sorted(order[(place * count + i) % classes] for i in range(count))


def described_by_base(features: Tensor, labels: Tensor, novel: Sequence[int], semantics: Tensor) -> Tensor:
    """What base classes let one expect of each class [C, D]: a weighted mean of the other base classes' prototypes.

    A prototype is the mean of a class's features [N, D]; weights are exp(SHARPNESS · cosine of the semantics [C, S]).
    No feature of a novel class is used, and a base class is described without its own, as a novel one must be.
    """
    base = [number for number in range(len(semantics)) if number not in set(novel)]
    if len(base) < 2:
        raise ValueError(f"semantics=prototypes needs 2 base classes or more, there are {len(base)}")
    prototypes = torch.stack([features[labels == number].mean(0) for number in base])
    units = F.normalize(semantics, dim=1)
    closeness = SHARPNESS * units @ units[base].T
    closeness[base, torch.arange(len(base))] = -torch.inf
    return closeness.softmax(1) @ prototypes


def _complete(found: FeatureSet, semantics: str, least: int) -> FeatureSet:
    """With the semantics asked for. Raises ValueError where they are missing, or images of a novel class are."""
    counts = torch.bincount(found.labels, minlength=len(found.names))
    for number in found.novel:
        if counts[number] < least:
            raise ValueError(
                f"{found.name}: novel class {found.names[number]!r} has {counts[number]} images, an episode takes "
                f"{least}; give more images, or lower shots or queries"
            )
    if semantics == "sentences":
        known, model = class_embeddings(found.names)
        return replace(found, semantics=known, fingerprint=digest(found.fingerprint, semantics, TEMPLATES, model))
    if not found.semantics.shape[1]:
        raise ValueError(
            f"{found.name}: nothing is said of its classes; choose semantics=sentences, or give a file of features the "
            "array `semantics` [C, S]"
        )
    if semantics == "prototypes":
        known = described_by_base(found.features, found.labels, found.novel, found.semantics)
        return replace(found, semantics=known, fingerprint=digest(found.fingerprint, semantics))
    return found


def _trained(
    images: Dataset,
    base: list[int],
    name: str,
    training: Mapping[str, Any],
    seed: int,
    store: Store,
    device: torch.device,
) -> Path:
    """Weights of an extractor trained on a data set that has the base classes alone; trained where there are none."""
    if not isinstance(images, ClassSubset):
        raise ValueError(
            f"features={name} is trained on base classes alone, and data set {images.name!r} cannot leave out classes; "
            "choose dataset=clothes_and_digits, or features that need no training, such as efficientnet_lite"
        )
    alone = images.only(base)
    options = {**TRAINERS[name].options, **training}
    folder = store.root / "trained" / digest(name, sorted(options.items()), alone.fingerprint, seed)[:16]
    kept = folder / f"{name}-{alone.name}.safetensors"
    if kept.is_file():
        try:
            read_safetensors(kept)
            return kept
        except SafetensorError:
            say(f"{kept} is damaged; it is made again")
    return train(name, options, alone, seed, folder, device, alone.options)


def _features(images: Dataset, name: str, extractor: Extractor, store: Store, device: torch.device) -> Tensor:
    """Features [N, D] of all training images, in the same entries of the store as other studies have them."""
    count = images.count("train")
    keys = [
        ShardKey(images.fingerprint, "train", name, extractor.fingerprint, "", 0, start, min(start + SHARD, count))
        for start in range(0, count, SHARD)
    ]

    def make(key: ShardKey) -> NDArray[np.float32]:
        batches = []
        for start in range(key.start, key.stop, BATCH):
            pixels = images.take("train", start, min(start + BATCH, key.stop)).images.to(device).float() / 255
            batches.append(extractor(pixels).cpu().numpy())
        return np.concatenate(batches)

    missing = [key for key in keys if not store.has(key)]
    if missing:
        with torch.no_grad(), track(f"{images.name} → {name}", len(missing), "shards") as advance:
            for key in missing:
                store.array(key, partial(make, key))
                advance(1)
    return torch.from_numpy(np.concatenate([store.read(key) for key in keys]))
