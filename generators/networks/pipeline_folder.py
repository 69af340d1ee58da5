"""A pipeline from a folder of diffusers, opened part by part: local files, known classes, safetensors alone."""

import importlib
import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .diffusers_parts import class_of, open_network, opening, read_json, require_bounded

NOT_NEEDED = ("safety_checker", "feature_extractor", "image_encoder")
"""Optional parts that only look at images: the safety checker, which paints some black, and what serves it."""


def open_pipeline(folder: Path, dtype: torch.dtype) -> tuple[Any, list[str], list[str]]:
    """The pipeline in a folder, the names of the parts that were opened, and of those that were left out.

    Raises ValueError, in one line, for a class that is not one of diffusers or transformers, and for a part that is
    missing, damaged or larger than its files.
    """
    index = read_json(folder / "model_index.json")
    pipeline_class = class_of("diffusers", "DiffusionPipeline")
    with _quiet():
        return _open(folder, index, pipeline_class, dtype)


def _open(
    folder: Path, index: Mapping[str, Any], pipeline_class: type, dtype: torch.dtype
) -> tuple[Any, list[str], list[str]]:
    name = index.get("_class_name")
    kind = getattr(importlib.import_module("diffusers"), str(name), None)
    if not isinstance(kind, type) or not issubclass(kind, pipeline_class):
        raise ValueError(f"{folder}: {str(name)[:80]} is no pipeline of the diffusers that is installed")
    taken = inspect.signature(kind).parameters
    optional = set(getattr(kind, "_optional_components", ()))
    parts: dict[str, Any] = {}
    left_out: list[str] = []
    for part, entry in index.items():
        if part not in taken or not (isinstance(entry, list) and len(entry) == 2):
            continue
        if entry == [None, None]:
            parts[part] = None
        elif part in NOT_NEEDED and part in optional:
            parts[part] = None
            left_out.append(part)
        else:
            parts[part] = _open_part(folder, part, entry, dtype)
    values = {key: value for key, value in index.items() if key in taken and key not in parts}
    if "requires_safety_checker" in taken:
        values["requires_safety_checker"] = False
    with opening(folder, str(name)):
        pipe = kind(**parts, **values)
    return pipe, [part for part, opened in parts.items() if opened is not None], left_out


def _open_part(folder: Path, part: str, entry: list[Any], dtype: torch.dtype) -> Any:
    """One part of a pipeline: a network, a scheduler, a tokenizer or the like."""
    kind = _class_of_part(folder, part, entry)
    place, transformers = folder / part, importlib.import_module("transformers")
    if issubclass(kind, class_of("diffusers", "ModelMixin")):
        return open_network(place, kind, "diffusers", dtype, safetensors=True)
    if issubclass(kind, transformers.PreTrainedModel):
        return open_network(place, kind, "transformers", dtype, safetensors=True)
    if issubclass(kind, class_of("diffusers", "SchedulerMixin")):
        config = read_json(place / "scheduler_config.json")
        with opening(place, kind.__name__):
            require_bounded(config)
            return kind.from_config(config)
    with opening(place, kind.__name__):
        return kind.from_pretrained(place, local_files_only=True)


def _class_of_part(folder: Path, part: str, entry: list[Any]) -> Any:
    library, name = map(str, entry)
    module: Any = None
    if library in ("diffusers", "transformers"):
        module = importlib.import_module(library)
    elif library.isidentifier():
        module = getattr(importlib.import_module("diffusers.pipelines"), library, None)
    kind = getattr(module, name, None) if name.isidentifier() else None
    if not isinstance(kind, type) or not hasattr(kind, "from_pretrained"):
        raise ValueError(
            f"{folder}: part {part} is a {library}.{name}; only classes of diffusers and transformers are opened, and "
            "no code from folders is run"
        )
    return kind


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers without progress bars, and without advice on what it could use if that were installed."""
    logging = importlib.import_module("transformers").logging
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
