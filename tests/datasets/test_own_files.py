"""The files of a user are read whole, and what they are called or how they are packed changes nothing."""

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from assay.datasets.array import array
from assay.datasets.folder import Folder, folder
from assay.generators.replay import Replay, replay

IMAGES = np.random.default_rng(0).integers(0, 256, (700, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(700) % 2
FEW = IMAGES[:30]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join("".join(capsys.readouterr()).split())


def write(top: Path, name: Callable[[int], str], images: np.ndarray = IMAGES, **options: object) -> Path:
    for i, image in enumerate(images):
        path = top / name(i)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, **options)
    return top


def shuffled(i: int) -> int:
    return i * 379 % 700


def all_of(data: object) -> tuple[Tensor, Tensor | None]:
    assert isinstance(data, Folder)
    return data.take("train", 0, data.count("train"))


def linked(top: Path, to: Path) -> Path:
    """Files that are links, in a folder that is a link."""
    (top / "elsewhere").mkdir(parents=True)
    for file in to.iterdir():
        (top / "elsewhere" / f"l{file.name}").symlink_to(file)
    (top / "root").mkdir()
    (top / "root" / "x").symlink_to(top / "elsewhere")
    return top / "root" / "x"


def test_copies_of_a_folder_are_the_same_data_set(tmp_path: Path) -> None:
    plain = folder(str(write(tmp_path / "plain", lambda i: f"{i}.png")))
    images, labels = all_of(plain)
    assert labels is None
    assert sorted(image.numpy().tobytes() for image in images) == sorted(
        image.tobytes() for image in IMAGES.transpose(0, 3, 1, 2)
    )
    copies = [
        write(tmp_path / "shuffled", lambda i: f"{shuffled(i)}.png"),
        write(tmp_path / "renamed", lambda i: f"photo {i:05}.PNG", compress_level=1),
        write(tmp_path / "bmp", lambda i: f"{i}.bmp"),
        write(tmp_path / "tiff", lambda i: f"{i}.tif", compression="tiff_lzw"),
        write(tmp_path / "webp", lambda i: f"{i}.webp", lossless=True),
        write(tmp_path / "mixed", lambda i: f"{i}.{('ppm', 'tga', 'gif', 'dib', 'jp2')[i % 4]}"),
        linked(tmp_path / "linked", tmp_path / "plain"),
    ]
    for copy in copies:
        data = folder(str(copy))
        assert data.fingerprint == plain.fingerprint, copy
        assert torch.equal(all_of(data)[0], images), copy
    np.save(tmp_path / "rows.npy", IMAGES[::-1])
    assert array(str(tmp_path / "rows.npy")).fingerprint == plain.fingerprint


def test_class_folders_change_nothing_but_labels(tmp_path: Path) -> None:
    plain = folder(str(write(tmp_path / "plain", lambda i: f"{i}.png")))
    one = folder(str(write(tmp_path / "one", lambda i: f"{('cat', 'dog')[i % 2]}/{i}.png")))
    two = folder(str(write(tmp_path / "two", lambda i: f"{('cat', 'dog')[i % 2]}/sub/{shuffled(i)}.bmp")))
    (tmp_path / "three").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "three" / name).symlink_to(tmp_path / "one" / name)
    three = folder(str(tmp_path / "three"))
    assert one.fingerprint == two.fingerprint == three.fingerprint != plain.fingerprint
    images, labels = all_of(one)
    assert torch.equal(all_of(plain)[0], images)
    assert labels is not None
    row = {image.tobytes(): i for i, image in enumerate(IMAGES.transpose(0, 3, 1, 2))}
    assert labels.tolist() == [LABELS[row[image.numpy().tobytes()]] for image in images]


