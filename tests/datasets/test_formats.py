"""The same images in every format are the same data set and the same samples, in the same order, with their labels."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from assay.datasets.array import array
from assay.datasets.folder import folder
from assay.generators.replay import Replay, replay
from assay.harness.command.paths import real_data
from assay.harness.core.protocols import Dataset
from assay.harness.formats.arrays import holds_arrays

IMAGES = np.random.default_rng(0).integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = np.random.default_rng(1).integers(0, 2, 40)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_CACHE", str(tmp_path / "cache"))


def encoded(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return file.getvalue()


def tar(path: Path, files: Iterable[tuple[str, bytes]], mode: str = "w") -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def drawn(path: Path, images: np.ndarray) -> Path:
    path.mkdir()
    for i, image in enumerate(images):
        (path / f"{i}.png").write_bytes(encoded(image))
    return path


def zipped(path: Path, images: np.ndarray) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for i, image in enumerate(images[::-1]):
            archive.writestr(f"x{i}.png", encoded(image))
    return path


def packed(path: Path, images: np.ndarray) -> Path:
    mode = {".gz": "w:gz", ".xz": "w:xz"}.get(path.suffix, "w")
    return tar(path, ((f"./{7 * i % 1009}.png", encoded(image)) for i, image in enumerate(images)), mode)


def shards(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    """Every third image in each archive, under the same names."""
    for shard in range(3):
        files = [(f"{n:03}.png", encoded(image)) for n, image in enumerate(images[shard::3])]
        if labels is not None:
            files += [(f"{n:03}.cls", str(label).encode()) for n, label in enumerate(labels[shard::3])]
        tar(path / f"part-{shard}.tar", files)
    (path / "index.json").write_text("{}")
    return path


def database(path: Path, images: np.ndarray) -> Path:
    """Small and large values; a key beside them as many tools write one. A path with a suffix is a file."""
    with lmdb.open(str(path), map_size=2**24, subdir=not path.suffix) as opened, opened.begin(write=True) as writing:
        for i, image in enumerate(images):
            writing.put(f"{7 * i % 1009:08}".encode(), encoded(image))
        writing.put(b"length", str(len(images)).encode())
    return path


def table(images: np.ndarray, labels: np.ndarray | None = None) -> pa.Table:
    """As `datasets` writes it."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array([{"bytes": encoded(image), "path": None} for image in images], kind)}
    if labels is not None:
        columns["label"] = pa.array(labels)
    about = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(about)})


