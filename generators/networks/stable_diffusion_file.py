"""Stable Diffusion 1 in one file (.ckpt or .safetensors) with the names of latent-diffusion (arXiv:2112.10752)."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ...harness.core.files import digest
from ...harness.formats.checkpoint import Checkpoint
from . import ddim
from .compvis import AVERAGED, LDM, UNET, Guided, below, read_parts, state_dict
from .text_encoders import CLIPText, token_ids
from .training_flags import find_flags, heads_of

TEXT = "cond_stage_model.transformer.text_model."
FLAGS = {
    "image_size": 64,
    "num_heads": 8,
    "scale_factor": 0.18215,
    "linear_start": 0.00085,
    "linear_end": 0.012,
    "timesteps": 1000,
}
"""What no file of version 1 contains and what all of them share, unless a config beside one says otherwise."""
OTHERS = (
    ("conditioner.embedders.", "Stable Diffusion XL"),
    ("cond_stage_model.model.", "Stable Diffusion 2 (text encoder of OpenCLIP)"),
    ("cond_stage_model.roberta.", "AltDiffusion (text encoder of RoBERTa)"),
    ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3"),
    ("model.diffusion_model.double_blocks.", "Flux"),
    ("control_model.", "ControlNet"),
    ("lora_unet_", "LoRA, a change of a model"),
    ("lora_te_", "LoRA, a change of a model"),
    ("string_to_param", "textual inversion, a change of a model"),
)
"""Beginnings of names, and the models that have them."""
MARKERS = {"v_pred": "prediction of v", "ztsnr": "zero terminal SNR", "edm_mean": "scaled codes (Playground)"}
FIX = "Convert it to a diffusers folder, which generator=stable_diffusion or another generator may open"


def is_stable_diffusion(content: Any) -> bool:
    """Whether a checkpoint is a single file of Stable Diffusion 1, or one of those that `read_file` refuses by name."""
    tensors = state_dict(content)
    return f"{TEXT}embeddings.token_embedding.weight" in tensors or _other(tensors) is not None


def read_file(
    path: str,
    found: Checkpoint,
    prompt: str,
    negative_prompt: str,
    guidance: float,
    steps: int,
    tokenizer: str,
    args: str,
    ema: bool,
) -> LDM:
    """The model of a single file. Raises ValueError with what is missing, does not fit or is not understood."""
    tensors = state_dict(found.content)
    try:
        if other := _other(tensors):
            raise ValueError(f"this is {other}; single files of Stable Diffusion 1 are supported. {FIX}")
        for name, meaning in MARKERS.items():
            if name in tensors:
                raise ValueError(f"{name} stands for {meaning}, which is not supported. {FIX}")
        config = find_flags(Path(path).expanduser(), args, "stable_diffusion")
        flags = FLAGS | (config or {})
        heads = heads_of(flags)
        parts = read_parts(tensors, flags, heads, None, ema)
        encoder = CLIPText(below(tensors, TEXT))
        if not tokenizer:
            raise ValueError(
                "the prompt needs CLIP's tokenizer, which is not in the file: give "
                "generator.stable_diffusion.tokenizer=FOLDER with vocab.json and merges.txt (the folder tokenizer of a "
                "diffusers folder of Stable Diffusion 1)"
            )
        guided = guidance > 1 and prompt != negative_prompt
        texts = [prompt, negative_prompt] if guided else [prompt]
        folder = Path(tokenizer).expanduser()
        ids = token_ids(folder, encoder.tokenizer, texts, encoder.limit, encoder.words)
        embedded = encoder(ids)
        network = Guided(parts.unet, embedded[:1], embedded[1] if guided else None, guidance)
        levels = ddim.strided(parts.signal, steps, most=steps)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    known = {"image_size": parts.size, "heads": asdict(heads), "scale_factor": parts.scale, "averaged": parts.averaged}
    fingerprint = digest("stable_diffusion file", 1, found.sha256, known, levels, guidance, ids.tolist())
    both = any(name.startswith(AVERAGED) for name in tensors)
    weights = "moving average" if parts.averaged else "trained weights, beside an average" if both else "the only ones"
    source = "config" if config else "assumed: those of version 1"
    card = {**found.card, "sha256": found.sha256, **known, "flags_from": source, "unet": weights}
    return LDM(network, parts.first_stage, parts.size, levels, parts.scale, fingerprint, card)


def _other(tensors: Mapping[str, Any]) -> str | None:
    """The name of the model that these tensors belong to, if it is none of Stable Diffusion 1."""
    for beginning, name in OTHERS:
        if any(str(key).startswith(beginning) for key in tensors):
            return name
    if any(".lora_down." in str(key) or ".lora_A." in str(key) for key in tensors):
        return "LoRA, a change of a model"
    first = tensors.get(f"{UNET}input_blocks.0.0.weight")
    if f"{TEXT}embeddings.token_embedding.weight" in tensors and isinstance(first, Tensor) and first.ndim == 4:
        kinds = {
            5: "a model that continues depth maps",
            7: "an upscaler",
            8: "InstructPix2Pix",
            9: "an inpainting model",
        }
        channels = first.shape[1]
        if channels != 4:
            return f"{kinds.get(channels, 'another model')}: its UNet takes {channels} channels, not 4"
    return None