def test_labels_of_equal_images_do_not_depend_on_names(tmp_path: Path) -> None:
    same = np.repeat(FEW[:1], 6, 0)
    one = folder(str(write(tmp_path / "one", lambda i: f"{'aab'[i % 3]}/{i}.png", same)))
    two = folder(str(write(tmp_path / "two", lambda i: f"{'aab'[i % 3]}/{9 - i}.png", same)))
    assert one.fingerprint == two.fingerprint
    labels = all_of(one)[1]
    assert labels is not None
    assert labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_replayed_copies_are_the_same_samples(tmp_path: Path) -> None:
    def opened(top: Path) -> Replay:
        model = replay("any", str(top))
        assert isinstance(model, Replay)
        return model

    plain = opened(write(tmp_path / "plain", lambda i: f"{i}.png", FEW))
    for copy in (
        write(tmp_path / "other", lambda i: f"{i % 3}/{100 - i}.webp", FEW, lossless=True),
        linked(tmp_path / "linked", tmp_path / "plain"),
    ):
        model = opened(copy)
        assert model.fingerprint == plain.fingerprint
        assert torch.equal(model.decode(model.latents(range(30))), plain.decode(plain.latents(range(30))))
    for number in (0, 7, 29):
        stored = np.asarray(Image.open(tmp_path / "plain" / plain.names[number])).transpose(2, 0, 1)
        assert np.array_equal((plain.decode(plain.latents([number]))[0] * 255).round().byte(), stored)


@pytest.mark.parametrize("suffix", [".bmp", ".pgm", ".webp", ".gif", ".tiff"])
def test_grey_images_are_grey_in_every_format(tmp_path: Path, suffix: str) -> None:
    options = {"lossless": True} if suffix == ".webp" else {}
    one = write(tmp_path / "one", lambda i: f"{i}.png", FEW[..., 0])
    two = write(tmp_path / "two", lambda i: f"{i}{suffix}", FEW[..., 0], **options)
    assert folder(str(one)).fingerprint == folder(str(two)).fingerprint == folder(str(two), mode="L").fingerprint
    assert folder(str(two), mode="RGB").fingerprint != folder(str(one)).fingerprint
    assert all_of(folder(str(two)))[0].shape == (30, 1, 6, 5)
    assert replay("any", str(one)).fingerprint == replay("any", str(two)).fingerprint


def test_what_is_left_out_is_counted_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = write(tmp_path / "a", lambda i: f"{i}.png", FEW)
    for name in ("a.txt", "b.txt", "c.TXT", "clip.mp4", "noted"):
        (top / name).write_text("x")
    data = folder(str(top))
    words = said(capsys)
    assert data.count("train") == 30
    assert "read 30 images; left out 3 .txt, 1 .mp4, 1 without a suffix" in words
    folder(str(top))
    assert "left out" not in said(capsys)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "clip.mp4").touch()
    with pytest.raises(FileNotFoundError, match=r"has no images, but 1 \.mp4"):
        folder(str(tmp_path / "b"))


def test_links_that_lead_nowhere_or_round_are_no_trap(tmp_path: Path) -> None:
    top = write(tmp_path / "a", lambda i: f"x/{i}.png", FEW)
    (top / "x" / "again").symlink_to(top)
    (top / "x" / "self").symlink_to(top / "x" / "self")
    assert folder(str(top)).count("train") == 30
    broken = top / "x" / "gone.png"
    for target, words in (("/nowhere", "a link to nothing"), (os.devnull, "not a regular file")):
        broken.symlink_to(target)
        with pytest.raises(ValueError, match=rf"gone.png cannot be read as an image \({words}"):
            folder(str(top))
        broken.unlink()


