"""The data sets against published facts, and images in files against what was written into them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay.datasets.array import array
from assay.datasets.digits import digits
from assay.datasets.fashion_mnist import fashion_mnist
from assay.datasets.folder import Folder, folder
from assay.datasets.mnist import mnist
from assay.harness.core.protocols import Dataset

MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def counts(data: Dataset, split: str) -> list[int]:
    labels = data.take(split, 0, data.count(split)).labels
    assert labels is not None
    return labels.bincount().tolist()


# The published means and standard deviations, of 255: 0.2860 and 0.3530 for Fashion-MNIST, 0.1307 and 0.3081 for MNIST.
@pytest.mark.parametrize(
    ("data", "mean", "deviation", "train", "test"),
    [
        (fashion_mnist(), 0.2860, 0.3530, [6000] * 10, [1000] * 10),
        (mnist(), 0.1307, 0.3081, MNIST_TRAIN, MNIST_TEST),
    ],
    ids=["fashion_mnist", "mnist"],
)
def test_real_sets_have_the_published_content(
    data: Dataset, mean: float, deviation: float, train: list[int], test: list[int]
) -> None:
    images = data.take("train", 0, 60_000).images
    assert images.shape == (60_000, 1, 28, 28)
    assert images.dtype == torch.uint8
    histogram = np.bincount(images.numpy().ravel(), minlength=256) / images.numel()
    levels = np.arange(256) / 255
    assert abs(histogram @ levels - mean) < 5e-5
    assert abs(np.sqrt(histogram @ levels**2 - (histogram @ levels) ** 2) - deviation) < 5e-5
    assert data.take("test", 0, 10_000).images.shape == (10_000, 1, 28, 28)
    assert (counts(data, "train"), counts(data, "test")) == (train, test)
    assert len(data.classes) == 10
    assert torch.equal(data.take("train", 59_998, 60_000).images, images[-2:])
    assert isinstance(data, Dataset)


def test_first_labels_are_the_published_ones() -> None:
    first = fashion_mnist().take("train", 0, 3).labels
    assert first is not None
    assert [fashion_mnist().classes[label] for label in first] == ["Ankle boot", "T-shirt/top", "T-shirt/top"]
    digits_of_mnist = mnist().take("train", 0, 10).labels
    assert digits_of_mnist is not None
    assert digits_of_mnist.tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_digits() -> None:
    data = digits()
    assert (data.count("train"), data.count("test")) == (1438, 359)
    train, test = data.take("train", 0, 1438), data.take("test", 0, 359)
    assert train.images.shape == (1438, 1, 8, 8)
    assert (int(train.images.min()), int(train.images.max())) == (0, 255)
    assert train.labels is not None
    assert test.labels is not None
    # scikit-learn's first ten labels are 0..9: 4 and 9 go to the test split
    assert train.labels[:8].tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert test.labels[:2].tolist() == [4, 9]
    assert sum(counts(data, "train")) + sum(counts(data, "test")) == 1797
    # the first image begins with 0 0 5 13 9 1 0 0, of 16
    assert train.images[0, 0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert digits().fingerprint == data.fingerprint


# --- array -----------------------------------------------------------------------------------------------------------

GREY = np.arange(20 * 4 * 5, dtype=np.uint8).reshape(20, 4, 5)
COLOUR = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 5), dtype=np.uint8)


def saved(path: Path, images: np.ndarray) -> str:
    np.save(path / "images.npy", images)
    return str(path / "images.npy")


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 2, 3, 1), COLOUR),
        (np.asfortranarray(COLOUR), COLOUR),
        ((COLOUR / 255).astype(np.float32), COLOUR),
        ((COLOUR / 255).astype(">f8"), COLOUR),
        ((GREY / 255).astype(np.float16), GREY[:, None]),
    ],
    ids=["NHW", "NHW1", "NCHW", "NHWC", "fortran", "float32", "big endian", "float16"],
)
def test_array_layouts_and_types(tmp_path: Path, stored: np.ndarray, expected: np.ndarray) -> None:
    data = array(saved(tmp_path, stored))
    assert (data.count("train"), data.count("test"), list(data.classes)) == (20, 0, [])
    found = data.take("train", 0, 20)
    assert rows(found.images) == rows(expected)
    assert found.labels is None
    assert torch.equal(data.take("train", 3, 5).images, found.images[3:5])


def rows(images: np.ndarray | torch.Tensor) -> list[bytes]:
    """The content of each image, in order of content."""
    return sorted(np.asarray(image).tobytes() for image in images)


def test_array_with_labels_and_test_part(tmp_path: Path) -> None:
    labels = np.arange(20) % 4
    np.savez(tmp_path / "a.npz", images=COLOUR, labels=labels)
    data = array(str(tmp_path / "a.npz"))
    assert (data.count("train"), data.count("test"), counts(data, "train")) == (20, 0, [5, 5, 5, 5])
    assert list(data.classes) == ["0", "1", "2", "3"]
    found = data.take("train", 0, 20)
    assert found.labels is not None
    for image, label in zip(found.images, found.labels, strict=True):
        (row,) = np.flatnonzero((image.numpy() == COLOUR).all((1, 2, 3)))
        assert labels[row] == label
    held = array(str(tmp_path / "a.npz"), holdout=0.4)
    assert held.count("train") + held.count("test") == 20
    assert held.count("test") > 0
    np.savez(tmp_path / "b.npz", images=COLOUR, labels=labels, test_images=COLOUR[:3], test_labels=[7, 0, 0])
    data = array(str(tmp_path / "b.npz"))
    assert (data.count("train"), data.count("test"), len(data.classes)) == (20, 3, 8)
    assert rows(data.take("test", 0, 3).images) == rows(COLOUR[:3])


def test_array_fingerprint_follows_content_and_options(tmp_path: Path) -> None:
    path = saved(tmp_path, GREY)
    first = array(path).fingerprint
    assert first != array(path, holdout=0.2).fingerprint
    (tmp_path / "copy").mkdir()
    assert first == array(saved(tmp_path / "copy", GREY)).fingerprint
    changed = GREY.copy()
    changed[7, 0, 0] += 1
    assert first != array(saved(tmp_path / "copy", changed)).fingerprint


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf"), (-0.25, "-0.25"), (1.5, "1.5")])
def test_array_names_the_first_bad_row(tmp_path: Path, value: float, shown: str) -> None:
    images = np.zeros((3000, 2, 2), np.float32)
    images[2500, 1, 0] = images[2900] = value
    with pytest.raises(ValueError, match=rf"images: row 2500 of 3000 holds {shown}, outside \[0, 1\]"):
        array(saved(tmp_path, images))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 5), np.uint8), r"shape \(4, 5\) is not \[N, H, W\]"),
        (np.zeros((4, 5, 6, 7), np.uint8), "exactly one of the second and the last axis is C = 1 or 3"),
        (np.zeros((4, 3, 6, 3), np.uint8), "exactly one of the second and the last axis is C = 1 or 3"),
        (np.zeros((0, 5, 6), np.uint8), "is empty"),
        (np.full((4, 5, 6), 300, np.int64), r"row 0 of 4 holds 300, outside \[0, 255\]"),
        (np.array([{}]), "without pickles"),
    ],
)
def test_array_refuses_what_it_cannot_read(tmp_path: Path, images: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        array(saved(tmp_path, images))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pictures": GREY}, "has no array `images` .*; it has pictures"),
        ({"images": GREY, "labels": np.arange(19)}, r"labels: int64 of shape \(19,\); give 20 integers"),
        ({"images": GREY, "labels": np.ones(20)}, "labels: float64"),
        ({"images": GREY, "labels": np.array([0] * 5 + [-1] * 15)}, "labels: row 5 is -1"),
        ({"images": GREY, "test_images": GREY[:, :2]}, r"images are \(1, 4, 5\) and test_images \(1, 2, 5\)"),
        ({"images": GREY, "labels": np.arange(20), "test_images": GREY}, "labels for one split only"),
    ],
)
def test_array_refuses_npz_files_that_do_not_fit(tmp_path: Path, content: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(ValueError, match=message):
        array(str(tmp_path / "a.npz"))


def test_array_needs_a_file_and_something_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give dataset.array.path=FILE.npy"):
        array()
    with pytest.raises(FileNotFoundError, match=r"no-such.npy does not exist"):
        array("no-such.npy")
    (tmp_path / "text.npy").write_text("not an array")
    with pytest.raises(ValueError, match=r"text.npy is not a readable .npy or .npz file.*; save"):
        array(str(tmp_path / "text.npy"))
    with pytest.raises(ValueError, match=r"dataset.array.holdout=0.999999 leaves none of 2 samples to train on"):
        array(saved(tmp_path, GREY[:2]), holdout=0.999999)
    for holdout in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"holdout=\S+ must be"):
            array(saved(tmp_path, GREY), holdout=holdout)


# --- folder ----------------------------------------------------------------------------------------------------------


def draw(path: Path, seed: int, width: int = 6, height: int = 4) -> np.ndarray:
    """Write a colour image of noise; returns it as [C, H, W]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels.transpose(2, 0, 1)


