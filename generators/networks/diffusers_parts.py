"""Opening the parts of a diffusers folder, from local files only, and sampling from their networks with DDIM."""

import importlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor

from ...harness.core.files import sha256_of
from ...harness.formats.built import bounded
from .ddim import batches

TENSORS, SPARE = 10_000, 2**24
"""How many tensors a .bin file is taken to have, and how many numbers a network may have beyond those in its files."""
LARGEST = 10**6
"""Largest number in the configuration of a scheduler."""
UNLIMITED = ("lambda_min_clipped", -math.inf)
"""The one that is infinite, by default."""
AT_ONCE = 8
"""Number of items that an encoder or decoder processes together; it bounds the memory."""


def class_of(library: Literal["diffusers", "transformers"], name: str) -> Any:
    """A class of a library, which is imported on demand. Raises ImportError with the command that installs it."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return getattr(importlib.import_module(library), name)
    except ImportError as error:
        raise ImportError(
            f"diffusers folders need diffusers and transformers: pip install 'assay[diffusers]' ({error})"
        ) from None


@contextmanager
def opening(folder: Path, what: str) -> Iterator[None]:
    """Silences the warnings of a library, and turns any exception into a ValueError with the name of the folder."""
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist; a complete diffusers folder has {what} there")
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except Exception as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{folder} cannot be opened as {what} ({why}); is the folder complete?") from None


def open_network(
    folder: Path,
    kind: Any,
    library: Literal["diffusers", "transformers"] = "diffusers",
    dtype: torch.dtype = torch.float32,
    safetensors: bool | None = None,
) -> Any:
    """The network of a class, or of the name of one, in a folder, frozen. Raises ValueError when weights are missing.

    safetensors: whether weights are read from safetensors files alone; None also reads .bin files, without unpickling
    objects, where there are no others. Before anything is read, the network is built without memory: it must not be
    larger than the files. Attention is computed by torch, whatever implementation the folder names.
    """
    network_class = class_of(library, kind) if isinstance(kind, str) else kind
    with opening(folder, network_class.__name__):
        require_size(network_class, folder)
        own: dict[str, Any] = {"low_cpu_mem_usage": False}
        if library == "transformers":
            own = {"attn_implementation": attention(network_class)}
        options = {"local_files_only": True, "output_loading_info": True, "use_safetensors": safetensors, **own}
        network, info = network_class.from_pretrained(folder, torch_dtype=dtype, **options)
        if missing := sorted(info["missing_keys"]):
            raise ValueError(f"{len(missing)} weights are missing, the first is {missing[0]}")
    return network.eval().requires_grad_(False)


def require_size(network_class: Any, folder: Path) -> None:
    """Raises ValueError where the config.json of a folder describes a larger network than its files can hold."""
    config = read_json(folder / "config.json")
    if unsafe := sorted(set(_implementations(config))):
        raise ValueError(f"its config.json asks for code from elsewhere: attn_implementation={unsafe[0]!r}")
    if "quantization_config" in config:
        raise ValueError("its weights are quantised (quantization_config), which is not supported")
    files = [file for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern)]
    size = sum(file.stat().st_size for file in files)
    with torch.device("meta"), bounded(_tensors(files)):
        if hasattr(network_class, "config_class"):
            made = network_class.config_class.from_dict(config)
            made._attn_implementation = attention(network_class)
            network = network_class(made)
        else:
            network = network_class.from_config(config)
    if sum(tensor.numel() for tensor in (*network.parameters(), *network.buffers())) > size + SPARE:
        raise ValueError("its config.json describes a network that takes far more memory than its files have bytes")


def _tensors(files: Sequence[Path]) -> int:
    """How many tensors files hold."""
    found = 0
    for file in files:
        if file.suffix == ".bin":
            found += TENSORS
            continue
        with safe_open(file, "pt") as content:
            found += len(content.keys())
    return found


def attention(network_class: Any) -> str:
    """Which of the two implementations that are part of torch a network of transformers uses."""
    return "sdpa" if network_class._supports_sdpa else "eager"


def _implementations(config: Any) -> Iterator[str]:
    """Repositories that a configuration, or a part of it, names as implementations of attention."""
    if isinstance(config, dict):
        for name, value in config.items():
            if "attn_implementation" in name and isinstance(value, str) and "/" in value:
                yield value
            yield from _implementations(value)
    elif isinstance(config, list):
        for value in config:
            yield from _implementations(value)


def find_folder(family: str, path: str) -> Path:
    """The folder in option `path` of a generator. Raises ValueError without a path, FileNotFoundError for no folder."""
    if not path:
        raise ValueError(f"generator {family} needs a diffusers folder: give generator.{family}.path=FOLDER")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; give generator.{family}.path=FOLDER")
    return folder


def require_pipeline(folder: Path, *names: str) -> None:
    """Raises ValueError unless the folder's model_index.json names a pipeline of one of these classes."""
    found = read_json(folder / "model_index.json").get("_class_name")
    if found not in names:
        raise ValueError(f"{folder} holds a {found}, not a {' or '.join(names)}")