def parquet(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    pq.write_table(table(images, labels), path, row_group_size=7)
    return path


def parquets(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    (path / "data").mkdir(parents=True)
    (path / "README.md").write_text("x")
    for i, part in enumerate((slice(0, 13), slice(13, None))):
        parquet(
            path / "data" / f"train-0000{i}-of-00002.parquet", images[part], None if labels is None else labels[part]
        )
    return path


def saved(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    path.mkdir()
    for name in ("state.json", "dataset_info.json"):
        (path / name).write_text("{}")
    rows = table(images, labels)
    with pa.OSFile(str(path / "data-00000-of-00001.arrow"), "wb") as file, pa.ipc.new_stream(file, rows.schema) as out:
        out.write_table(rows, max_chunksize=9)
    return path


def npz(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    np.savez(path, images, *([] if labels is None else [labels]))
    return path


def npy(path: Path, images: np.ndarray) -> Path:
    np.save(path, images)
    return path


def hdf5(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=images, chunks=(7, *images.shape[1:]), compression="gzip")
        if labels is not None:
            file["y"] = labels[:, None]
    return path


def tensor(path: Path, images: np.ndarray, labels: np.ndarray | None = None) -> Path:
    stored = torch.from_numpy(images)
    if labels is None:
        torch.save(stored.permute(0, 3, 1, 2) if images.ndim == 4 else stored, path)
    else:
        torch.save((stored, torch.from_numpy(labels)), path)
    return path


FORMATS = {
    "folder": drawn, "a.zip": zipped, "a.tar": packed, "a.tar.gz": packed, "a.tar.xz": packed, "shards": shards,
    "lmdb": database, "a.lmdb": database, "a.parquet": parquet, "parquets": parquets, "saved": saved, "a.npz": npz,
    "a.npy": npy, "a.h5": hdf5, "a.pt": tensor,
}  # fmt: skip
LABELLED = {
    "shards": shards, "a.parquet": parquet, "parquets": parquets, "saved": saved, "a.npz": npz, "a.h5": hdf5,
    "a.pt": tensor,
}  # fmt: skip
CUT = ("a.zip", "a.tar", "a.tar.gz", "a.tar.xz", "a.lmdb", "a.parquet", "a.npz", "a.npy", "a.h5", "a.pt")


def opened(path: Path) -> Dataset:
    _, kind, _ = real_data(path)
    data: Dataset = {"array": array, "folder": folder}[kind](str(path))
    return data


@pytest.mark.parametrize("images", [IMAGES, IMAGES[..., 0]], ids=["colour", "grey"])
def test_every_format_is_the_same_data_set(tmp_path: Path, images: np.ndarray) -> None:
    plain = folder(str(drawn(tmp_path / "plain", images)))
    pixels = plain.take("train", 0, 40).images
    model = replay("any", str(tmp_path / "plain"))
    samples = model.decode(model.latents(range(40)))
    assert torch.equal(samples.flatten(1).unique(dim=0), (pixels / 255).flatten(1).unique(dim=0))
    assert sorted(image.numpy().tobytes() for image in pixels) == sorted(
        image.tobytes() for image in (images.transpose(0, 3, 1, 2) if images.ndim == 4 else images[:, None])
    )
    for name, write in FORMATS.items():
        path = write(tmp_path / name, images)
        data, fake = opened(path), replay("any", str(path))
        assert data.fingerprint == plain.fingerprint, name
        assert torch.equal(data.take("train", 0, 40).images, pixels), name
        assert fake.fingerprint == model.fingerprint, name
        assert torch.equal(fake.decode(fake.latents(range(40))), samples), name


def test_colour_arrays_of_grey_images_are_grey_as_files_are(tmp_path: Path) -> None:
    images = IMAGES[..., :1].repeat(3, 3)
    plain = folder(str(drawn(tmp_path / "plain", images)))
    path = str(npy(tmp_path / "a.npy", images))
    assert array(path).fingerprint == plain.fingerprint
    assert array(path, mode="RGB").fingerprint == folder(str(tmp_path / "plain"), mode="RGB").fingerprint
    colour = str(npy(tmp_path / "colour.npy", IMAGES))
    assert array(colour, mode="L").fingerprint == folder(str(drawn(tmp_path / "c", IMAGES)), mode="L").fingerprint


@pytest.mark.parametrize("name", LABELLED)
def test_labels_are_those_of_the_images(tmp_path: Path, name: str) -> None:
    data = opened(LABELLED[name](tmp_path / name, IMAGES, LABELS))
    samples = data.take("train", 0, 40)
    row = {image.tobytes(): i for i, image in enumerate(IMAGES.transpose(0, 3, 1, 2))}
    assert samples.labels is not None
    assert samples.labels.tolist() == [LABELS[row[image.numpy().tobytes()]] for image in samples.images]
    named = name in ("a.parquet", "parquets", "saved")
    assert list(data.classes) == (["cat", "dog"] if named else ["0", "1"])


def test_class_folders_in_archives_are_classes(tmp_path: Path) -> None:
    names = [f"{('cat', 'dog')[label]}/{i}.png" for i, label in enumerate(LABELS)]
    files = list(zip(names, map(encoded, IMAGES), strict=True))
    one = folder(str(tar(tmp_path / "a.tar", files)))
    for shard in range(2):
        tar(tmp_path / "shards" / f"{shard}.tar", files[shard::2])
    two = folder(str(tmp_path / "shards"))
    assert one.fingerprint == two.fingerprint
    assert list(one.classes) == ["cat", "dog"]


def test_splits_of_shards(tmp_path: Path) -> None:
    for name, part in (("train-0", slice(0, 20)), ("train-1", slice(20, 30)), ("validation-0", slice(30, 40))):
        tar(tmp_path / "tars" / f"{name}.tar", ((f"{i}.png", encoded(x)) for i, x in enumerate(IMAGES[part])))
        (tmp_path / "tables").mkdir(exist_ok=True)
        parquet(tmp_path / "tables" / f"{name}.parquet", IMAGES[part], LABELS[part])
    for kind in ("tars", "tables"):
        data = folder(str(tmp_path / kind))
        assert (data.count("train"), data.count("test")) == (30, 10)
        held = {image.numpy().tobytes() for image in data.take("test", 0, 10).images}
        assert held == {image.tobytes() for image in IMAGES[30:].transpose(0, 3, 1, 2)}


def test_the_other_data_set_is_named(tmp_path: Path) -> None:
    for name, write in FORMATS.items():
        path = write(tmp_path / name, IMAGES)
        if holds_arrays(path):
            with pytest.raises(ValueError, match=rf"holds arrays; use dataset=array dataset\.array\.path={path}"):
                folder(str(path))
        else:
            with pytest.raises(ValueError, match=rf"use dataset=folder dataset\.folder\.root={path}"):
                array(str(path))


def test_what_is_left_out_of_a_container_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder(str(database(tmp_path / "lmdb", IMAGES)))
    assert "read 40 images; left out 1 without a suffix" in " ".join(capsys.readouterr().err.split())
    folder(str(tar(tmp_path / "a.tar", [("a.png", encoded(IMAGES[0])), ("a.txt", b""), ("b.mp4", b"")])))
    assert "read 1 images; left out 1 .txt, 1 .mp4" in " ".join(capsys.readouterr().err.split())


def test_arrays_beside_the_images_stay_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "a.npz", IMAGES, np.zeros((3, 2)))
    assert list(array(str(tmp_path / "a.npz")).classes) == []
    assert "left out arr_1, float64 of shape (3, 2), which are no labels" in " ".join(capsys.readouterr().err.split())


def damaged(write: Callable[..., Path], path: Path, share: float) -> Path:
    write(path, IMAGES)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


@pytest.mark.parametrize("share", [0.05, 0.5, 0.75])
@pytest.mark.parametrize("name", CUT)
def test_what_is_cut_off_is_one_clear_line(tmp_path: Path, name: str, share: float) -> None:
    path = damaged(FORMATS[name], tmp_path / name, share)
    with pytest.raises(ValueError, match=name) as caught:
        replay("any", str(path))
    assert "\n" not in str(caught.value)
    assert any(word in str(caught.value) for word in ("again", "damaged", "cannot be", "not a readable", "unpack"))


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    broken = encoded(IMAGES[1])[:40]
    files = [("a.png", encoded(IMAGES[0])), ("b.png", broken)]
    with pytest.raises(ValueError, match=r"a\.tar/b\.png cannot be read as an image"):
        replay("any", str(tar(tmp_path / "a.tar", files)))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for content, words in (
        ({"bytes": b"garbage", "path": "b.png"}, r"a\.parquet/000000001\.png cannot be read as an image"),
        ({"bytes": None, "path": "b.png"}, "row 1 has only its path"),
        (None, "row 1 has no image"),
    ):
        rows = pa.array([{"bytes": files[0][1], "path": None}, content], kind)
        pq.write_table(pa.table({"image": rows}), tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=words):
            replay("any", str(tmp_path / "a.parquet"))


def test_codes_of_rows_go_with_them(tmp_path: Path) -> None:
    codes = np.arange(80.0).reshape(40, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"], file["latents"] = IMAGES, codes
    torch.save({"images": torch.from_numpy(IMAGES), "latents": torch.from_numpy(codes)}, tmp_path / "a.pt")
    for name in ("a.h5", "a.pt"):
        model = replay("any", str(tmp_path / name))
        assert isinstance(model, Replay)
        order = [int(row) for row in model.names]
        assert np.array_equal(model.latents(range(40), "z"), codes[order])
        assert np.array_equal((model.decode(model.latents(range(40))) * 255).round().permute(0, 2, 3, 1), IMAGES[order])