def test_folder_with_classes_and_splits(tmp_path: Path) -> None:
    drawn = {
        name: draw(tmp_path / name, seed)
        for seed, name in enumerate(["train/dog/b.png", "train/cat/a.PNG", "train/cat/sub/c.bmp", "val/dog/a.tif"])
    }
    (tmp_path / "train/cat/notes.txt").touch()
    draw(tmp_path / "train/cat/.hidden.png", 9)
    data = folder(str(tmp_path))
    assert list(data.classes) == ["cat", "dog"]
    train, test = data.take("train", 0, 3), data.take("test", 0, 1)
    assert isinstance(data, Folder)
    assert sorted(data.names["train"]) == ["train/cat/a.PNG", "train/cat/sub/c.bmp", "train/dog/b.png"]
    assert np.array_equal(train.images, np.stack([drawn[name] for name in data.names["train"]]))
    assert np.array_equal(test.images[0], drawn["val/dog/a.tif"])
    assert train.labels is not None
    assert train.labels.tolist() == [int("dog" in name) for name in data.names["train"]]
    assert train.labels.dtype == torch.int64
    assert test.labels is not None
    assert test.labels.tolist() == [1]
    assert isinstance(data, Dataset)
    with pytest.raises(ValueError, match=r"folder: the test split has 1 samples, asked for 0..2"):
        data.take("test", 0, 2)
    draw(tmp_path / "test/cat/a.png", 5)  # test/ is preferred to val/
    assert counts(folder(str(tmp_path)), "test") == [1]


