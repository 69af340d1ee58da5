"""One command for each kind of input, and its number beside one that was found without assay.

    .venv/bin/python -m tests.benchmarks.inputs                # some minutes
    .venv/bin/python -m tests.benchmarks.inputs --only tar

Writes results/benchmarks/inputs.csv and .md (or --out). 300 generated and 400 real pictures are written in each form,
and one command is run. `expected` is the Fréchet distance in float64 from the arrays that were written, by NumPy and
scipy.linalg.sqrtm. `features` is the sha256 of the features of the real pictures as assay reads them.
"""

import hashlib
import json
import os
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import save_file
from scipy import linalg

from assay.harness import cli
from assay.harness.arrays.records import read_records
from assay.harness.command.paths import real_data
from assay.harness.core.registry import DATASETS, discover

from ..datasets import test_formats as forms
from ..harness.formats import test_cifar
from ..harness.objects.conftest import HuggingFace, Pictures
from .streaming import MEANS
from .tables import arguments, publish

FAKES, REALS = 300, 400
Pixels = NDArray[np.uint8]
Write = Callable[[Path, Pixels], Any]


def drawn(count: int, seed: int, brightest: int) -> Pixels:
    """Different pictures, uint8 [N, 32, 32, 3]."""
    coarse = np.random.default_rng(seed).integers(0, brightest, (count, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BILINEAR)) for one in coarse])


PAIR = {"fake": drawn(FAKES, 0, 200), "real": drawn(REALS, 1, 256)}


def features(images: Pixels) -> NDArray[np.float64]:
    """Means of blocks, [N, 48], without assay."""
    blocks = images.astype(np.float64).reshape(len(images), 4, 8, 4, 8, 3).mean((2, 4)) / 255
    return blocks.transpose(0, 3, 1, 2).reshape(len(images), -1)


