"""Stored samples come back bit for bit, and what replay cannot do is said."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay.datasets.array import array
from assay.datasets.folder import folder
from assay.generators.replay import Replay, replay
from assay.harness.arrays.store import Store
from assay.harness.arrays.views import Views
from assay.harness.core.abilities import Encoder
from assay.harness.core.protocols import Generator, View

COLOUR = np.random.default_rng(0).integers(0, 256, (10, 3, 8, 6), dtype=np.uint8)
CODES = np.random.default_rng(1).standard_normal((10, 5))


def opened(path: Path, **options: str) -> Replay:
    model = replay("any", str(path), **options)
    assert isinstance(model, Replay)
    assert isinstance(model, Generator)
    return model


def saved(path: Path, images: np.ndarray) -> Path:
    np.save(path / "made.npy", images)
    return path / "made.npy"


def drawn(top: Path, images: np.ndarray) -> Path:
    """A folder of images [N, C, H, W]; the order of their names is theirs."""
    top.mkdir(parents=True, exist_ok=True)
    for i, image in enumerate(images):
        Image.fromarray(image.transpose(1, 2, 0).squeeze()).save(top / f"{i:03}.png")
    return top


def shown(model: Replay, stop: int = 10) -> np.ndarray:
    """Samples 0..stop as the harness stores them."""
    return (model.decode(model.latents(range(stop))).clamp(0, 1) * 255).round().byte().numpy()


def numbers(model: Replay) -> list[int]:
    """Of each sample, the number of its row, or the one that its file was drawn with."""
    return [int(Path(name).stem) for name in model.names]


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 2, 3, 1), COLOUR),
        (COLOUR[:, 0], COLOUR[:, :1]),
        ((COLOUR / 255).astype(np.float32), COLOUR),
    ],
    ids=["NCHW", "NHWC", "NHW", "float"],
)
def test_arrays_come_back(tmp_path: Path, stored: np.ndarray, expected: np.ndarray) -> None:
    model = opened(saved(tmp_path, stored))
    assert sorted(numbers(model)) == list(range(10))
    assert np.array_equal(shown(model), expected[numbers(model)])


def test_every_grey_value_survives(tmp_path: Path) -> None:
    values = np.arange(256, dtype=np.uint8)[:, None, None].repeat(2, 1).repeat(2, 2)
    model = opened(saved(tmp_path, values))
    assert np.array_equal(shown(model, 256)[:, 0], values[numbers(model)])


def test_files_come_back_with_their_names(tmp_path: Path) -> None:
    for name, images in (("colour", COLOUR), ("grey", COLOUR[:, :1])):
        model = opened(drawn(tmp_path / name, images))
        assert np.array_equal(shown(model), images[numbers(model)])
        assert sorted(numbers(model)) == list(range(10))
    one_in_colour = drawn(tmp_path / "grey", COLOUR[:3, :1])
    Image.fromarray(COLOUR[0].transpose(1, 2, 0)).save(one_in_colour / "a.png")
    assert shown(opened(one_in_colour)).shape[1] == 3
    assert shown(opened(one_in_colour, mode="L")).shape[1] == 1


def test_archives_of_published_sample_batches(tmp_path: Path) -> None:
    np.savez(tmp_path / "batch.npz", COLOUR.transpose(0, 2, 3, 1), np.arange(10))
    model = opened(tmp_path / "batch.npz")
    assert np.array_equal(shown(model), COLOUR[numbers(model)])
    assert model.spaces == ("sample",)


def test_a_sample_is_the_same_alone_and_among_others(tmp_path: Path) -> None:
    for path in (saved(tmp_path, COLOUR), drawn(tmp_path / "files", COLOUR)):
        model = opened(path)
        assert torch.equal(
            model.latents(range(10)),
            torch.cat([model.latents(range(4)), model.latents([4]), model.latents(range(5, 10))]),
        )
        assert torch.equal(
            model.decode(model.latents([7, 2, 7]))[1:], torch.cat([model.decode(model.latents([i])) for i in (2, 7)])
        )


def test_the_harness_sees_replayed_samples_as_it_sees_real_ones(tmp_path: Path) -> None:
    """The same file as data set and as generator gives the same bytes; asking for too many says how many there are."""
    path = saved(tmp_path, (COLOUR / 255).astype(np.float64))
    views = Views(array(str(path), holdout=0), opened(path), "pixels", Store(tmp_path / "store"), torch.device("cpu"))
    fake, real = (views.tensor(View(source, "images"), 0, 10) for source in ("fake", "real"))
    assert torch.equal(fake.flatten(1).unique(dim=0), real.flatten(1).unique(dim=0))
    for seed, n in ((0, 11), (1, 11)):
        with pytest.raises(ValueError, match=r"n=11: there are 10 generated samples and no more; leave n out"):
            views.tensor(View("fake", "images"), seed, n)
    files = drawn(tmp_path / "files", COLOUR)
    in_order = folder(str(files)).take("train", 0, 10).images
    assert torch.equal(fake.flatten(1).unique(dim=0), (in_order / 255).flatten(1).unique(dim=0))


def test_codes_beside_the_samples(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=COLOUR, latents=CODES)
    np.save(tmp_path / "codes.npy", CODES)
    inside, apart = opened(tmp_path / "a.npz"), opened(saved(tmp_path, COLOUR), latents=str(tmp_path / "codes.npy"))
    beside = opened(drawn(tmp_path / "files", COLOUR), latents=str(tmp_path / "codes.npy"))
    for model in (inside, apart, beside):
        assert model.spaces == ("sample", "z")
        order = numbers(model)
        assert np.array_equal(model.latents([3, 0], "z"), CODES[[order[3], order[0]]].astype(np.float32))
        assert np.array_equal(shown(model), COLOUR[order])
        with pytest.raises(ValueError, match="no network"):
            model.decode(model.latents([0], "z"), "z")
    assert inside.fingerprint == apart.fingerprint == beside.fingerprint != opened(tmp_path / "made.npy").fingerprint


def test_nothing_between_samples_and_no_gradient(tmp_path: Path) -> None:
    model = opened(saved(tmp_path, COLOUR))
    assert not isinstance(model, Encoder)
    with pytest.raises(ValueError, match="nothing between its samples"):
        model.decode(torch.tensor([[0.5]]))
    with pytest.raises(ValueError, match="neither decode nor differentiate"):
        model.decode(model.latents([0]).requires_grad_())
    with pytest.raises(ValueError, match="asked for number -1"):
        model.latents([-1])


def test_fingerprint_follows_content_and_codes(tmp_path: Path) -> None:
    one, two = drawn(tmp_path / "one", COLOUR), drawn(tmp_path / "two", COLOUR)
    np.save(tmp_path / "codes.npy", CODES)
    codes = {"latents": str(tmp_path / "codes.npy")}
    assert opened(one, **codes).fingerprint == opened(two, **codes).fingerprint != opened(one).fingerprint
    (two / "000.png").rename(two / "999.png")
    assert opened(one).fingerprint == opened(two).fingerprint
    assert opened(one, **codes).fingerprint != opened(two, **codes).fingerprint
    Image.fromarray(255 - COLOUR[0].transpose(1, 2, 0)).save(two / "999.png")
    assert opened(one).fingerprint != opened(two).fingerprint
    first = opened(saved(tmp_path, COLOUR)).fingerprint
    assert first == opened(saved(one, COLOUR)).fingerprint
    assert first != opened(saved(one, 255 - COLOUR)).fingerprint


def test_what_cannot_be_replayed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give generator.replay.path=FILE"):
        replay("any")
    with pytest.raises(FileNotFoundError, match="absent does not exist"):
        opened(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match="has no images"):
        opened(tmp_path)
    np.savez(tmp_path / "a.npz", pictures=COLOUR)
    with pytest.raises(ValueError, match=r"has no array `images` .*; it has pictures"):
        opened(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"images: row 0 of 10 holds .*, outside \[0, 1\]"):
        opened(saved(tmp_path, COLOUR + 1.5))
    (tmp_path / "text.npy").write_text("no array")
    with pytest.raises(ValueError, match=r"not a readable .npy or .npz file"):
        opened(tmp_path / "text.npy")
    sizes = drawn(tmp_path / "sizes", COLOUR[:2])
    Image.fromarray(COLOUR[0, 0]).resize((9, 9)).save(sizes / "002.png")
    with pytest.raises(ValueError, match=r"002.png has 9 x 9 pixels, 000.png 6 x 8; .* give them one size"):
        opened(sizes)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (CODES[:9], r"latents: float64 of shape \(9, 5\); give 10 rows"),
        (CODES[:, 0], r"float64 of shape \(10,\)"),
        (CODES.astype(complex), "complex128"),
        (np.where(np.arange(10)[:, None] == 6, np.nan, CODES), "latents: row 6 of 10 is not finite"),
    ],
)
def test_codes_that_do_not_fit_are_named(tmp_path: Path, codes: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "a.npz", images=COLOUR, latents=codes)
    with pytest.raises(ValueError, match=message):
        opened(tmp_path / "a.npz")
