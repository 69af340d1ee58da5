"""Stored samples as a generator, so that the output of any generator can be evaluated without the generator itself."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..harness.core.digests import Digests, hexadecimal, packed
from ..harness.core.files import digest
from ..harness.core.folders import is_folder, open_files
from ..harness.core.progress import say_once
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.core.texts import Texts
from ..harness.formats.arrays import holds_arrays, read_arrays
from ..harness.formats.containers.open import container_of
from ..harness.formats.image_arrays import HELD_OUT, IMAGES, ImageArray, Range, named_images
from ..harness.formats.images import AUTO, Pictures, is_image
from ..harness.shapes.mesh_files import Fit, MeshFiles, is_mesh

NOTHING = Texts.of(())


class Stored(NamedTuple):
    """load: maps sample numbers to images uint8 [N, C, H, W]. total: number of samples. sha256: of each sample, or of
    what they come from. codes: latent codes [total, ...] or None. names: of the files of the samples, or their rows.
    """

    load: Callable[[NDArray[np.int64]], Tensor]
    total: int
    sha256: Digests
    codes: NDArray[Any] | None
    names: Texts = NOTHING


class Replay:
    """Stored samples as a Generator: seed i is sample i. Space "sample" is the number of a sample, [N, 1].

    If latent codes are stored too, there is also the space "z", which cannot be decoded. total: how many samples there
    are; None where `made` says that they are made when they are asked for. names: of the file of each sample, or
    the number of its row; empty if they have neither.
    """

    def __init__(self, stored: Stored, codes: Tensor | None, fingerprint: str, made: bool = False):
        self._load, self._count, self._codes, self.fingerprint = stored.load, stored.total, codes, fingerprint
        self.total: int | None = None if made else stored.total
        self.names = stored.names
        self.spaces: Sequence[str] = ("sample",) if codes is None else ("sample", "z")

    def latents(self, seeds: Sequence[int], space: str = "sample") -> Tensor:
        outside = next((seed for seed in seeds if not 0 <= seed < self._count), None)
        if outside is not None:
            raise ValueError(
                f"replay has {self._count:,} samples and makes no more, asked for number {outside} counted from 0: "
                f"give n={self._count} or less" + (", and seed=0 alone" if self.total is None else "")
            )
        if space == "z" and self._codes is not None:
            return self._codes[list(seeds)]
        return torch.tensor(list(seeds), dtype=torch.float64)[:, None]

    def decode(self, latents: Tensor, space: str = "sample") -> Tensor:
        if space != "sample" or latents.requires_grad:
            raise ValueError(
                "replay has no network: it only returns its samples, and can neither decode nor differentiate codes"
            )
        numbers = [int(number) for number in latents[:, 0]]
        if not torch.equal(latents, self.latents(numbers).to(latents)):
            raise ValueError("replay has no network: there is nothing between its samples; give whole sample numbers")
        return self._load(np.array(numbers, np.int64)).to(latents.device).float() / 255


@generator
def replay(
    dataset: str,
    path: str = "",
    latents: str = "",
    mode: str = AUTO,
    resolution: int = 32,
    radius: float = 0.95,
    offset: float = 0.05,
    range: Range = "auto",
    name: str = "",
) -> Generator:
    """Samples that were made elsewhere: all of them, or n that the seed draws.

    path: a folder of images, or what else the data set `folder` reads (.zip, .tar, Parquet, LMDB); a folder of meshes,
    if it has no images or the data set is `mesh_folder`; or what the data set `array` reads (.npy, .npz, HDF5, torch
    files, CIFAR). The sha256 of the pixels decides the order, whatever files are called and how they are packed. A file
    of arrays may contain latent codes of the samples as `latents` [N, ...], in the order of its rows.
    latents: a separate file of latent codes, in the order of the rows, or of the names of the files (10.png before
    2.png).
    mode: "RGB", "L", or "auto": grey if all images are. range: of arrays, as for the data set `array`.
    resolution, radius, offset: of meshes, as for the data set `mesh_folder`.
    name: what tables call the samples, instead of the last name of their path.

    Raises FileNotFoundError, and ValueError with the file, the array and the first bad row.
    """
    if not path:
        raise ValueError("generator replay needs samples: give generator.replay.path=FILE (.npy or .npz) or a folder")
    source = Path(path).expanduser()
    if not source.exists():
        raise FileNotFoundError(f"generator.replay.path={path} does not exist; give a .npy or .npz file, or a folder")
    if holds_arrays(source) or not container_of(source):
        stored = _array(source, mode, range)
    else:
        stored = _files(source, dataset, mode, Fit(resolution, radius, offset))
    what, codes = f"{source}, latents", stored.codes
    if latents:
        what = str(Path(latents).expanduser())
        codes = read_arrays(Path(what), "latents").get("latents")
    stored, tensor = _by_content(stored, _codes(what, codes, stored.total))
    given = [] if tensor is None else [hashlib.sha256(tensor.numpy().tobytes()).hexdigest(), *tensor.shape]
    return Replay(stored, tensor, digest("replay", 2, hexadecimal(stored.sha256), given))


def _files(top: Path, dataset: str, mode: str, fit: Fit) -> Stored:
    """The images or meshes of a folder, in the order of their names."""
    names = open_files(top).names if is_folder(top) else ()
    if any(map(is_mesh, names)) and (dataset == "mesh_folder" or not any(map(is_image, names))):
        fit = fit.checked("generator.replay")
        meshes = MeshFiles(top, fit)
        names = Texts.of(meshes.names)
        contents = packed((digest(meshes.sha256(name), *fit) for name in names), len(names))
        return Stored(_numbered(meshes.load, names), len(contents), contents, None, names)
    pictures = Pictures("generator.replay", top, 0, mode, "replay does not resize samples: give them one size")
    contents = _in_mode(pictures.contents, pictures.mode)
    return Stored(_numbered(pictures.load, pictures.names), len(contents), contents, None, pictures.names)


def _by_content(stored: Stored, codes: Tensor | None) -> tuple[Stored, Tensor | None]:
    """The same samples and their codes in the order of their contents; of equal samples, of their codes."""
    order = np.argsort(stored.sha256, kind="stable")
    if codes is not None:
        of = stored.sha256
        order = np.array(sorted(order.tolist(), key=lambda i: (of[i], codes[i].numpy().tobytes())), np.int64)

    def load(numbers: NDArray[np.int64]) -> Tensor:
        return stored.load(order[numbers])

    moved = Stored(load, stored.total, stored.sha256[order], None, stored.names.at(order))
    return moved, None if codes is None else codes[order]


def _numbered(load: Callable[[Texts], Tensor], names: Texts) -> Callable[[NDArray[np.int64]], Tensor]:
    return lambda numbers: load(names.at(numbers))


def _in_mode(contents: Digests, mode: str) -> Digests:
    """The digests of pixels together with their mode."""
    return packed((digest(content, mode) for content in hexadecimal(contents)), len(contents))


def _array(file: Path, mode: str, value_range: Range) -> Stored:
    """The rows of an array, in their order."""
    arrays = read_arrays(file, IMAGES[0])
    name = named_images(file, arrays)
    if left := [other for other in HELD_OUT if other in arrays]:
        say_once(f"{file}: the samples are `{name}`; left out {', '.join(left)}")
    images = ImageArray(f"{file}, {name}", arrays[name], "generator.replay", value_range, mode)
    contents = _in_mode(images.contents, images.mode)
    rows = Texts.of(map(str, range(len(images))))
    return Stored(lambda numbers: torch.from_numpy(images[numbers]), len(images), contents, arrays.get("latents"), rows)


def _codes(what: str, codes: NDArray[Any] | None, total: int) -> Tensor | None:
    """Latent codes [total, ...], float32."""
    if codes is None:
        return None
    if codes.ndim < 2 or len(codes) != total or codes.dtype.kind not in "fiu":
        raise ValueError(f"{what}: {codes.dtype} of shape {codes.shape}; give {total} rows of numbers, one per sample")
    finite = np.isfinite(codes).reshape(total, -1).all(1)
    if not finite.all():
        raise ValueError(f"{what}: row {int(np.argmin(finite))} of {total} is not finite")
    return torch.from_numpy(np.array(codes, np.float32))