def test_folder_is_split_by_content(tmp_path: Path) -> None:
    for i in range(200):
        draw(tmp_path / f"{i:03}.png", i, 2, 1)
    data = folder(str(tmp_path))
    assert (data.count("train"), data.count("test"), list(data.classes)) == (200, 0, [])
    halves = folder(str(tmp_path), holdout=0.25)
    train, test = (halves.take(split, 0, halves.count(split)) for split in ("train", "test"))
    assert rows(torch.cat([train.images, test.images])) == rows(data.take("train", 0, 200).images)
    # binomial(200, 1/4): outside of 20..80 with probability below 1e-7
    assert 20 < len(test.images) < 80
    assert test.labels is None
    # what is written in another order has the same halves
    for i in range(200):
        draw(tmp_path / "again" / f"{199 - i:03}.png", i, 2, 1)
    assert torch.equal(
        folder(str(tmp_path / "again"), holdout=0.25).take("test", 0, len(test.images)).images, test.images
    )


def test_folder_resizes_the_shorter_side_and_cuts_the_centre(tmp_path: Path) -> None:
    stripes = np.zeros((8, 32, 3), np.uint8)
    stripes[:, 8:24] = (200, 100, 50)  # wide enough that the bicubic kernel of the centre does not reach the edges
    Image.fromarray(stripes).save(tmp_path / "wide.png")
    Image.fromarray(stripes.transpose(1, 0, 2)).save(tmp_path / "tall.png")
    images = folder(str(tmp_path), size=4, holdout=0).take("train", 0, 2).images
    assert torch.equal(images, torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].expand(2, 3, 4, 4))
    # ITU-R 601: 0.299 R + 0.587 G + 0.114 B = 124.2
    grey = folder(str(tmp_path), size=4, mode="L", holdout=0).take("train", 0, 2).images
    assert grey.shape == (2, 1, 4, 4)
    assert grey.unique().tolist() == [124]
    assert folder(str(tmp_path), size=33, holdout=0).take("train", 0, 2).images.shape == (2, 3, 33, 33)


