"""Latent diffusion (arXiv:2112.10752) from CompVis checkpoints and from diffusers folders."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks import ddim
from .networks.compvis import FIRST_STAGE, LDM, UNET, Guided, below, read_parts, state_dict
from .networks.diffusers_ldm import PIPELINES, unconditional
from .networks.diffusers_parts import is_pipeline
from .networks.from_tensors import shape_of
from .networks.openai_unet import UNet
from .networks.published import open_published
from .networks.stable_diffusion_file import is_stable_diffusion
from .networks.text_encoders import BERTText, token_ids
from .networks.training_flags import heads_of, read_flags

CLASSES, TEXT = "cond_stage_model.embedding.weight", "cond_stage_model.transformer."
IMAGENET = 1001
"""Classes of the published class-conditional model: the last stands for no class."""


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a latent diffusion file of CompVis or an unconditional diffusers folder."""
    if is_pipeline(content, *PIPELINES):
        return True
    tensors = state_dict(content)
    names = (f"{UNET}time_embed.0.weight", f"{FIRST_STAGE}quant_conv.weight")
    return all(isinstance(tensors.get(name), Tensor) for name in names) and not is_stable_diffusion(content)


@generator(recognise=recognise)
def ldm(
    dataset: str,
    path: str = "",
    steps: int = 50,
    scale_factor: float | None = None,
    args: str = "",
    label: int | None = None,
    null_label: int | None = None,
    guidance: float = 1.0,
    prompt: str = "",
    negative_prompt: str = "",
    tokenizer: str = "",
) -> Generator:
    """Latent diffusion: a CompVis .ckpt or an unconditional diffusers folder, sampled with `steps` DDIM steps.

    steps: a .ckpt takes every (T // steps)-th timestep, as the public sampler does: 31 for 30 steps of 1000.
    scale_factor: the factor by which codes of the first stage were multiplied in training. Null takes the one in the
    file, else the one in `args`, else 1, which is right for the published VQ models. A wrong factor gives useless
    images: diffusers writes 0.18215 into folders of VQ models that were trained with 1 (huggingface/diffusers#6725).
    args: for a .ckpt, a JSON or YAML file with its training config or flags; empty for FILE.args.yaml or NAME.args.yaml
    (or .json), NAME.yaml or config.yaml beside it. It gives what the weights do not contain: image_size (that of
    codes), and num_heads or num_head_channels. Its use_ema=false leaves out the moving average of the UNet.
    guidance: weight of classifier-free guidance, of a conditional .ckpt; 1 for none.
    label: the class of all samples of a class-conditional .ckpt; null draws one for each seed.
    null_label: its class that stands for no class, which guidance needs and seeds do not draw. Null takes 1000 if there
    are 1001 classes, as in the published file, and none otherwise.
    prompt, negative_prompt: texts for all images of a text-conditional .ckpt. tokenizer: a folder with the vocab.txt of
    bert-base-uncased, which such a file needs.

    Raises ValueError with what is missing, does not fit or is not understood.
    """
    if scale_factor is not None and not scale_factor > 0:
        raise ValueError(f"scale_factor={scale_factor} must be positive")
    file = Path(path).expanduser()
    condition = {"label": label, "null_label": null_label, "guidance": float(guidance), "prompt": prompt}
    condition |= {"negative_prompt": negative_prompt, "tokenizer": tokenizer}
    if path and file.is_dir():
        _require_unused(path, condition)
        return unconditional(file, steps, scale_factor)
    found = open_published("ldm", path, recognise)
    tensors = state_dict(found.content)
    flags = read_flags(file, args, "ldm")
    classes: list[int] = []
    tokens: Any = None
    try:
        heads, ema = heads_of(flags), flags.get("use_ema", True) is not False
        parts = read_parts(tensors, flags, heads, scale_factor, ema)
        network: UNet | Guided = parts.unet
        if CLASSES in tensors:
            _require_unused(path, condition, "prompt", "negative_prompt", "tokenizer")
            network, classes = _of_classes(parts.unet, tensors, label, null_label, guidance)
        elif f"{TEXT}token_emb.weight" in tensors:
            _require_unused(path, condition, "label", "null_label")
            network, tokens = _of_text(parts.unet, tensors, tokenizer, [prompt, negative_prompt], guidance)
        else:
            _require_unconditional(tensors, parts.unet)
            _require_unused(path, condition)
        levels = ddim.strided(parts.signal, steps)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise ValueError(why if why.startswith(path) else f"{path}: {why}") from None
    known = {"image_size": parts.size, "heads": asdict(heads), "scale_factor": parts.scale, "averaged": parts.averaged}
    fingerprint = digest("ldm", 2, found.sha256, known, levels, label, classes, guidance, tokens)
    card = {**found.card, "sha256": found.sha256, **known, "first_stage": "VQ" if parts.first_stage.quantised else "KL"}
    card |= {"steps": len(levels.times), "classes": len(classes)}
    return LDM(network, parts.first_stage, parts.size, levels, parts.scale, fingerprint, card, classes, label)


def _of_classes(
    unet: UNet, tensors: Mapping[str, Tensor], label: int | None, null_label: int | None, guidance: float
) -> tuple[Guided, list[int]]:
    """The network of a class-conditional file, and the classes that seeds draw."""
    count = shape_of(tensors, CLASSES, 2)[0]
    table = tensors[CLASSES].float()[:, None]
    null = count - 1 if null_label is None and count == IMAGENET else null_label
    for name, value in (("label", label), ("null_label", null)):
        if value is not None and not 0 <= value < count:
            raise ValueError(f"{name}={value} must be a class 0..{count - 1}")
    if guidance == 1:
        return Guided(unet, table), [i for i in range(count) if i != null]
    if null is None:
        raise ValueError(f"guidance={guidance} needs generator.ldm.null_label=CLASS, the class that stands for none")
    return Guided(unet, table, table[null], guidance), [i for i in range(count) if i != null]


def _of_text(
    unet: UNet, tensors: Mapping[str, Tensor], tokenizer: str, texts: list[str], guidance: float
) -> tuple[Guided, list[Any]]:
    """The network of a text-conditional file for a prompt and a negative prompt, and the tokens of both."""
    encoder = BERTText(below(tensors, TEXT))
    if not tokenizer:
        raise ValueError(
            "the prompt needs the tokenizer of the model, which is not in the file: give "
            "generator.ldm.tokenizer=FOLDER with the vocab.txt of bert-base-uncased"
        )
    ids = token_ids(Path(tokenizer).expanduser(), encoder.tokenizer, texts, encoder.limit, encoder.words)
    wanted, null = encoder(ids)
    return Guided(unet, wanted[None], None if guidance == 1 else null, guidance), ids.tolist()


def _require_unconditional(tensors: Mapping[str, Any], unet: UNet) -> None:
    if other := next((name for name in tensors if str(name).startswith("cond_stage_model.")), None):
        raise ValueError(
            f"{other[:100]} belongs to a condition that is not supported, only classes (ClassEmbedder) and text "
            "(BERTEmbedder)"
        )
    if unet.context:
        raise ValueError("the UNet has cross-attention, but the file has no cond_stage_model for it")


def _require_unused(path: str, given: Mapping[str, Any], *names: str) -> None:
    """Raises ValueError for an option that this file has no use for."""
    usual = {"label": None, "null_label": None, "guidance": 1.0, "prompt": "", "negative_prompt": "", "tokenizer": ""}
    for name in names or usual:
        if given[name] != usual[name]:
            raise ValueError(
                f"{path}: {name}={given[name]} has no effect on this model; leave generator.ldm.{name} out"
            )
