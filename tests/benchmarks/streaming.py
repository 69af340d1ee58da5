"""Memory and images per second of what passes through without staying in memory, for each kind of file.

    .venv/bin/python -m tests.benchmarks.streaming                    # 15 minutes on two quiet cores, 5 GB of disk
    .venv/bin/python -m tests.benchmarks.streaming --only zip

Writes results/benchmarks/streaming.csv and .md (or --out). Each number is of a process of its own: `assay statistics`
of 50,000 and of 200,000 pictures of 32 x 32 pixels with a feature space of 48 numbers, and a plain loop over a
DataLoader that decodes the same files to the same features. The last rows are of `assay.Metric`. With --only, the other
rows of the table stay.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import lmdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from .tables import arguments, publish

FEW, MANY, PART = 50_000, 200_000, 10_000
MEANS = '''
import torch.nn.functional as F
from assay import extractor


class Means:
    fingerprint = "means of blocks 1"

    def __call__(self, images):
        return F.avg_pool2d(images.float(), 8).flatten(1)


@extractor
def means(dataset):
    """Means of the colours of 4 x 4 blocks, [N, 48] of images [N, 3, 32, 32]."""
    return Means()
'''
"""A feature space that costs next to nothing, as a plugin."""
KINDS = ("folder", "images.zip", "images.tar", "images.lmdb", "images.parquet", "images.npy", "images.npz", "images.h5")


def pictures(part: int) -> np.ndarray[Any, Any]:
    """PART different pictures, uint8 [N, 32, 32, 3]."""
    coarse = np.random.default_rng([part, 7]).integers(0, 256, (PART, 4, 4, 3), dtype=np.uint8)
    resized = (Image.fromarray(one).resize((32, 32), Image.Resampling.BILINEAR) for one in coarse)
    return np.stack([np.asarray(picture) for picture in resized])


def encoded(picture: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def make(top: Path, count: int) -> None:
    """The same pictures in a file of each of KINDS."""
    (top / "folder").mkdir(parents=True)
    schema = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]))])
    array: Any = np.lib.format.open_memmap(str(top / "images.npy"), "w+", np.uint8, (count, 32, 32, 3))  # type: ignore[no-untyped-call]
    with (
        zipfile.ZipFile(top / "images.zip", "w") as packed,
        tarfile.open(top / "images.tar", "w") as tar,
        lmdb.open(str(top / "images.lmdb"), map_size=2**32, subdir=False, lock=False) as database,
        pq.ParquetWriter(top / "images.parquet", schema) as table,
        h5py.File(top / "images.h5", "w") as hdf5,
    ):
        rows = hdf5.create_dataset("images", array.shape, np.uint8, chunks=(256, 32, 32, 3))
        for first in range(0, count, PART):
            some = pictures(first // PART)
            files = {f"{first + i:06}.png": encoded(picture) for i, picture in enumerate(some)}
            array[first : first + PART] = rows[first : first + PART] = some
            for name, content in files.items():
                (top / "folder" / name).write_bytes(content)
                packed.writestr(name, content)
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
            with database.begin(write=True) as writing:
                for name, content in files.items():
                    writing.put(name.encode(), content, append=True)
            images = [{"bytes": content, "path": name} for name, content in files.items()]
            table.write_table(pa.table({"image": images}, schema), row_group_size=1000)
    array.flush()
    np.savez(top / "images.npz", images=array)


class Plain(Dataset[Tensor]):
    """Pictures as somebody would read them in a loop; read: the encoded or decoded picture of a number."""

    def __init__(self, count: int, read: Callable[[int], Any]):
        self.count, self.read = count, read

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Tensor:
        found = self.read(number)
        if isinstance(found, bytes):
            found = np.asarray(Image.open(io.BytesIO(found)).convert("RGB"))
        return torch.from_numpy(np.array(found)).permute(2, 0, 1)


def reader(path: Path) -> tuple[int, Callable[[int], Any]]:
    """How many pictures a file has, and what reads one of them."""
    kind = path.suffix or path.name
    if kind == "folder":
        files = sorted(path.iterdir())
        return len(files), lambda number: files[number].read_bytes()
    if kind == ".zip":
        archive = zipfile.ZipFile(path)
        names = archive.namelist()
        return len(names), lambda number: archive.read(names[number])
    if kind == ".tar":
        tar = tarfile.open(path)  # noqa: SIM115, as long as the process
        members = tar.getmembers()
        return len(members), lambda number: tar.extractfile(members[number]).read()  # type: ignore[union-attr]
    if kind == ".lmdb":
        database = lmdb.open(str(path), subdir=False, readonly=True, lock=False).begin()
        keys = [bytes(key) for key in database.cursor().iternext(values=False)]
        return len(keys), lambda number: bytes(database.get(keys[number]))
    if kind == ".parquet":
        column = pq.read_table(path)["image"]
        return len(column), lambda number: column[number]["bytes"].as_py()
    if kind == ".h5":
        rows = h5py.File(path)["images"]
        return len(rows), rows.__getitem__
    array = np.load(path, mmap_mode="r") if kind == ".npy" else np.load(path)["images"]
    return len(array), array.__getitem__


def loop(path: Path) -> None:
    """Mean and covariance of the features, by a DataLoader."""
    count, read = reader(path)
    total, products = torch.zeros(48, dtype=torch.float64), torch.zeros(48, 48, dtype=torch.float64)
    for batch in DataLoader(Plain(count, read), batch_size=500):
        rows = torch.nn.functional.avg_pool2d(batch.float() / 255, 8).flatten(1).double()
        total, products = total + rows.sum(0), products + rows.T @ rows


def streamed(count: int, metric: str) -> None:
    """`count` pictures on either side, through update()."""
    import assay

    measured = assay.Metric(metric, lambda images: torch.nn.functional.avg_pool2d(images, 8).flatten(1), reservoir=1000)
    for first in range(0, count, 500):
        rng = np.random.default_rng(first)
        for side in ("fake", "real"):
            measured.update(**{side: torch.from_numpy(rng.random((500, 3, 32, 32), np.float32))})
    measured.compute()


def run(command: list[str], cache: str) -> dict[str, float]:
    """Wall and processor seconds and the most memory of a process, MiB."""
    environment = os.environ | {"ASSAY_CACHE": cache, "OMP_NUM_THREADS": "1"}
    begin = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command}: {said.decode()[-500:]}")
    return {
        "wall": time.perf_counter() - begin,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak": usage.ru_maxrss / 1024,
    }


def measured(kind: str, count: int, top: Path) -> dict[str, Any]:
    """The row of one kind of file. The cache is that of all containers of one
    count: it knows the pixels that another one has decoded.
    """
    plugin, source = top / "means.py", top / str(count) / kind
    plugin.write_text(MEANS)
    words = ["assay", "--plugin", str(plugin), "statistics", str(source), "--features", "means"]
    found = run([sys.executable, "-m", *words, "--out", str(top / "out.npz")], str(top / f"cache-{count}"))
    row: dict[str, Any] = {"what": kind, "images": count, "peak_mib": found["peak"]}
    plain = run([sys.executable, "-m", __spec__.name, "--loop", str(source)], "") if count == FEW else None
    for name, one in (("assay", found), ("loop", plain)):
        for clock in ("wall", "cpu"):
            row[f"{name}_per_{clock}_s"] = count / one[clock] if one else None
    return row | {"loop_peak_mib": plain["peak"] if plain else None}


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--folder", type=Path, help="where the pictures are or shall be; a temporary folder by default")
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--stream", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.loop:
        loop(chosen.loop)
    elif chosen.stream:
        streamed(int(chosen.stream[0]), chosen.stream[1])
    else:
        table(chosen.only, chosen.folder, chosen.out)


def table(only: str, folder: Path | None, out: Path) -> None:
    """Measure what has a text in its name."""
    with tempfile.TemporaryDirectory() as temporary:
        top = folder or Path(temporary)
        for count in (FEW, MANY):
            if not (top / str(count)).exists():
                make(top / str(count), count)
        for kind in (kind for kind in KINDS if only in kind):
            for count in (FEW, MANY):
                write(measured(kind, count, top), out)
        for metric in (one for one in ("frechet_distance", "precision") if only in f"Metric {one}"):
            for count in (FEW, MANY):
                found = run([sys.executable, "-m", __spec__.name, "--stream", str(count), metric], "")
                speed = {f"assay_per_{clock}_s": 2 * count / found[clock] for clock in ("wall", "cpu")}
                what = f"Metric {metric}, update()"
                write({"what": what, "images": count, "peak_mib": found["peak"], **speed}, out)


def write(row: dict[str, Any], out: Path) -> None:
    """A row of the table, in place of what stands there."""
    file = out / "streaming.csv"
    rows = pd.read_csv(file).to_dict("records") if file.exists() else []
    rows = [one for one in rows if (one["what"], one["images"]) != (row["what"], row["images"])] + [row]
    order = [*KINDS, *sorted({one["what"] for one in rows} - set(KINDS))]
    frame = pd.DataFrame(sorted(rows, key=lambda one: (order.index(one["what"]), one["images"])))
    numbers = frame.columns.difference(["what", "images"])
    frame[numbers] = frame[numbers].astype(float).round(0)
    publish(frame, out, "streaming", INTRODUCTION.format(torch=torch.__version__))
    print(json.dumps(row), flush=True)


INTRODUCTION = """    .venv/bin/python -m tests.benchmarks.streaming

Peak memory of `assay statistics` in MiB, and pictures of 32 x 32 pixels per second; two cores with other work beside,
torch {torch}. The first container decodes each picture twice, once to learn its content; of the others the cache knows
that, since they hold the same pictures. `loop` is a plain DataLoader that decodes once, in the order of the file. Times
are of whole commands, with their start of a few seconds; wall time depends on what else runs, processor time hardly.
The last rows are of `assay.Metric`, with so many pictures on either side and a reservoir of 1,000."""


if __name__ == "__main__":
    main()