def test_folder_does_not_resample_what_fits(tmp_path: Path) -> None:
    wide = draw(tmp_path / "a.png", 0, 6, 4)
    assert np.array_equal(folder(str(tmp_path), size=4, holdout=0).take("train", 0, 1).images[0], wide[:, :, 1:5])


def test_folder_fingerprint_follows_content_and_options_and_not_names(tmp_path: Path) -> None:
    for root in ("one", "two"):
        for seed in range(4):
            draw(tmp_path / root / "class" / f"{seed}.png", seed)
    one = folder(str(tmp_path / "one")).fingerprint
    assert one == folder(str(tmp_path / "two")).fingerprint
    others = [
        folder(str(tmp_path / "one"), size, mode, holdout)
        for size, mode, holdout in [(2, "auto", 0.0), (0, "L", 0.0), (0, "auto", 0.5)]
    ]
    assert len({one, *(other.fingerprint for other in others)}) == 4
    assert one == folder(str(tmp_path / "one"), mode="RGB").fingerprint
    (tmp_path / "two/class/0.png").rename(tmp_path / "two/class/9.png")
    assert folder(str(tmp_path / "two")).fingerprint == one
    (tmp_path / "two/class").rename(tmp_path / "two/kind")
    assert folder(str(tmp_path / "two")).fingerprint != one
    draw(tmp_path / "one/class/0.png", 77)
    assert folder(str(tmp_path / "one")).fingerprint != one


def test_folder_names_the_file_that_does_not_fit(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 0)
    draw(tmp_path / "b.png", 1, width=7)
    with pytest.raises(ValueError, match=r"b.png has 7 x 4 pixels, a.png 6 x 4; give dataset.folder.size=PIXELS"):
        folder(str(tmp_path), holdout=0)
    assert folder(str(tmp_path), size=4, holdout=0).count("train") == 2


def test_folder_names_the_file_that_cannot_be_read(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", 0, 40, 40)
    cut = tmp_path / "b.png"
    cut.write_bytes((tmp_path / "a.png").read_bytes()[:300])
    with pytest.raises(ValueError, match=r"b.png cannot be read as an image"):
        folder(str(tmp_path))
    cut.write_text("not an image")
    with pytest.raises(ValueError, match=r"b.png cannot be read as an image"):
        folder(str(tmp_path))
    Image.fromarray(np.full((40, 40), 40_000, np.uint16)).save(cut)
    with pytest.raises(ValueError, match=r"b.png cannot be read .* not 8 bits per channel"):
        folder(str(tmp_path))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.png", "cat/b.png"], "a.png is in no class folder, but other files are"),
        (["train/cat/a.png"], "contains only train/; add the other split"),
        (["train/cat/a.png", "test/dog/a.png"], "class 'dog' is in the test split alone"),
        (["train/cat/a.png", "test/a.png"], "test/a.png is in no class folder"),
    ],
)
def test_folder_refuses_unclear_layouts(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        draw(tmp_path / name, 0)
    with pytest.raises(ValueError, match=message):
        folder(str(tmp_path), holdout=0)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train/a.png", "tram/a.png"):
        draw(tmp_path / name, 0)
    assert list(folder(str(tmp_path), holdout=0).classes) == ["train", "tram"]


def test_folder_needs_images_and_valid_options(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give dataset.folder.root=DIRECTORY"):
        folder()
    with pytest.raises(FileNotFoundError, match="does not exist; give a directory"):
        folder(str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="has no images"):
        folder(str(tmp_path))
    with pytest.raises(ValueError, match="mode='RGBA' must be one of auto, RGB, L"):
        folder(str(tmp_path), mode="RGBA")
    with pytest.raises(ValueError, match="size=-1"):
        folder(str(tmp_path), size=-1)
    with pytest.raises(ValueError, match="holdout=1 must be"):
        folder(str(tmp_path), holdout=1)
