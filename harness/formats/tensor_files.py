"""Arrays in a torch file, of which nothing is executed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .checkpoint import read_checkpoint

SUFFIXES = (".pt", ".pth")
FORMATS = ("torch", "legacy torch", "safetensors")
PAIR = ("images", "labels")


def read_tensors(file: Path, name: str) -> Mapping[str, NDArray[Any]]:
    """{name: the tensor of a file}; those of a dictionary by its keys; of a pair, `images` and `labels`.

    Raises ValueError, in one line, where the file is damaged or has no tensor in one of these places.
    """
    content = read_checkpoint(file).content
    if isinstance(content, Tensor | np.ndarray):
        return {name: _array(content)}
    if isinstance(content, list | tuple) and len(content) == 2 and all(isinstance(x, Tensor) for x in content):
        return {name: _array(part) for name, part in zip(PAIR, content, strict=True)}
    if isinstance(content, list | tuple) and content and all(isinstance(x, Tensor) for x in content):
        if len({part.shape for part in content}) == 1:
            return {name: _array(torch.stack(list(content)))}
        raise ValueError(f"{file} is a list of tensors of different shapes; give images of one size")
    found = content if isinstance(content, dict) else {}
    arrays = {str(key): _array(part) for key, part in found.items() if isinstance(part, Tensor | np.ndarray)}
    if not arrays:
        raise ValueError(f"{file} has no tensor at its top; save the images alone: torch.save(images, FILE)")
    return arrays


def _array(tensor: Tensor | NDArray[Any]) -> NDArray[Any]:
    if isinstance(tensor, np.ndarray):
        return tensor
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).detach().numpy()
