"""Small files in the layout of CompVis, and what the official code computes from them.

tests/generators/compvis.npz was made with CompVis/latent-diffusion a506df5 and CompVis/taming-transformers (both MIT):
names and shapes of the tensors of a few small models, their configs, and outputs. The weights are drawn by `drawn`.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

BETAS = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
SCHEDULE = {"betas": BETAS.float(), "alphas_cumprod": (1 - BETAS).cumprod(0).float()}
OTHERS = {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(7)}


class Case(NamedTuple):
    """tensors: by name; config: what its config.yaml says; found: outputs of the official code."""

    tensors: dict[str, Tensor]
    config: dict[str, Any]
    found: dict[str, Tensor]


def drawn(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, Tensor]:
    """Weights of these shapes, drawn in the order of their names."""
    rng = np.random.default_rng(seed)
    made = {}
    for name in sorted(shapes):
        shape = tuple(shapes[name])
        spread = 0.1 if len(shape) == 1 else 1 / math.sqrt(math.prod(shape[1:]))
        if "emb." in name or "embedding" in name:
            spread = 1.0
        one = len(shape) == 1 and name.endswith("weight")
        made[name] = torch.from_numpy(one + spread * rng.standard_normal(shape)).float()
    return made


def case(name: str) -> Case:
    """One of cin, cin_width, cin_kl, text (latent diffusion), kl16, kl8, vq, vq_noattn, taming (first stages)."""
    with np.load(Path(__file__).parent / "generators" / "compvis.npz") as arrays:
        parts = {key.removeprefix(f"{name}."): arrays[key] for key in arrays.files if key.startswith(f"{name}.")}
    shapes = [[int(n) for n in text.split(",") if n] for text in parts.pop("shapes").tolist()]
    tensors = drawn(dict(zip(parts.pop("names").tolist(), shapes, strict=True)))
    config = json.loads(parts.pop("config").item())
    if any(key.startswith("model.") for key in tensors):
        tensors |= SCHEDULE
    if any(key.startswith("model_ema.") for key in tensors):
        tensors |= OTHERS
    return Case(tensors, config, {key: torch.from_numpy(x) for key, x in parts.items()})


def write(folder: Path, tensors: Mapping[str, Any], config: Mapping[str, Any] | None = None) -> str:
    """model.ckpt as Lightning saves it, and config.yaml beside it (JSON is YAML); returns the path of the first."""
    torch.save({"state_dict": dict(tensors), "epoch": 1}, folder / "model.ckpt")
    (folder / "config.yaml").unlink(missing_ok=True)
    if config is not None:
        (folder / "config.yaml").write_text(json.dumps(config))
    return str(folder / "model.ckpt")