def moments(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return rows.mean(0), np.cov(rows, rowvar=False)


def frechet(fake: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    (m, a), (n, b) = moments(fake), moments(real)
    return float(((m - n) ** 2).sum() + np.trace(a + b - 2 * linalg.sqrtm(a @ b).real))


def nested(path: Path, images: Pixels) -> None:
    """Folders in class folders, in formats that lose nothing."""
    for i, image in enumerate(images):
        folder = path / ("cat", "dog")[i % 2] / str(i % 3)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{i}{('.bmp', '.tif', '.ppm', '.png')[i % 4]}")


def stylegan(path: Path, images: Pixels) -> None:
    """As its data sets are packed, with labels in dataset.json."""
    with zipfile.ZipFile(path, "w") as archive:
        names = [f"{i // 100:05}/img{i:08}.png" for i in range(len(images))]
        for name, image in zip(names, images, strict=True):
            archive.writestr(name, forms.encoded(image))
        archive.writestr("dataset.json", json.dumps({"labels": [[name, i % 5] for i, name in enumerate(names)]}))


def webdataset(path: Path, images: Pixels) -> None:
    files = ((name, content) for i, image in enumerate(images) for name, content in (
        (f"{i:05}.png", forms.encoded(image)), (f"{i:05}.cls", str(i % 3).encode()), (f"{i:05}.json", b"{}"),
    ))  # fmt: skip
    forms.tar(path, files)


def shards(path: Path, images: Pixels) -> None:
    for i, part in enumerate(np.array_split(images, 3)):
        webdataset(path / f"{i:06}.tar", part)


def cifar(path: Path, images: Pixels) -> None:
    """Batches as Python 2 pickled them."""
    path.mkdir()
    rows = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    for i, part in enumerate(np.array_split(rows, 5)):
        (path / f"data_batch_{i + 1}").write_bytes(test_cifar.batch(part, [j % 10 for j in range(len(part))]))


def packed_cifar(path: Path, images: Pixels) -> None:
    cifar(inner := path.with_name(f"{path.name}.d"), images)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(inner, "cifar-10-batches-py")


def first(images: Pixels) -> Pixels:
    """With the channels before height and width."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def signed(images: Pixels) -> NDArray[np.float32]:
    return (images / 127.5 - 1).astype(np.float32)


FILES: dict[str, tuple[str, Write, str]] = {
    "folder of .png": ("folder", forms.drawn, ""),
    "class folders, nested, .bmp .tif .ppm .png": ("nested", nested, ""),
    ".zip of StyleGAN, labels in dataset.json": ("a.zip", stylegan, ""),
    ".tar": ("a.tar", lambda p, x: forms.packed(p, x), ""),
    ".tar.gz": ("a.tar.gz", lambda p, x: forms.packed(p, x), ""),
    ".tar of WebDataset, labels in .cls": ("wds.tar", webdataset, ""),
    "folder of .tar shards of WebDataset": ("shards", shards, ""),
    "Parquet, as on the Hugging Face hub": ("a.parquet", forms.parquet, ""),
    "folder of Parquet shards": ("parquets", forms.parquets, ""),
    "folder of datasets.save_to_disk": ("saved", forms.saved, ""),
    "LMDB, a folder": ("lmdb", forms.database, ""),
    "LMDB, a file": ("a.lmdb", forms.database, ""),
    ".npz of guided-diffusion, arr_0 and labels": (
        "a.npz", lambda p, x: np.savez(p, x, np.arange(len(x)) % 7), ""),
    ".npz, compressed": ("c.npz", lambda p, x: np.savez_compressed(p, images=x), ""),
    ".npy, NHWC, uint8": ("a.npy", lambda p, x: np.save(p, x), ""),
    ".npy, NCHW, uint8": ("b.npy", lambda p, x: np.save(p, first(x)), ""),
    ".npy, NHWC, float32 in [0, 1]": ("c.npy", lambda p, x: np.save(p, (x / 255).astype(np.float32)), ""),
    ".npy, NCHW, float32 in [-1, 1], guessed": ("d.npy", lambda p, x: np.save(p, signed(first(x))), ""),
    ".npy, NCHW, float32 in [-1, 1], stated": (
        "e.npy", lambda p, x: np.save(p, signed(first(x))), "generator.replay.range=-1..1 dataset.array.range=-1..1"),
    ".npy, float32 in [0, 255], stated": (
        "f.npy", lambda p, x: np.save(p, x.astype(np.float32)),
        "generator.replay.range=0..255 dataset.array.range=0..255"),
    ".pt, NCHW, uint8": ("a.pt", lambda p, x: torch.save(torch.from_numpy(first(x)), p), ""),
    ".pt, NHWC, float": ("b.pt", lambda p, x: torch.save(torch.from_numpy(x) / 255, p), ""),
    ".safetensors": ("a.safetensors", lambda p, x: save_file({"images": x}, p), ""),
    "CIFAR-10, the folder": ("cifar", cifar, ""),
    "CIFAR-10, the .tar.gz": ("cifar-10.tar.gz", packed_cifar, ""),
    "HDF5": ("a.h5", lambda p, x: forms.hdf5(p, x, np.arange(len(x)) % 3), ""),
}  # fmt: skip
"""What it is, the name of the file, what writes it, and the options that its command needs."""


def called(words: list[str]) -> None:
    """A command, in this process. Raises SystemExit where it fails."""
    sys.argv = ["assay", *words]
    try:
        cli.main()
    except SystemExit as left:
        if left.code:
            raise


def run(words: list[str]) -> float:
    """The number that a run records."""
    called([*words, "out=out"])
    (record,) = read_records(Path("out") / "run")
    for path in sorted(Path("out").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return value(record)


def digest(path: Path, options: str) -> str:
    """sha256 of the features of all real pictures, as assay reads them."""
    from assay.harness.core.registry import EXTRACTORS

    _, name, option = real_data(path)
    own = dict(word.removeprefix("dataset.array.").split("=") for word in options.split() if "dataset." in word)
    data = DATASETS[name].function(**{option: str(path)}, **own)
    images = data.take("train", 0, data.count("train")).images
    return hashlib.sha256(EXTRACTORS["means"].function("any")(images.float() / 255).numpy().tobytes()).hexdigest()


def files(only: str) -> Iterator[dict[str, Any]]:
    for what, (name, write, options) in FILES.items():
        if only not in what:
            continue
        paths = {}
        for side, images in PAIR.items():
            paths[side] = Path(side) / name
            paths[side].parent.mkdir(exist_ok=True)
            write(paths[side], images)
        words = ["--plugin", "means.py", "run", "--fake", str(paths["fake"]), "--real", str(paths["real"]),
                 "metric=frechet_distance", "features=means", *options.split()]  # fmt: skip
        yield {"input": what, "command": f"assay {' '.join(words)}", "found": run([*words, "floor=false"]),
               "features": digest(paths["real"], options)[:12]}  # fmt: skip


def statistics(only: str) -> Iterator[dict[str, Any]]:
    """Files of mu and sigma, and of features, in place of pictures."""
    if only not in "mu and sigma, features":
        return
    forms.drawn(Path("fakes"), PAIR["fake"])
    forms.drawn(Path("reals"), PAIR["real"])
    rows = {side: features(images) for side, images in PAIR.items()}
    mean, covariance = moments(rows["real"])
    np.savez("stats.npz", mu=mean, sigma=covariance)
    words = ["--plugin", "means.py", "run", "--fake", "fakes", "--real", "stats.npz", "metric=frechet_distance",
             "features=means"]  # fmt: skip
    yield {"input": "mu and sigma of others (pytorch-fid)", "command": f"assay {' '.join(words)}", "found": run(words)}
    made = ["--plugin", "means.py", "statistics", "reals", "--features", "means", "--out", "ours.npz"]
    called(made)
    mu, sigma = (np.load("ours.npz")[name] for name in ("mu", "sigma"))
    assert np.abs(mu - mean).max() < 1e-6
    assert np.abs(sigma - covariance).max() < 1e-6
    words[words.index("stats.npz")] = "ours.npz"
    told = f"assay {' '.join(made)}; assay {' '.join(words)}"
    yield {"input": "mu and sigma of our own", "command": told, "found": run(words)}
    for side, one in rows.items():
        np.save(f"{side}.npy", one)
    for what, real in (("features .npy", "real.npy"), ("features .npy against mu and sigma", "stats.npz")):
        words = ["compare-features", "fake.npy", real, "frechet_distance", "--csv", "table.csv"]
        called(words)
        (row,) = pd.read_csv("table.csv").itertuples()
        yield {"input": what, "command": f"assay {' '.join(words)}", "found": row.value}


def objects(only: str) -> Iterator[dict[str, Any]]:
    """What a caller of Python has."""
    import assay

    fake, real = (PAIR[side] for side in ("fake", "real"))
    tensor = torch.from_numpy(first(real))

    class Few:
        """A function from seeds to pictures."""

        __name__ = "draw"

        def __call__(self, seeds: list[int]) -> torch.Tensor:
            return torch.from_numpy(first(fake))[seeds]

    forms_of_real: dict[str, tuple[str, Any]] = {
        "NumPy array, NHWC": ("REALS", real),
        "torch tensor, NCHW, float": ("REALS", tensor.float() / 255),
        "list of pictures of Pillow": ("[picture, ...]", [Image.fromarray(one) for one in real]),
        "torchvision-style data set": ("DATA_SET", Pictures(real)),
        "Hugging Face data set": ("DATA_SET", HuggingFace(real)),
        "DataLoader": ("DataLoader(...)", torch.utils.data.DataLoader([(one, 0) for one in tensor], batch_size=64)),
        "iterator of batches": ("iter(BATCHES)", iter(torch.split(tensor, 50))),
    }
    for what, (told, given) in forms_of_real.items():
        if only in what:
            found = assay.evaluate("frechet_distance", fake, given, features="means")
            command = f'assay.evaluate("frechet_distance", FAKES, {told}, features="means")'
            yield {"input": what, "command": command, "found": value(found)}
    if only in "function of seeds":
        found = assay.evaluate("frechet_distance", Few(), real, features="means", n=FAKES)
        command = f'assay.evaluate("frechet_distance", draw, REALS, features="means", n={FAKES})'
        yield {"input": "function of seeds", "command": command, "found": value(found)}


def value(record: Any) -> float:
    """The number in a record."""
    return float(record.rows[0].estimate.value)


def main() -> None:
    chosen = arguments(__doc__).parse_args()
    out = chosen.out.absolute()
    expected = frechet(*(features(PAIR[side]) for side in ("fake", "real")))
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ["ASSAY_CACHE"] = f"{folder}/cache"
        Path("means.py").write_text(MEANS)
        discover()
        rows = []
        for row in (one for part in (files, statistics, objects) for one in part(chosen.only)):
            rows.append({"features": "", **row, "expected": expected})
            rows[-1]["difference"] = abs(row["found"] - expected)
            print(f"{row['input']}: {row['found']:.9g}, {rows[-1]['difference']:.1e}", flush=True)
    frame = pd.DataFrame(rows)[["input", "command", "found", "expected", "difference", "features"]]
    for column, form in (("found", ".9g"), ("expected", ".9g"), ("difference", ".1e")):
        frame[column] = [format(number, form) for number in frame[column]]
    publish(frame, out, "inputs", "    .venv/bin/python -m tests.benchmarks.inputs")


if __name__ == "__main__":
    main()
