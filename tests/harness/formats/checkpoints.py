"""What tests of checkpoints share: tensors, arrays and calls in a file, and how the file is read."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.harness.formats.checkpoint import read_checkpoint

from ...nvlabs import importable

TENSORS = {
    "mapping.w_avg": torch.arange(4.0),
    "mapping.fc0.weight": torch.arange(16.0).reshape(4, 4),
    "synthesis.b4.resample_filter": torch.ones(2, 2) / 4,
    "synthesis.b4.conv1.weight": torch.arange(54.0).reshape(2, 3, 3, 3),
}
BUFFERS = {"w_avg", "resample_filter"}


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return list(found) == list(expected) and all(
        found[name].dtype == t.dtype and torch.equal(found[name], t) for name, t in expected.items()
    )


def content(tmp_path: Path, raw: bytes) -> Any:
    (tmp_path / "raw").write_bytes(raw)
    return read_checkpoint(tmp_path / "raw").content


ARRAYS = {
    "float": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big-endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 3)),
    "bool": np.array([True, False]),
    "point": np.array(2.5),
    "half": np.ones(3, np.float16),
}


class Calls:
    """Pickles as a call of `function`, which may be one of these too."""

    def __init__(self, function: Any, *args: Any):
        self.function, self.args = function, args

    def __call__(self) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


def loads(raw: bytes) -> Any:
    with importable():
        return pickle.loads(raw)
