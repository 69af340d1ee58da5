"""Random weights under the names of published networks that are feature spaces; transformers are narrow."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

State = dict[str, Tensor]


def normal(generator: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=generator)


def he(shapes: Mapping[str, Sequence[int]], seed: int = 0) -> State:
    """Weights that keep the scale of activations, small biases; statistics of batch normalisation that matter."""
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(*shape, generator=generator)
        elif len(shape) > 1:
            state[name] = normal(generator, *shape, scale=(2 / np.prod(shape[1:])) ** 0.5)
        elif "bn" in name and name.endswith("weight"):
            state[name] = 0.7 + 0.6 * torch.rand(*shape, generator=generator)
        else:
            state[name] = normal(generator, *shape, scale=0.1)
    return state


def shapes_of(network: Callable[[], nn.Module]) -> dict[str, torch.Size]:
    with torch.device("meta"):
        return {name: tensor.shape for name, tensor in network().state_dict().items()}


def dinov2_state(width: int = 32, depth: int = 2, side: int = 37, patch: int = 14) -> State:
    generator = torch.Generator().manual_seed(1)
    state = {
        "cls_token": normal(generator, 1, 1, width),
        "pos_embed": normal(generator, 1, 1 + side**2, width),
        "mask_token": torch.zeros(1, width),
        "patch_embed.proj.weight": normal(generator, width, 3, patch, patch, scale=0.05),
        "patch_embed.proj.bias": normal(generator, width),
    }
    for block in range(depth):
        for name, shape in {
            "norm1.weight": (width,), "norm1.bias": (width,), "norm2.weight": (width,), "norm2.bias": (width,),
            "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
            "mlp.fc1.weight": (4 * width, width), "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width), "mlp.fc2.bias": (width,),
            "ls1.gamma": (width,), "ls2.gamma": (width,),
        }.items():  # fmt: skip
            state[f"blocks.{block}.{name}"] = normal(generator, *shape, scale=0.3)
    return state | {"norm.weight": normal(generator, width), "norm.bias": normal(generator, width)}


def clip_state(width: int = 128, depth: int = 2, side: int = 4, patch: int = 14, projected: int = 24) -> State:
    generator = torch.Generator().manual_seed(2)
    state = {
        "visual.class_embedding": normal(generator, width),
        "visual.positional_embedding": normal(generator, 1 + side**2, width),
        "visual.proj": normal(generator, width, projected, scale=0.1),
        "visual.conv1.weight": normal(generator, width, 3, patch, patch, scale=0.2),
        "logit_scale": torch.tensor(4.6),
        "token_embedding.weight": torch.zeros(10, 8),
        "transformer.resblocks.0.ln_1.weight": torch.zeros(8),
    }
    for name in ("ln_pre", "ln_post"):
        state |= {f"visual.{name}.{part}": normal(generator, width) for part in ("weight", "bias")}
    for block in range(depth):
        for name, shape in {
            "ln_1.weight": (width,), "ln_1.bias": (width,), "ln_2.weight": (width,), "ln_2.bias": (width,),
            "attn.in_proj_weight": (3 * width, width), "attn.in_proj_bias": (3 * width,),
            "attn.out_proj.weight": (width, width), "attn.out_proj.bias": (width,),
            "mlp.c_fc.weight": (4 * width, width), "mlp.c_fc.bias": (4 * width,),
            "mlp.c_proj.weight": (width, 4 * width), "mlp.c_proj.bias": (width,),
        }.items():  # fmt: skip
            state[f"visual.transformer.resblocks.{block}.{name}"] = normal(generator, *shape, scale=0.2)
    return state
