"""Stable Diffusion (arXiv:2112.10752) from a diffusers folder or a single file, with one prompt for all images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..harness.core.files import digest
from ..harness.core.protocols import Generator
from ..harness.core.registry import generator
from .networks.diffusers_kl import KLAutoencoder
from .networks.diffusers_ldm import LatentDiffusion, latent_shape
from .networks.diffusers_parts import (
    class_of,
    ddim_scheduler,
    find_folder,
    hashes,
    is_pipeline,
    open_network,
    read_json,
    require_pipeline,
)
from .networks.published import open_published
from .networks.stable_diffusion_file import is_stable_diffusion, read_file
from .networks.text_encoders import token_ids

PIPELINE = "StableDiffusionPipeline"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


class Guided(nn.Module):
    """Classifier-free guidance (arXiv:2207.12598 eq. 6): ε = ε(x, negative) + w (ε(x, prompt) - ε(x, negative)).

    context: embeddings [2, tokens, D] of the negative prompt and the prompt, or [1, tokens, D] without guidance.
    """

    context: Tensor

    def __init__(self, unet: nn.Module, context: Tensor, guidance: float):
        super().__init__()
        self.unet, self.guidance = unet, guidance
        self.register_buffer("context", context)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        several = len(self.context)
        noise = self.unet(x.repeat(several, 1, 1, 1), t, self.context.repeat_interleave(len(x), 0)).sample
        if several == 1:
            return noise  # type: ignore[no-any-return]
        negative, prompt = noise.chunk(2)
        return negative + self.guidance * (prompt - negative)  # type: ignore[no-any-return]


def embeddings(folder: Path, texts: Sequence[str]) -> Tensor:
    """Embeddings [len(texts), tokens, D] of texts by the text encoder. Raises ValueError if a text is too long."""
    ids = token_ids(folder / "tokenizer", "CLIPTokenizer", texts)
    transformers_log = class_of("transformers", "logging")
    enabled = transformers_log.is_progress_bar_enabled()
    transformers_log.disable_progress_bar()
    try:
        encoder = open_network(folder / "text_encoder", "CLIPTextModel", "transformers")
    finally:
        if enabled:
            transformers_log.enable_progress_bar()
    embedded: Tensor = encoder(ids).last_hidden_state
    return embedded


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a diffusers folder of Stable Diffusion, or a single file of it or its relatives."""
    return is_pipeline(content, PIPELINE) or is_stable_diffusion(content)


@generator(recognise=recognise)
def stable_diffusion(
    dataset: str,
    path: str = "",
    prompt: str = "",
    negative_prompt: str = "",
    guidance: float = 7.5,
    steps: int = 50,
    tokenizer: str = "",
    args: str = "",
    ema: bool = False,
) -> Generator:
    """Stable Diffusion with one prompt for all images; sampled by DDIM, without the safety checker.

    path: a diffusers folder, or a single file (.ckpt, .safetensors) of version 1. guidance: its weight w; 1 means no
    guidance, and equal prompts have none either. steps: number of DDIM steps.
    For a single file: tokenizer: a folder with vocab.json and merges.txt, which it needs. ema: take the moving average
    of the UNet if the file has both; the public scripts and diffusers take the other. args: a JSON or YAML file with
    its training config; empty for NAME.yaml beside it, or for what all files of version 1 share: image_size=64 (that
    of codes), num_heads=8, scale_factor=0.18215.

    Raises ValueError with what is missing, does not fit or is not understood.
    """
    if guidance < 1:
        raise ValueError(f"guidance={guidance} must be at least 1, which means no guidance")
    if path and Path(path).expanduser().is_file():
        found = open_published("stable_diffusion", path, recognise)
        return read_file(path, found, prompt, negative_prompt, float(guidance), steps, tokenizer, args, ema)
    folder = find_folder("stable_diffusion", path)
    require_pipeline(folder, PIPELINE)
    for name, value in (("tokenizer", tokenizer), ("args", args), ("ema", ema)):
        if value:
            raise ValueError(f"{path} is a folder: generator.stable_diffusion.{name} is for single files; leave it out")
    guided = guidance > 1 and prompt != negative_prompt
    context = embeddings(folder, [negative_prompt, prompt] if guided else [prompt])
    # The public pipeline always uses these two settings, even if the folder has others.
    config = read_json(folder / "scheduler" / "scheduler_config.json") | {"clip_sample": False, "steps_offset": 1}
    scheduler = ddim_scheduler(config, steps)
    first_stage = KLAutoencoder(folder / "vae")
    unet = open_network(folder / "unet", "UNet2DConditionModel")
    files = hashes(folder, *PARTS)
    card = {"format": f"diffusers {PIPELINE}", "files": files, "scaling_factor": first_stage.scale}
    options = (prompt, negative_prompt, float(guidance), steps)
    return LatentDiffusion(
        Guided(unet, context, guidance),
        scheduler,
        first_stage,
        latent_shape(unet.config),
        digest("stable_diffusion", 1, files, *options),
        card,
    )
