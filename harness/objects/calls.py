"""What surrounds a call from Python: the caller's state stays as it was, and files go where the caller wants them."""

import atexit
import random
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..arrays.store import ScoreKey, ShardKey, Store, open_store
from ..core.precision import full_precision
from ..core.progress import briefly
from ..core.registry import Registry
from ..evaluate import FLOOR_OF

NOTEBOOK = "__main__"
"""The module of what is declared in a notebook or a script: it may change without a new version or fingerprint."""


@contextmanager
def untouched(seed: int) -> Iterator[None]:
    """The random generators, the mode of gradients and the precision of the caller, restored at the end; few words.

    Inside, the random generators start from `seed`, so that what a caller's own code draws is the same each time.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002, the caller's own
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    tf32 = torch.backends.cudnn.allow_tf32
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)
    try:
        with torch.inference_mode(False), torch.enable_grad(), full_precision(), briefly():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        torch.backends.cudnn.allow_tf32 = tf32


@contextmanager
def undisturbed(device: torch.device | None) -> Iterator[None]:
    """Without gradients, inference mode and autocast; the caller's random state and default type are as before."""
    kind = torch.get_default_dtype()
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.inference_mode(False), torch.no_grad(), full_precision(), torch.random.fork_rng(devices):
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(kind)


@contextmanager
def evaluating(function: object) -> Iterator[None]:
    """A module in evaluation mode; each of its parts is put back into its own mode. Other functions have no mode."""
    training = [part for part in function.modules() if part.training] if isinstance(function, nn.Module) else []
    if isinstance(function, nn.Module):
        function.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def changeable(registry: Registry, names: Iterable[str]) -> bool:
    """Whether any of these entries was declared in a notebook or a script."""
    return any(name in registry and registry[name].function.__module__ == NOTEBOOK for name in names)


class Parted(Store):
    """A store that keeps what is known of real samples in one folder, and what comes from a generator in another."""

    def __init__(self, generated: Path, real: Path):
        super().__init__(generated)
        self._real = real

    def _path(self, key: ShardKey | ScoreKey) -> Path:
        path = super()._path(key)
        return self._real / path.relative_to(self.root) if _is_real(key) else path


def _is_real(key: ShardKey | ScoreKey) -> bool:
    """Whether an array says something of real samples alone."""
    if isinstance(key, ShardKey):
        return key.source != "fake" and not key.encode
    return key.metric.startswith(FLOOR_OF)


@contextmanager
def arrays(store: str | Path | None, keep_generated: bool, keep_real: bool | None) -> Iterator[tuple[Path, Store]]:
    """A folder that is removed at the end, and a store.

    store: where arrays are kept that may be, the cache folder by default. keep_generated, keep_real: whether those of
    generated and of real samples are kept there. Others are removed at the end; with keep_real=None those of real
    samples when the process ends, so that a second call finds them.
    """
    with tempfile.TemporaryDirectory(prefix="assay-") as name:
        own, kept = Path(name), open_store(store)
        if keep_generated and keep_real:
            yield own, kept
        else:
            real = kept.root if keep_real else own / "store" if keep_real is not None else _of_this_process()
            yield own, Parted(kept.root if keep_generated else own / "store", real)


@cache
def _of_this_process() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="assay-")
    atexit.register(folder.cleanup)
    return Path(folder.name)
