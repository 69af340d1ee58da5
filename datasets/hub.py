"""Data sets of images on the Hugging Face hub, as far as they are stored as Parquet."""

import importlib
import re
from pathlib import Path
from typing import Any

from ..harness.core.protocols import Dataset
from ..harness.core.registry import dataset
from ..harness.formats.images import AUTO
from .folder import folder

NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
INSTALL = "pip install 'huggingface-hub>=1'"


@dataset
def hub(
    name: str = "",
    download: bool = False,
    part: str = "",
    revision: str = "main",
    size: int = 0,
    mode: str = AUTO,
    holdout: float = 0.0,
) -> Dataset:
    """Images and labels of the data set `name`, OWNER/NAME, of https://huggingface.co/datasets.

    download: whether it may be downloaded, into the cache of huggingface_hub. Otherwise only what is there is used.
    part: a folder of the repository, for one with several sets in it; "" takes all Parquet files.
    revision: a branch, tag or commit. "refs/convert/parquet" is the branch of those that are stored in other ways.
    size, mode, holdout: as of the data set `folder`.

    Raises FileNotFoundError where it is not there and may not be downloaded, and ValueError where it has no Parquet
    files with images, or huggingface_hub is not installed.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"data set hub needs a name OWNER/NAME, and dataset.hub.name={name!r} is none")
    if part.startswith("/") or ".." in part.split("/"):
        raise ValueError(f"dataset.hub.part={part!r} must be a folder of the repository")
    try:
        library: Any = importlib.import_module("huggingface_hub")
    except ImportError:
        raise ValueError(f"data set hub needs huggingface_hub: {INSTALL}, or give the downloaded folder") from None
    wanted = f"{part.strip('/')}/*.parquet" if part else "*.parquet"
    try:
        found = library.snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=wanted, local_files_only=not download
        )
    except Exception as error:  # the library, and the one it connects with, raise many
        why = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if download:
            raise ValueError(f"data set {name} cannot be downloaded from the hub ({why})") from None
        raise FileNotFoundError(
            f"data set {name} is not in the cache of the hub; dataset.hub.download=true downloads it"
        ) from None
    top = Path(found) / part
    if not any(top.rglob("*.parquet")):
        raise ValueError(
            f"data set {name} has no Parquet files in {part or 'it'}; dataset.hub.revision=refs/convert/parquet has "
            "those of data sets that are stored in other ways"
        )
    return folder(str(top), size, mode, holdout)
