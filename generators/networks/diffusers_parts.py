"""Opening the parts of a diffusers folder, from local files only, and sampling from their networks with DDIM."""

import importlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...harness.core.files import sha256_of
from ...harness.formats import settings
from ...harness.formats.built import REFUSED, require_sized, whole
from ...harness.formats.checkpoint import regular_files
from .ddim import batches

TENSORS, SPARE = 10_000, 2**24
"""How many tensors a .bin file is taken to have, and how many numbers a network may have beyond those in its files."""
LARGEST = 10**6
"""Largest number in the configuration of a scheduler."""
AT_ONCE = 8
"""Number of items that an encoder or decoder processes together; it bounds the memory."""

WEIGHTS = (".safetensors", ".bin")
FOREIGN = {"quantization_config", "auto_map", "kernel_config"}
"""Settings with which a library runs code that is not its own, or numbers that are not in the weights."""
TIMESTEPS = 100_000
"""Most timesteps of a training that are believed; published networks have 1,000 or 4,000."""


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
    objects, where there are no others. The network that config.json describes is compared with the size of the weights
    before it takes memory. Attention is computed by torch, whatever implementation the folder names.
    """
    network_class = class_of(library, kind) if isinstance(kind, str) else kind
    with opening(folder, network_class.__name__):
        config = read_json(folder / "config.json")
        if foreign := sorted(FOREIGN & config.keys()):
            raise ValueError(f"config.json has {foreign[0]}, which is not supported")
        weights = sum((folder / file).stat().st_size for file in regular_files(folder) if file.endswith(WEIGHTS))
        options: dict[str, Any] = {"torch_dtype": dtype, "use_safetensors": safetensors}
        if library == "diffusers":
            options["low_cpu_mem_usage"] = False
            require_sized(lambda: network_class.from_config(config), weights, folder)
        else:  # its configuration may name a repository whose code computes attention
            own = "sdpa" if network_class._supports_sdpa else "eager"
            described = network_class.config_class.from_dict(_without_code(config), attn_implementation=own)
            options |= {"config": described, "attn_implementation": own}
            require_sized(lambda: network_class(described), weights, folder)
        network, info = network_class.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, **options
        )
        if missing := sorted(info["missing_keys"]):
            raise ValueError(f"{len(missing)} weights are missing, the first is {missing[0]}")
    return network.eval().requires_grad_(False)


def _without_code(config: Any) -> Any:
    """A configuration without the settings that say which code computes a part, at any depth."""
    if not isinstance(config, dict):
        return config
    return {key: _without_code(value) for key, value in config.items() if "_implementation" not in key}


def find_folder(family: str, path: str) -> Path:
    """The folder in option `path` of a generator. Raises ValueError without a path, FileNotFoundError for no folder."""
    if not path:
        raise ValueError(f"generator {family} needs a diffusers folder: give generator.{family}.path=FOLDER")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{path} is not a folder; give generator.{family}.path=FOLDER")
    regular_files(folder)
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
    if not file.exists():
        raise ValueError(f"{file} does not exist; give a complete diffusers folder")
    content = settings.read_json(file)
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
    whole(config.get("num_train_timesteps", 1000), "num_train_timesteps", most=TIMESTEPS)
    require_bounded(config)
    try:
        scheduler = class_of("diffusers", "DDIMScheduler").from_config(config)
    except REFUSED as error:
        raise ValueError(f"the scheduler's configuration cannot be used: {' '.join(str(error).split())}") from None
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
        if isinstance(value, int | float) and not -LARGEST <= value <= LARGEST and (name, value) != settings.UNLIMITED:
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
