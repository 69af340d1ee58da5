"""Feature sets made from images: which classes are novel, what describes them, and that training never has them."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from assay.datasets.clothes_and_digits import ATTRIBUTES, CLASSES, clothes_and_digits
from assay.datasets.digits import digits
from assay.datasets.fashion_mnist import fashion_mnist
from assay.datasets.mnist import mnist
from assay.harness.arrays.store import Store
from assay.harness.core import registry
from assay.harness.core.abilities import ClassSubset, HasAttributes
from assay.harness.core.files import digest
from assay.harness.core.protocols import Dataset, FeatureSet, Samples, Split
from assay.harness.studies.few_shot import feature_sets
from assay.harness.studies.few_shot.feature_sets import described_by_base, novel_classes, open_feature_set
from assay.harness.train import train

CPU = torch.device("cpu")
TINY = {"epochs": 1, "batch": 32, "width": 2}


class Patterns:
    """Twelve classes of noisy pictures [1, 16, 16], even ones of one kind; `noise` names the classes drawn anew."""

    name = "patterns"

    def __init__(self, classes: Sequence[int] = tuple(range(12)), changed: Sequence[int] = (), per_class: int = 20):
        self.numbers, self.changed, self.per_class = list(classes), changed, per_class
        self.classes = [f"pattern {number}" for number in classes]
        self.kinds = ["even" if number % 2 == 0 else "odd" for number in classes]
        self.attributes = torch.eye(12)[list(classes)]
        self.fingerprint = digest("patterns", self.numbers, list(changed), per_class)
        self.options = {"classes": self.numbers}

    def only(self, classes: Sequence[int]) -> "Patterns":
        return Patterns([self.numbers[number] for number in classes], self.changed, self.per_class)

    def count(self, split: Split) -> int:
        return self.per_class * len(self.numbers) if split == "train" else 0

    def take(self, split: Split, start: int, stop: int) -> Samples:
        images = [self._image(self.numbers[i % len(self.numbers)], i // len(self.numbers)) for i in range(start, stop)]
        return Samples(torch.stack(images), torch.arange(start, stop) % len(self.numbers))

    def _image(self, number: int, place: int) -> Tensor:
        seed = [number, place, int(number in self.changed)]
        noise = np.random.default_rng(seed).integers(0, 120, (1, 16, 16))
        noise[:, number : number + 4] += 120
        return torch.from_numpy(noise).byte()


@pytest.fixture
def opened(tmp_path: Path, own_registries: None) -> Callable[..., FeatureSet]:
    """opened(data, **options): a feature set, in one store for the whole test."""
    store = Store(tmp_path / "store")

    def build(source: Dataset | str | Path, **options: Any) -> FeatureSet:
        return open_feature_set(source, store, CPU, **{"novel": 4, "training": TINY, **options})

    return build


# The division


def test_five_splits_of_the_shipped_set_make_each_class_novel_twice() -> None:
    splits = [novel_classes(clothes_and_digits(), 8, split) for split in range(5)]
    assert Counter(number for novel in splits for number in novel) == dict.fromkeys(range(20), 2)
    for novel in splits:
        assert len(novel) == len(set(novel)) == 8
        assert sum(number < 10 for number in novel) == 4, "half of them clothes"
    later = [novel_classes(clothes_and_digits(), 8, split) for split in range(5, 10)]
    assert Counter(number for novel in later for number in novel) == dict.fromkeys(range(20), 2)
    assert not {tuple(novel) for novel in later} & {tuple(novel) for novel in splits}
    assert splits == [novel_classes(clothes_and_digits(per_class=10), 8, split) for split in range(5)]


def test_splits_that_cannot_be() -> None:
    for count in (0, 12):
        with pytest.raises(ValueError, match=f"novel={count} of the 12 classes of 'patterns': give 1..11"):
            novel_classes(Patterns(), count, 0)
    with pytest.raises(ValueError, match="split=-1 must be 0 or more"):
        novel_classes(Patterns(), 4, -1)


def test_kinds_of_unequal_size_are_all_dealt() -> None:
    data = Patterns([0, 2, 4, 6, 8, 1])
    dealt = [number for split in range(3) for number in novel_classes(data, 2, split)]
    assert sorted(dealt) == list(range(6))


# Training sees base classes alone


def test_training_receives_rows_of_base_classes_alone(
    opened: Callable[..., FeatureSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Dataset] = []

    def watch(name: str, options: Any, data: Dataset, *rest: Any) -> Path:
        received.append(data)
        return train(name, options, data, *rest)

    monkeypatch.setattr(feature_sets, "train", watch)
    data = Patterns()
    found = opened(data)
    (trained_on,) = received
    novel = {data.classes[number] for number in found.novel}
    assert len(novel) == 4
    assert set(trained_on.classes) == set(data.classes) - novel
    images, labels = trained_on.take("train", 0, trained_on.count("train"))
    everything, numbers = data.take("train", 0, data.count("train"))
    assert labels is not None
    assert numbers is not None
    base = torch.tensor([data.classes[number] not in novel for number in numbers])
    assert torch.equal(images, everything[base])
    assert [trained_on.classes[label] for label in labels] == [data.classes[number] for number in numbers[base]]
    assert trained_on.count("test") == 0


def weights(folder: Path) -> list[bytes]:
    return [
        file.read_bytes()
        for file in sorted(folder.glob("store/trained/*/*.safetensors"), key=lambda f: f.stat().st_mtime_ns)
    ]


def test_other_novel_images_change_neither_weights_nor_base_features(
    opened: Callable[..., FeatureSet], tmp_path: Path
) -> None:
    found = opened(Patterns())
    other = opened(Patterns(changed=list(found.novel)))
    assert list(other.novel) == list(found.novel)
    novel = torch.tensor([int(label) in found.novel for label in found.labels])
    assert torch.equal(other.features[~novel], found.features[~novel])
    assert not torch.equal(other.features[novel], found.features[novel])
    first, second = weights(tmp_path)  # trained twice: the data set is another one
    assert first == second
    base = next(number for number in range(12) if number not in found.novel)
    third = opened(Patterns(changed=[base]))
    assert weights(tmp_path)[2] != first
    assert len({found.fingerprint, other.fingerprint, third.fingerprint}) == 3


def test_trained_once_and_kept(
    opened: Callable[..., FeatureSet],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = opened(Patterns())
    assert found.features.shape == (240, 16)
    assert found.name == "patterns split 0, resnet12 of seed 0"
    assert "resnet12 on patterns, epoch 1/1" in capsys.readouterr().err
    with monkeypatch.context() as patch:
        patch.setattr(feature_sets, "train", None)
        again = opened(Patterns())
    assert torch.equal(again.features, found.features)
    assert again.fingerprint == found.fingerprint
    (file,) = tmp_path.glob("store/trained/*/*.safetensors")
    content = file.read_bytes()
    file.write_bytes(content[:-100])
    assert torch.equal(opened(Patterns()).features, found.features)
    assert "is damaged; it is made again" in capsys.readouterr().err
    assert file.read_bytes() == content
    seeds = {opened(Patterns(), **changed).fingerprint for changed in ({}, {"seed": 1}, {"split": 1})}
    assert len(seeds) == 3


def test_the_card_tells_the_command(opened: Callable[..., FeatureSet], tmp_path: Path) -> None:
    found = opened(Patterns())
    (card,) = tmp_path.glob("store/trained/*/*.json")
    base = [number for number in range(12) if number not in found.novel]
    assert f"trainer=resnet12 dataset=patterns dataset.patterns.classes={base}" in card.read_text()


def test_only_a_data_set_that_leaves_out_classes_can_train(opened: Callable[..., FeatureSet]) -> None:
    with pytest.raises(ValueError, match="data set 'digits' cannot leave out classes; choose dataset="):
        opened(digits())


# Features that need no training, and what is known of classes


@pytest.fixture
def doubled(opened: Callable[..., FeatureSet]) -> Callable[..., FeatureSet]:
    """opened with a feature space that is not trained: twice the pixels, or `times` as much."""

    class Times:
        def __init__(self, times: float):
            self.times, self.fingerprint = times, f"times {times}"

        def __call__(self, images: Tensor) -> Tensor:
            return self.times * images.flatten(1)

    def scaled(dataset: str, times: float = 2.0) -> Times:
        return Times(times)

    registry.extractor(scaled)
    return lambda source, **options: opened(source, features="scaled", **options)


def test_features_of_an_extractor_with_its_options(doubled: Callable[..., FeatureSet]) -> None:
    data = Patterns()
    found = doubled(data, extractor={"times": 3.0})
    images, labels = data.take("train", 0, 240)
    torch.testing.assert_close(found.features, 3 * images.flatten(1).float() / 255)
    assert labels is not None
    assert torch.equal(found.labels, labels)
    assert found.names == data.classes
    assert torch.equal(found.semantics, data.attributes)
    assert found.name == "patterns split 0, scaled"
    assert doubled(data).fingerprint != found.fingerprint


def test_too_few_images_of_a_novel_class(doubled: Callable[..., FeatureSet]) -> None:
    doubled(Patterns(), least=20)
    with pytest.raises(ValueError, match=r"novel class 'pattern \d+' has 20 images, an episode takes 21; give more"):
        doubled(Patterns(), least=21)


def test_a_file_takes_the_same_way(doubled: Callable[..., FeatureSet], tmp_path: Path) -> None:
    features, labels = np.random.default_rng(0).random((12, 3)), np.arange(12) % 4
    content = {"features": features, "labels": labels, "split": np.array(["base", "base", "novel", "base"])}
    np.savez(tmp_path / "file.npz", **content)
    with pytest.raises(ValueError, match="file: nothing is said of its classes; choose semantics=sentences, or give"):
        doubled(tmp_path / "file.npz")
    np.savez(tmp_path / "file.npz", **content, semantics=np.eye(4))
    found = doubled(str(tmp_path / "file.npz"), least=3)
    assert torch.equal(found.semantics, torch.eye(4))
    with pytest.raises(ValueError, match="novel class '2' has 3 images, an episode takes 4"):
        doubled(tmp_path / "file.npz", least=4)
    assert doubled(tmp_path / "file.npz", semantics="prototypes").semantics.shape == (4, 3)
    with pytest.raises(ValueError, match="unknown semantics 'sentence'; did you mean sentences"):
        doubled(tmp_path / "file.npz", semantics="sentence")


def test_prototypes_by_hand_and_without_novel_images() -> None:
    features = torch.tensor([[0.0, 2], [2, 0], [4, 4], [9, 9], [5, 5]])
    labels = torch.tensor([0, 0, 1, 2, 3])
    semantics = torch.tensor([[1.0, 0], [0, 1], [1, 1], [0, 2]])
    found = described_by_base(features, labels, [2], semantics)
    near, far = np.exp(10 * np.array([1 / np.sqrt(2), 0]))
    prototypes = {0: np.array([1.0, 1]), 1: np.array([4.0, 4]), 3: np.array([5.0, 5])}
    expected = [
        (prototypes[1] + prototypes[3]) / 2,
        (prototypes[0] * far + prototypes[3] * np.exp(10)) / (far + np.exp(10)),
        (prototypes[0] + prototypes[1] + prototypes[3]) / 3,
        (prototypes[0] * far + prototypes[1] * np.exp(10)) / (far + np.exp(10)),
    ]
    assert near > far
    torch.testing.assert_close(found, torch.tensor(np.array(expected)).float())
    features[3] = torch.nan
    assert torch.equal(described_by_base(features, labels, [2], semantics), found)
    with pytest.raises(ValueError, match="needs 2 base classes or more, there are 1"):
        described_by_base(features, labels, [0, 1, 2], semantics)


def test_sentences_describe_classes_by_their_names(
    doubled: Callable[..., FeatureSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    def embedded(names: Sequence[str]) -> tuple[Tensor, str]:
        return torch.tensor([[float(len(name))] for name in names]), "sha"

    monkeypatch.setattr(feature_sets, "class_embeddings", embedded)
    plain, found = doubled(Patterns()), doubled(Patterns(), semantics="sentences")
    assert found.semantics.flatten().tolist() == [len(name) for name in found.names]
    assert torch.equal(found.features, plain.features)
    assert found.fingerprint != plain.fingerprint


# The shipped set


@pytest.fixture(scope="module")
def shipped() -> Dataset:
    return clothes_and_digits(per_class=12)


def test_the_joined_set_is_both_sources_class_by_class(shipped: Dataset) -> None:
    assert (shipped.count("train"), shipped.count("test")) == (240, 40)
    images, labels = shipped.take("train", 0, 240)
    assert images.shape == (240, 1, 28, 28)
    assert labels is not None
    assert labels.tolist() == list(range(20)) * 12
    for number, source in ((3, fashion_mnist()), (14, mnist())):
        theirs, given = source.take("train", 0, 2000)
        assert given is not None
        assert torch.equal(images[labels == number], theirs[given == number % 10][:12])
    assert shipped.classes[3] == "Dress"
    assert shipped.classes[14] == "digit four"
    assert isinstance(shipped, HasAttributes)
    assert list(shipped.kinds) == ["clothes"] * 10 + ["digit"] * 10


def test_some_of_its_classes(shipped: Dataset) -> None:
    assert isinstance(shipped, ClassSubset)
    part = shipped.only([14, 3])
    assert list(part.classes) == ["digit four", "Dress"]
    images, labels = part.take("train", 0, 24)
    everything, numbers = shipped.take("train", 0, 240)
    assert labels is not None
    assert numbers is not None
    assert torch.equal(images[labels == 0], everything[numbers == 14])
    assert torch.equal(images[labels == 1], everything[numbers == 3])
    assert isinstance(part, HasAttributes)
    assert isinstance(shipped, HasAttributes)
    assert torch.equal(part.attributes, shipped.attributes[[14, 3]])
    assert list(part.only([1]).classes) == ["Dress"]
    again = clothes_and_digits(**part.options)
    assert again.fingerprint == part.fingerprint != shipped.fingerprint
    assert torch.equal(again.take("test", 0, 4).images, part.take("test", 0, 4).images)


def test_attributes_are_said_of_known_classes_and_tell_them_apart(shipped: Dataset) -> None:
    assert isinstance(shipped, HasAttributes)
    assert shipped.attributes.shape == (20, len(ATTRIBUTES))
    for name, classes in ATTRIBUTES.items():
        assert set(classes) <= set(CLASSES), name
        assert len(set(classes)) == len(classes) > 0, name
    assert shipped.attributes[0].sum() == sum("T-shirt/top" in classes for classes in ATTRIBUTES.values())
    units = F.normalize(shipped.attributes, dim=1)
    likeness = units @ units.T - 2 * torch.eye(20)
    assert likeness.max() < 1 - 1e-3, "no two classes have the same description"
    within = torch.cat([likeness[:10, :10].amax(1), likeness[10:, 10:].amax(1)])
    across = torch.cat([likeness[:10, 10:].amax(1), likeness[:10, 10:].amax(0)])
    nearer_across = {name for name, nearer in zip(CLASSES, across > within, strict=True) if nearer}
    assert nearer_across == {"Bag"}, "a bag has little in common with what is worn"


def test_counts_and_classes_that_do_not_exist() -> None:
    for per_class in (5, 5001):
        with pytest.raises(ValueError, match=f"per_class={per_class} must be 6..5000"):
            clothes_and_digits(per_class)
    for classes in ([1, 1], [20], [-1]):
        with pytest.raises(ValueError, match=r"must be different numbers 0\.\.19"):
            clothes_and_digits(classes=classes)
