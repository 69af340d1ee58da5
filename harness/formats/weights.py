"""Trained weights on disk: a safetensors file that names its family and architecture, and a JSON card beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..core.files import replace, sha256_of
from .handed_on import hands_on

ROOT = Path(__file__).parents[2]
ZOO = {"generator": ROOT / "generators" / "zoo", "extractor": ROOT / "metrics" / "extractors" / "zoo"}
"""Folders of the weights that come with assay."""

RENAMED = {"most": "max_channels"}
"""Architecture keys in files of the first release, and their present names."""


class Weights(NamedTuple):
    """tensors: by name. architecture: as the training wrote it. sha256: of the whole file."""

    tensors: dict[str, Tensor]
    architecture: dict[str, Any]
    sha256: str


def find_weights(kind: Literal["generator", "extractor"], family: str, dataset: str, path: str = "zoo") -> Path:
    """The weights file of a family for a data set. path: a file, or "zoo" for the weights that come with assay.

    Raises LookupError when there is no such file, with the command that trains the weights.
    """
    file = ZOO[kind] / f"{family}-{dataset}.safetensors" if path == "zoo" else Path(path).expanduser()
    if file.is_file():
        return file
    where = "the zoo has none" if path == "zoo" else f"{file} does not exist"
    raise LookupError(
        f"no weights of {family!r} for data set {dataset!r}: {where}. Train them with `assay train {kind}={family} "
        f"dataset={dataset}` and give the path it prints as {kind}.{family}.path=PATH"
    )


def read_weights(path: Path, family: str) -> Weights:
    """Read a file written by `write_weights`. Raises ValueError for another kind of file or another family."""
    try:
        tensors, metadata = read_safetensors(path)
    except Exception as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error})") from None
    architecture = json.loads(metadata.get("assay", "{}"))
    if architecture.get("family") != family:
        raise ValueError(f"{path} holds weights of {architecture.get('family')!r}, not of {family!r}")
    renamed = {RENAMED.get(key, key): value for key, value in architecture.items()}
    return Weights(tensors, renamed, sha256_of(path))


@hands_on
def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the metadata of the file. Raises SafetensorError for a damaged or another kind of file."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        return tensors, file.metadata() or {}


def write_weights(
    path: Path, tensors: Mapping[str, Tensor], architecture: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
    """Write the weights, and beside them the card: the same name with .json, and the sha256 of the weights inside.

    Each file is written atomically.
    """
    metadata = {"assay": json.dumps(architecture, sort_keys=True)}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    replace(path, save(contiguous, metadata))
    content = json.dumps({**card, "sha256": sha256_of(path)}, indent=2, sort_keys=True)
    replace(path.with_suffix(".json"), f"{content}\n".encode())
