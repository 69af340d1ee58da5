"""Trained weights on disk: a safetensors file that names its family and architecture, and a JSON card beside it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..core.files import cache_folder, replace, require_plain, sha256_of
from .handed_on import hands_on
from .settings import parse_json

ROOT = Path(__file__).parents[2]
ZOO = {"generator": ROOT / "generators" / "zoo", "extractor": ROOT / "metrics" / "extractors" / "zoo"}
"""Folders of the weights that come with assay."""

NETWORKS = "networks:"
"""Before a network that `assay train networks=LIST` made, as a path of weights: networks:LIST/seed3."""

TENSORS = 100_000
"""Most tensors of a file; the largest published networks have some thousands."""
RENAMED = {"most": "max_channels"}
"""Architecture keys in files of the first release, and their present names."""


class Weights(NamedTuple):
    """tensors: by name. architecture: as the training wrote it. sha256: of the whole file."""

    tensors: dict[str, Tensor]
    architecture: dict[str, Any]
    sha256: str


def find_weights(kind: Literal["generator", "extractor"], family: str, dataset: str, path: str = "zoo") -> Path:
    """The weights file of a family for a data set.

    path: a file; "zoo" for the weights that come with assay; or "networks:LIST/seed3" for those that
    `assay train networks=LIST` made with the training seed 3.
    Raises LookupError when there is no such file, with the command that trains the weights, and ValueError for a list
    or a seed that is no plain name.
    """
    file = Path(path).expanduser()
    if path == "zoo":
        file = ZOO[kind] / f"{family}-{dataset}.safetensors"
    elif path.startswith(NETWORKS):
        listed, _, tag = path.removeprefix(NETWORKS).partition("/")
        file = network_file(listed, family, dataset, tag)
    if file.is_file():
        return file
    train = f"assay train {kind}={family} dataset={dataset}"
    if path.startswith(NETWORKS):
        raise LookupError(
            f"{path} has no weights of {family!r} for data set {dataset!r} yet: train them with "
            f"`assay train networks={listed}`, which skips those that are there"
        )
    where = "the zoo has none" if path == "zoo" else f"{file} does not exist"
    raise LookupError(
        f"no weights of {family!r} for data set {dataset!r}: {where}. Train them with `{train}` and give the path it "
        f"prints as {kind}.{family}.path=PATH"
    )


def network_file(listed: str, family: str, dataset: str, tag: str) -> Path:
    """Where the weights of a network of a list lie, in the cache.

    Raises ValueError for a list or a tag that is no plain name.
    """
    for part in (listed, tag):
        require_plain(part)
    return cache_folder() / "networks" / listed / f"{family}-{dataset}-{tag}.safetensors"


def is_own_file(path: str) -> bool:
    """Whether a path names weights that assay trained, rather than a published file."""
    return path == "zoo" or path.startswith(NETWORKS) or path.endswith(".safetensors")


def read_weights(path: Path, family: str) -> Weights:
    """Read a file written by `write_weights`. Raises ValueError for another kind of file or another family."""
    try:
        tensors, metadata = read_safetensors(path)
    except Exception as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error})") from None
    try:
        architecture = own_metadata(metadata)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if architecture.get("family") != family:
        raise ValueError(f"{path} holds weights of {architecture.get('family')!r}, not of {family!r}")
    renamed = {RENAMED.get(key, key): value for key, value in architecture.items()}
    return Weights(tensors, renamed, sha256_of(path))


@hands_on
def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, and the metadata of the file.

    Raises SafetensorError for a damaged or another kind of file, ValueError for more than TENSORS tensors.
    """
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        if len(names) > TENSORS:
            raise ValueError(f"{path} has {len(names):,} tensors; files of at most {TENSORS:,} are read")
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def own_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `write_weights` says in the metadata of a file; empty for other files. Raises ValueError for no mapping."""
    found = parse_json(metadata.get("assay", "{}"), "its metadata `assay`")
    if not isinstance(found, dict):
        raise ValueError("its metadata `assay` are no mapping in JSON")
    return found


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
