"""Stored samples as a generator, so that the output of any generator can be evaluated without the generator itself."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..harness.core.files import digest, sha256_of
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from ..harness.formats.images import check_sizes, decode, eight_bits, image_array, image_names, opened, read_arrays

NAMES = ("images", "arr_0")
"""Names of the image array in a .npz file: that of assay, and that of `numpy.savez` and of published sample batches."""
GREY = ("1", "L", "LA")


class Stored(NamedTuple):
    """load: maps sample numbers to images uint8 [N, C, H, W]. total: number of samples. sha256: of each file that was
    read. codes: latent codes [total, ...] or None."""

    load: Callable[[list[int]], Tensor]
    total: int
    sha256: list[str]
    codes: NDArray[Any] | None


class Replay:
    """Stored samples as a Generator: seed i is sample i. Space "sample" is the number of a sample, [N, 1].

    If latent codes are stored too, there is also the space "z", which cannot be decoded. total: how many samples there
    are; None where `made` says that they are made when they are asked for.
    """

    def __init__(self, stored: Stored, codes: Tensor | None, fingerprint: str, made: bool = False):
        self._load, self._count, self._codes, self.fingerprint = stored.load, stored.total, codes, fingerprint
        self.total: int | None = None if made else stored.total
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
        return self._load(numbers).to(latents.device).float() / 255


@generator
def replay(dataset: str, path: str = "", latents: str = "") -> Generator:
    """Samples that were made elsewhere: all of them, or n that the seed draws.

    path: a folder of images, in the order of their names (10.png before 2.png), which are grey if all files are; or a
    .npy or .npz file (array `images`, else `arr_0`) of [N, H, W], [N, H, W, C] or [N, C, H, W], uint8 or float in
    [0, 1]. A .npz file may contain latent codes of the samples as `latents` [N, ...].
    latents: a separate .npy file of latent codes.

    Raises FileNotFoundError, and ValueError with the file, the array and the first bad row.
    """
    if not path:
        raise ValueError("generator replay needs samples: give generator.replay.path=FILE (.npy or .npz) or a folder")
    source = Path(path).expanduser()
    if not source.exists():
        raise FileNotFoundError(f"generator.replay.path={path} does not exist; give a .npy or .npz file, or a folder")
    stored = _folder(source) if source.is_dir() else _array(source)
    what, codes, sha256 = f"{source}, latents", stored.codes, stored.sha256
    if latents:
        file = Path(latents).expanduser()
        what, codes = str(file), read_arrays(file, "latents").get("latents")
        sha256 = [*sha256, sha256_of(file)]
    return Replay(stored, _codes(what, codes, stored.total), digest("replay", 1, sha256))


def _folder(top: Path) -> Stored:
    names = image_names(top)
    check_sizes(top, names, "replay does not resize samples: give them one size")
    mode = "L" if all(_is_grey(top / name) for name in names) else "RGB"

    def load(numbers: list[int]) -> Tensor:
        return torch.stack([decode(top / names[number], 0, mode) for number in numbers])

    return Stored(load, len(names), [sha256_of(top / name) for name in names], None)


def _is_grey(path: Path) -> bool:
    with opened(path) as image:
        return image.mode in GREY


def _array(file: Path) -> Stored:
    arrays = read_arrays(file, NAMES[0])
    name = next((name for name in NAMES if name in arrays), None)
    if name is None:
        raise ValueError(f"{file} has no array {' or '.join(NAMES)}; it has {', '.join(arrays) or 'none'}")
    images = image_array(f"{file}, {name}", arrays[name])

    def load(numbers: list[int]) -> Tensor:
        return torch.from_numpy(eight_bits(images[numbers]))

    return Stored(load, len(images), [sha256_of(file)], arrays.get("latents"))


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