def test_images_count_as_they_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Transparency is over white, whatever lies below it; EXIF orientation is applied, in every format."""
    seen = FEW[0]
    clear = np.arange(5) < 2
    white = np.where(clear[:, None], 255, seen).astype(np.uint8)
    for name, hidden in (("a", 0), ("b", 255)):
        below = np.where(clear[:, None], hidden, seen).astype(np.uint8)
        alpha = np.where(clear, 0, 255).astype(np.uint8)[None, :, None].repeat(6, 0)
        (tmp_path / "shown").mkdir(exist_ok=True)
        Image.fromarray(np.concatenate([below, alpha], 2)).save(tmp_path / "shown" / f"{name}.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned clockwise by a quarter
    for suffix, options in ((".png", {}), (".webp", {"lossless": True}), (".tif", {})):
        lying = Image.fromarray(np.rot90(FEW[1]).copy())
        lying.save(tmp_path / "shown" / f"t{suffix}", exif=turned, **options)
    opaque = np.concatenate([FEW[2], np.full((6, 5, 1), 255, np.uint8)], 2)
    Image.fromarray(opaque).save(tmp_path / "shown" / "opaque.png")
    moving = [Image.fromarray(image) for image in FEW[3:6]]
    moving[0].save(tmp_path / "shown" / "moving.png", save_all=True, append_images=moving[1:])
    images, _ = all_of(data := folder(str(tmp_path / "shown")))
    words = said(capsys)
    assert isinstance(data, Folder)
    found = dict(zip(data.names["train"], images.permute(0, 2, 3, 1).numpy(), strict=True))
    expected = {"a.png": white, "b.png": white, "opaque.png": FEW[2], "moving.png": FEW[3]}
    expected |= dict.fromkeys(("t.png", "t.webp", "t.tif"), FEW[1])
    assert found.keys() == expected.keys()
    for name, image in expected.items():
        assert np.array_equal(found[name], image), name
    assert "read 7 images; 2 are transparent in places and blended over white" in words
    assert "3 are turned as their EXIF orientation says; 1 is of several frames or pages" in words


def test_the_cache_knows_what_was_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = str(write(tmp_path / "a", lambda i: f"{i}.png", FEW))
    first = folder(top).fingerprint
    (kept,) = (tmp_path / "cache" / "pixels").iterdir()
    monkeypatch.setattr("assay.harness.formats.images.content_of", lambda image: pytest.fail("it was decoded again"))
    assert folder(top).fingerprint == first
    monkeypatch.undo()
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))
    for damage in (b"", b"{", b"[]", b'{"a": 1}', kept.read_bytes()[:-30]):
        kept.write_bytes(damage)
        assert folder(top).fingerprint == first
    monkeypatch.setenv("ASSAY_CACHE", os.devnull)  # where nothing can be kept
    assert folder(top).fingerprint == first


def zipped(path: Path, top: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in top.rglob("*"):
            archive.write(file, file.relative_to(top))
    return path


def test_stylegan_data_sets_have_their_labels_in_a_file(tmp_path: Path) -> None:
    top = write(tmp_path / "shards", lambda i: f"0000{i // 10}/img{i:08}.png", FEW)
    stated = [[f"0000{i // 10}/img{i:08}.png", 2 * (i % 2)] for i in range(30)]
    (top / "dataset.json").write_text(json.dumps({"labels": stated}))
    data = folder(str(top))
    images, labels = all_of(data)
    assert list(data.classes) == ["0", "1", "2"]
    assert labels is not None
    row = {image.tobytes(): i for i, image in enumerate(FEW.transpose(0, 3, 1, 2))}
    assert labels.tolist() == [2 * (row[image.numpy().tobytes()] % 2) for image in images]
    assert folder(str(zipped(tmp_path / "a.zip", top))).fingerprint == data.fingerprint
    one_hot = [[name, [int(k == label) for k in range(3)]] for name, label in stated]
    (top / "dataset.json").write_text(json.dumps({"labels": one_hot}))
    assert folder(str(top)).fingerprint == data.fingerprint
    (top / "dataset.json").write_text('{"labels": null}')
    assert list(folder(str(top)).classes) == []
    for text, message in (
        ("{", "is no JSON"),
        (json.dumps({"labels": stated[1:]}), "has no label of 00000/img00000000.png"),
        (json.dumps({"labels": [[name, [0.5, 0.5]] for name, _ in stated]}), "list of .name, class number"),
        ('{"labels": 3}', "list of .name, class number"),
    ):
        (top / "dataset.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            folder(str(top))


def test_an_archive_is_the_folder_that_was_packed(tmp_path: Path) -> None:
    top = write(tmp_path / "a", lambda i: f"{'xy'[i % 2]}/{i}.png", FEW)
    packed = zipped(tmp_path / "a.zip", top)
    assert folder(str(packed)).fingerprint == folder(str(top)).fingerprint
    assert torch.equal(all_of(folder(str(packed)))[0], all_of(folder(str(top)))[0])
    assert replay("any", str(packed)).fingerprint == replay("any", str(top)).fingerprint
    packed.write_bytes(packed.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"a\.zip cannot be read as a zip archive .*pack it again"):
        folder(str(packed))


def test_layouts_of_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splits = ("train", "train", "test", "val")
    above = folder(str(write(tmp_path / "above", lambda i: f"{splits[i % 4]}/{'xy'[i // 4 % 2]}/{i}.png", FEW)))
    assert "left out 7 .png that are neither in train/ nor in test/" in said(capsys)
    below = folder(str(write(tmp_path / "below", lambda i: f"{'xy'[i // 4 % 2]}/{splits[i % 4]}/{i}.png", FEW)))
    assert "left out 7 .png that are neither in train/ nor in test/" in said(capsys)
    assert above.fingerprint == below.fingerprint
    assert (below.count("train"), below.count("test"), list(below.classes)) == (16, 7, ["x", "y"])


def test_paths_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a", lambda i: f"{i}.png", FEW)
    np.save(tmp_path / "a.npy", FEW)
    assert folder("~/a").fingerprint == array("~/a.npy").fingerprint
    assert replay("any", "~/a.npy").fingerprint == replay("any", "~/a").fingerprint


def test_masks_are_refused_with_the_fix(tmp_path: Path) -> None:
    ones = FEW[..., 0] % 2
    np.save(tmp_path / "ones.npy", ones)
    with pytest.raises(ValueError, match=r"0 or 1 of 255, .*save 255 . images"):
        array(str(tmp_path / "ones.npy"))
    with pytest.raises(ValueError, match=r"0 or 1 of 255, .*multiply the images by 255"):
        folder(str(write(tmp_path / "ones", lambda i: f"{i}.png", ones)))
    np.save(tmp_path / "black.npy", 0 * ones)
    assert array(str(tmp_path / "black.npy")).count("train") == 30


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (b"\x89PNG\r\n\x1a\n", "is a PNG image; give the folder of the images"),
        (b"\x89HDF\r\n\x1a\n", r"cannot be read as an HDF5 file|holds arrays; use dataset=array"),
        (b"PAR1", r"cannot be read as a.* file .*; it is cut off or damaged|is a Parquet file; use dataset=folder"),
        (
            bytes(257) + b"ustar",
            "cannot be read as a tar archive .*; pack it again|is a tar archive; use dataset=folder",
        ),
        (b"\x1f\x8b", "is compressed with gzip; decompress it"),
        (b"\x80\x04", r"is a pickle; save .* numpy\.save"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, begin: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(begin + bytes(50))
    for opener in (array, folder, lambda path: replay("any", path)):
        with pytest.raises(ValueError, match=message) as caught:
            opener(str(path))
        assert "allow_pickle" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_folder_and_a_file_are_not_taken_for_each_other(tmp_path: Path) -> None:
    top = write(tmp_path / "a", lambda i: f"{i}.png", FEW)
    np.save(tmp_path / "a.npy", FEW)
    with pytest.raises(ValueError, match=r"is a directory; use dataset=folder dataset\.folder\.root="):
        array(str(top))
    with pytest.raises(ValueError, match=r"is a zip archive; use dataset=folder"):
        array(str(zipped(tmp_path / "a.zip", top)))
    with pytest.raises(ValueError, match=r"holds arrays; use dataset=array dataset\.array\.path="):
        folder(str(tmp_path / "a.npy"))


@pytest.mark.parametrize("shape", [(32, 32, 3), (3, 32, 32), (32, 32, 4), (32, 32, 1)])
def test_one_image_is_no_array_of_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "one.npy", np.full(shape, 200, np.uint8))
    for opener in (array, lambda path: replay("any", path)):
        with pytest.raises(ValueError, match=r"may be one image .* save images\[None\]"):
            opener(str(tmp_path / "one.npy"))


@pytest.mark.parametrize("shape", [(40, 4, 4), (1, 32, 32), (2, 32, 32), (4, 32, 32), (1, 1, 1)])
def test_small_or_few_grey_images_are_an_array_of_images(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "grey.npy", np.full(shape, 200, np.uint8))
    assert array(str(tmp_path / "grey.npy")).take("train", 0, 1).images.shape == (1, 1, *shape[1:])


def test_names_of_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of numpy.savez, MedMNIST and Keras, with labels in a column or as names."""
    np.save(tmp_path / "a.npy", FEW)
    plain = array(str(tmp_path / "a.npy"))
    np.savez(tmp_path / "savez.npz", FEW)
    assert array(str(tmp_path / "savez.npz")).fingerprint == plain.fingerprint
    labels = LABELS[:30, None]
    part = {"images": FEW[:8], "labels": labels[:8]}
    medical = {f"train_{name}": values for name, values in (("images", FEW), ("labels", labels))}
    medical |= {f"{split}_{name}": values for split in ("val", "test") for name, values in part.items()}
    np.savez(tmp_path / "medical.npz", **medical)
    np.savez(tmp_path / "keras.npz", x_train=FEW, y_train=labels[:, 0], x_test=FEW[:8], y_test=labels[:8, 0])
    np.savez(tmp_path / "ours.npz", images=FEW, labels=labels, test_images=FEW[:8], test_labels=labels[:8])
    ours, others = array(str(tmp_path / "ours.npz")), [array(str(tmp_path / f"{n}.npz")) for n in ("medical", "keras")]
    assert (ours.count("train"), ours.count("test"), list(ours.classes)) == (30, 8, ["0", "1"])
    assert {other.fingerprint for other in others} == {ours.fingerprint}
    assert "left out val_images; test_images is the test split" in said(capsys)
    words = np.array(["cat", "dog"])[LABELS[:30]]
    np.savez(tmp_path / "words.npz", images=FEW, labels=words[:, None])
    named = folder(str(write(tmp_path / "named", lambda i: f"{words[i]}/{i}.png", FEW)))
    assert array(str(tmp_path / "words.npz")).fingerprint == named.fingerprint
    assert replay("any", str(tmp_path / "medical.npz")).decode(torch.zeros(1, 1)).shape == (1, 3, 6, 5)