def is_pipeline(content: Any, *names: str) -> bool:
    """Whether a folder, as `read_checkpoint` returns it, is a pipeline of one of these classes."""
    index = content.get("model_index.json") if isinstance(content, Mapping) else None
    return isinstance(index, Mapping) and index.get("_class_name") in names


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError with the name of the file."""
    try:
        content = json.loads(file.read_text(), parse_constant=_constant)
    except FileNotFoundError:
        raise ValueError(f"{file} does not exist; give a complete diffusers folder") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not a readable JSON file ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds no JSON object")
    return content


def _constant(name: str) -> float:
    if name == "NaN":
        raise ValueError("NaN is no number")
    return float(name)


def hashes(folder: Path, *parts: str) -> dict[str, str]:
    """sha256 of every file in the named parts of a folder, by relative path."""
    files = sorted(file for part in parts for file in (folder / part).glob("[!.]*") if file.is_file())
    return {file.relative_to(folder).as_posix(): sha256_of(file) for file in files}


def ddim_scheduler(config: Mapping[str, Any], steps: int) -> Any:
    """A DDIMScheduler of `steps` timesteps with the noise schedule in the configuration of any scheduler.

    Raises ValueError when that configuration has no such noise schedule, or fewer timesteps.
    """
    if "beta_start" not in config:
        raise ValueError(
            f"scheduler {config.get('_class_name')} has no beta_start: DDIM cannot sample with its schedule"
        )
    require_bounded(config)
    scheduler = class_of("diffusers", "DDIMScheduler").from_config(config)
    trained = scheduler.config.num_train_timesteps
    if not 1 <= steps <= trained:
        raise ValueError(f"steps={steps} must be from 1 to {trained}, the timesteps that the network was trained on")
    scheduler.set_timesteps(steps)
    if int(scheduler.timesteps[0]) >= trained:
        raise ValueError(
            f"steps={steps} begins at timestep {int(scheduler.timesteps[0])} of {trained}; give fewer steps"
        )
    return scheduler


def require_bounded(config: Mapping[str, Any]) -> None:
    """Raises ValueError for a number in the configuration of a scheduler for which it would need too much memory."""
    for name, value in config.items():
        if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST and (name, value) != UNLIMITED:
            raise ValueError(f"scheduler_config.json has {name}={value:g}; numbers up to {LARGEST:,} are read")


def ddim(network: Callable[[Tensor, Tensor], Tensor], scheduler: Any, x: Tensor) -> Tensor:
    """x_0 [N, ...] from x_T, without added noise (arXiv:2010.02502 eq. 12 with σ = 0); differentiable in x_T."""
    finished = []
    for batch in batches(x):
        for t in scheduler.timesteps:
            batch = scheduler.step(network(batch, t), t, batch).prev_sample
        finished.append(batch)
    return torch.cat(finished)[: len(x)]


def in_pieces(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """function(x), a bounded number of items at a time."""
    return torch.cat([function(piece) for piece in torch.split(x, AT_ONCE)])


def check_images(images: Tensor, channels: int, factor: int) -> None:
    """Raises ValueError unless images are [N, channels, H, W] with H and W divisible by `factor`."""
    if images.ndim != 4 or images.shape[1] != channels or any(side % factor for side in images.shape[2:]):
        raise ValueError(
            f"images have shape {list(images.shape)}; this encoder takes [N, {channels}, H, W] with H and W divisible "
            f"by {factor}: choose such a mode and size of the data set"
        )
