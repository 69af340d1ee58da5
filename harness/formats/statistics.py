"""Files of reference statistics: mean and covariance of features, without the samples that they were found from.

What is read: `mu` [D] and `sigma` [D, D] in a .npz file (pytorch-fid, clean-fid, guided-diffusion, EDM); the same in
two .npy files; pickles and torch files with these, or with a pair for each metric (EDM2); and the sums that
StyleGAN2-ADA keeps. Nothing in a file says which network, layer and preprocessing its features are of: that is taken on
trust.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..core.files import replace
from ..core.inputs import ROUNDING, statistics
from ..core.protocols import Statistics
from .arrays import read_arrays
from .checkpoint import read_checkpoint

PAIRS = {"": ("mu", "sigma"), "spatial": ("mu_s", "sigma_s")}
"""Names of the mean and the covariance; the second pair of guided-diffusion is of spatial features (sFID)."""
SUMS = ("raw_mean", "raw_cov", "num_items")
"""Sum of the features, sum of their outer products, and their number, as StyleGAN2-ADA keeps them."""


class Found(NamedTuple):
    """A pair as a file holds it. what: the file and the pair in words; n: where the file tells how many samples."""

    what: str
    mean: NDArray[Any]
    covariance: NDArray[Any]
    n: int | None = None


def read_statistics(path: str | Path, key: str = "", sigma: str | Path = "") -> Statistics:
    """Mean and covariance of features from a file, float64.

    key:   which pair, where a file has several: "spatial" in those of guided-diffusion, the metric in those of EDM2.
    sigma: the .npy file of the covariance, where `path` is the .npy file of the mean.
    Raises FileNotFoundError; ValueError where there is no such pair, for wrong shapes and values that are not finite,
    and where the covariance is not symmetric or has negative eigenvalues beyond rounding.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"{file}: there is no such file of statistics")
    if sigma:
        other = Path(sigma).expanduser()
        if not other.is_file():
            raise FileNotFoundError(f"{other}: there is no such file of statistics")
        mean, covariance = (read_arrays(one, name)[name] for one, name in ((file, "mu"), (other, "sigma")))
        return _checked(Found(f"{file} and {other}", mean, covariance))
    content = _content(file)
    pairs = dict(_pairs(str(file), content))
    if not pairs:
        there = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise ValueError(f"{file} has {there}, and no statistics: these are arrays mu [D] and sigma [D, D]")
    if not key and len(pairs) == 1:
        return _checked(*pairs.values())
    if key not in pairs:
        known = ", ".join(map(repr, pairs))
        asked = f"no statistics {key!r}, but " if key else "statistics "
        raise ValueError(f"{file} has {asked}{known}: choose one with key (dataset.statistics.key=NAME)")
    return _checked(pairs[key])


def has_statistics(path: Path) -> bool:
    """Whether a file is one of statistics, and not of images."""
    if not path.is_file() or path.suffix.lower() not in (".npz", ".pkl", ".pickle", ".pt", ".pth"):
        return False
    try:
        content = _content(path)
        return "arr_0" not in content and "images" not in content and bool(dict(_pairs(str(path), content)))
    except (ValueError, OSError):
        return False


def write_statistics(path: str | Path, known: Statistics) -> None:
    """Write mean and covariance as pytorch-fid reads them: a .npz file with mu [D] and sigma [D, D], float64.

    Raises ValueError for another ending, OSError where the file cannot be written.
    """
    file = require_npz(path)
    known, content = statistics(str(path), known), io.BytesIO()
    np.savez(content, mu=known.mean.cpu().numpy(), sigma=known.covariance.cpu().numpy())
    replace(file, content.getvalue())


def require_npz(path: str | Path) -> Path:
    """Raises ValueError unless statistics can be written to a file of this name."""
    file = Path(path).expanduser()
    if file.suffix != ".npz":
        raise ValueError(f"{path}: statistics are written to a .npz file; choose a name that ends in .npz")
    return file


def _content(file: Path) -> Mapping[Any, Any]:
    if file.suffix.lower() == ".npy":
        raise ValueError(f"{file} is one array: give the covariance too, sigma=FILE.npy")
    with file.open("rb") as opened:
        head = opened.read(8)
    archive = head.startswith(b"PK") and file.suffix.lower() not in (".pt", ".pth")
    found = read_arrays(file, "mu") if archive or file.suffix.lower() == ".npz" else read_checkpoint(file).content
    if not isinstance(found, Mapping):
        raise ValueError(f"{file} has a {type(found).__name__}, and no statistics: these are mu [D] and sigma [D, D]")
    return found


def _pairs(what: str, content: Mapping[Any, Any]) -> Iterator[tuple[str, Found]]:
    for name, (mean, covariance) in PAIRS.items():
        if mean in content and covariance in content:
            where = f"{what}, {mean} and {covariance}"
            yield name, Found(where, _array(content[mean]), _array(content[covariance]))
    if all(name in content for name in SUMS):
        yield "", _of_sums(what, content)
    for name, part in content.items() if isinstance(content, dict) else ():  # arrays of a .npz file have no parts
        if isinstance(name, str) and isinstance(part, Mapping) and {"mu", "sigma"} <= set(map(str, part)):
            yield name, Found(f"{what}, {name}", _array(part["mu"]), _array(part["sigma"]))


def _of_sums(what: str, content: Mapping[Any, Any]) -> Found:
    total, products, n = (_array(content[name]) for name in SUMS)
    if n.size != 1 or not 2 <= (count := int(n.reshape(-1)[0])) < 2**53:
        raise ValueError(f"{what}: num_items must be the number of samples, 2 or more")
    if total.ndim != 1 or products.shape != 2 * total.shape:
        raise ValueError(f"{what}: raw_mean {list(total.shape)} and raw_cov {list(products.shape)} must be [D], [D, D]")
    mean = total.astype(np.float64) / count
    return Found(what, mean, (products - count * np.outer(mean, mean)) / (count - 1), count)


def _array(value: Any) -> NDArray[Any]:
    return value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)


def _checked(found: Found) -> Statistics:
    what, mean, covariance = found.what, np.atleast_1d(found.mean), np.atleast_2d(found.covariance)
    known = statistics(what, Statistics(mean, covariance, found.n))  # type: ignore[arg-type]
    values = torch.linalg.eigvalsh(known.covariance)
    # Rounding the entries moves an eigenvalue by at most the Frobenius norm of the errors.
    precision = float(np.finfo(covariance.dtype).eps) if covariance.dtype.kind == "f" else 0.0
    least, most = float(values[0]), float(values[-1])
    if least < -max(ROUNDING, precision * len(values) ** 0.5) * most:
        raise ValueError(
            f"{what}: the covariance has a negative eigenvalue, {least:g} beside {most:g}: it is of no set of samples"
        )
    return known