def test_an_array_that_nobody_reads_costs_nothing(tmp_path: Path) -> None:
    """An unused array that says it has 6 GiB, and a used one that lies."""

    def header(shape: tuple[int, ...]) -> bytes:
        file = io.BytesIO()
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        return file.getvalue()

    content = io.BytesIO()
    np.save(content, FEW)
    for images in (content.getvalue(), header((10**6, 100, 100, 3)) + bytes(1000)):
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("unused.npy", header((6 * 2**30,)) + bytes(1000))
            archive.writestr("images.npy", images)
        if images == content.getvalue():
            assert array(str(tmp_path / "a.npz")).count("train") == 30
        else:
            with pytest.raises(ValueError, match=r"array images cannot be read \(cut off or damaged"):
                array(str(tmp_path / "a.npz"))


def test_sixteen_bits_per_channel_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Pillow reads such a PNG in colour as 8 bits; a grey one it does not, and it is refused."""
    deep = np.random.default_rng(0).integers(0, 2**16, (4, 5, 3)).astype(">u2")

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.tobytes() for row in deep)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "deep.png").write_bytes(content)
    images, _ = all_of(folder(str(tmp_path / "a")))
    assert np.array_equal(images[0].permute(1, 2, 0), (deep >> 8).astype(np.uint8))
    assert "1 is of 16 bits per channel, of which the upper 8 are taken" in said(capsys)
    Image.fromarray(deep[..., 0].astype(np.uint16)).save(tmp_path / "a" / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png cannot be read .* not 8 bits per channel"):
        folder(str(tmp_path / "a"))
