"""Any pipeline of diffusers that makes images of text, classes or noise alone, from a folder or in memory."""

import hashlib
import importlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from ..harness.core.files import digest
from ..harness.core.options import Count, checked, option_types
from ..harness.core.progress import say
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks.autoencoders import CHANNELS
from .networks.diffusers_parts import class_of, find_folder, hashes
from .networks.pipeline_calls import Call, Wishes
from .networks.pipeline_folder import open_pipeline
from .networks.pipelines import FIRST_STAGES, EncodingPipeline, Pipeline

OTHERS = (
    "DDIMPipeline",
    "DDPMPipeline",
    "LDMPipeline",
    "LatentDiffusionUncondPipeline",
    "StableDiffusionPipeline",
)
"""Pipelines for which `assay.load` takes another family: ddpm, ldm and stable_diffusion sample them by DDIM alone."""


def recognise(content: Any) -> bool:
    """Whether a checkpoint is the folder of a pipeline that no other family opens."""
    index = content.get("model_index.json") if isinstance(content, Mapping) else None
    name = index.get("_class_name") if isinstance(index, Mapping) else None
    return isinstance(name, str) and name not in OTHERS


@generator(recognise=recognise)
def pipeline(
    dataset: str,
    path: str = "",
    prompt: str = "",
    prompts: str | list[str] = "",
    negative_prompt: str = "",
    guidance: float | None = None,
    steps: Count | None = None,
    label: int | None = None,
    height: Count | None = None,
    width: Count | None = None,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    arguments: Mapping[str, Any] | None = None,
    batch: Count = 1,
) -> Generator:
    """A pipeline of diffusers with its own scheduler, called as it is; the safety checker is left out.

    path: its folder; weights are safetensors, and no code from it is run. prompts: a text file with one prompt a line,
    lines without text left out, or a list; the sample of seed s has prompt s mod their number. prompt: one for all.
    label: the class of all samples of a class-conditional pipeline; null takes class s mod classes. guidance, steps,
    height, width: null leaves the pipeline's default. arguments: others of its call by name, such as {eta: 1.0}.
    batch: number of items that it makes together; with more than 1, an image depends on its place by rounding.

    Seed s below 2^32 is torch.Generator().manual_seed(s) for the initial noise and for all that the sampler draws.
    Raises ValueError with the name of the pipeline and of the argument that it takes or lacks.
    """
    folder = find_folder("pipeline", path)
    wishes = _wishes(prompt, prompts, negative_prompt, guidance, steps, label, height, width, arguments)
    pipe, parts, left_out = open_pipeline(folder, getattr(torch, dtype))
    files = {"model_index.json": hashes(folder, ".").get("model_index.json", ""), **hashes(folder, *parts)}
    card = {"files": files, "dtype": dtype, "left_out": left_out}
    return _generator(pipe, wishes, batch, [files, dtype], card, "safety_checker" in left_out)


def from_pipeline(pipe: Any, **options: Any) -> Pipeline:
    """A pipeline that is in memory as a generator; options are those of `pipeline`, but for path and dtype.

    Its networks are used as they are, in evaluation, and not changed. The fingerprint is that of all weights,
    configurations and vocabularies. Adapters that are switched on without weights of their own (FreeU, hooks) are no
    part of it.
    """
    types = {name: kind for name, kind in option_types(pipeline).items() if name not in ("path", "dtype")}
    if unknown := sorted(set(options) - set(types)):
        raise TypeError(f"from_pipeline takes no {unknown[0]}=; its options are {', '.join(types)}")
    if not isinstance(pipe, class_of("diffusers", "DiffusionPipeline")):
        raise ValueError(f"a {type(pipe).__name__} is no pipeline of diffusers")
    given = checked("from_pipeline", types, options)
    batch = given.pop("batch", 1)
    checker = getattr(pipe, "safety_checker", None) is not None
    return _generator(pipe, _wishes(**given), batch, [_contents(pipe)], {}, checker)


def _generator(
    pipe: Any, wishes: Wishes, batch: int, origin: Sequence[Any], card: Mapping[str, Any], checker: bool
) -> Pipeline:
    kind, diffusers, call = type(pipe).__name__, importlib.import_module("diffusers"), Call(pipe, wishes)
    stage = next((getattr(pipe, part) for part in FIRST_STAGES if getattr(pipe, part, None) is not None), None)
    family = EncodingPipeline if type(stage).__name__ in CHANNELS else Pipeline
    fingerprint = digest("pipeline", 1, kind, origin, vars(wishes), call.defaults, batch, diffusers.__version__)
    about = {"format": f"diffusers {kind}", "diffusers": diffusers.__version__, "transformers": version("transformers")}
    if checker:
        about["safety_checker"] = "off"
        say(f"{kind}: the safety checker is off, so no image is replaced by a black one")
    return family(pipe, call, batch, fingerprint, {**about, **card})


def _wishes(
    prompt: str = "",
    prompts: str | Sequence[str] = "",
    negative_prompt: str = "",
    guidance: float | None = None,
    steps: int | None = None,
    label: int | None = None,
    height: int | None = None,
    width: int | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Wishes:
    texts = [prompt] if prompt else []
    if prompts:
        if prompt:
            raise ValueError("give prompt= or prompts=, not both")
        texts = _lines(prompts) if isinstance(prompts, str) else list(prompts)
    return Wishes(texts, negative_prompt, guidance, steps, label, height, width, dict(arguments or {}))


def _lines(path: str) -> list[str]:
    """The prompts in a text file. Raises ValueError where there are none, FileNotFoundError where there is no file."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"prompts={path} is no file; give a text file with one prompt a line")
    try:
        found = [line.strip() for line in file.read_text("utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise ValueError(f"prompts={path} is not UTF-8 text; save it as such, with one prompt a line") from None
    if not found:
        raise ValueError(f"prompts={path} has no prompts; give one a line")
    return found


def _contents(pipe: Any) -> str:
    """A digest of all weights, configurations and vocabularies of a pipeline in memory."""
    parts: list[Any] = [_settings(pipe)]
    for name, part in sorted(pipe.components.items()):
        parts.append([name, type(part).__name__, _settings(part)])
        if isinstance(part, nn.Module):
            parts.append([[key, str(x.dtype), list(x.shape), _sha256(x)] for key, x in part.state_dict().items()])
        elif hasattr(part, "get_vocab"):
            parts.append([sorted(part.get_vocab().items()), str(part.init_kwargs)])
    return digest(parts)


def _settings(part: Any) -> str:
    """The configuration of a part as text, without the place that it was loaded from."""
    config: Any = getattr(part, "config", None)
    settings = config.to_dict() if hasattr(config, "to_dict") else dict(config or {})
    return json.dumps({name: value for name, value in settings.items() if name != "_name_or_path"}, default=str)


def _sha256(tensor: torch.Tensor) -> str:
    content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    return hashlib.sha256(content.tobytes()).hexdigest()
