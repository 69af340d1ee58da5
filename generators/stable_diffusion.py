"""Stable Diffusion from a diffusers folder (arXiv:2112.10752), with one prompt for all images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
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
    opening,
    read_json,
    require_pipeline,
)

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
    tokenizer_class, transformers_log = class_of("transformers", "CLIPTokenizer"), class_of("transformers", "logging")
    with opening(folder / "tokenizer", "CLIPTokenizer"):
        tokenizer = tokenizer_class.from_pretrained(folder / "tokenizer", local_files_only=True)
    enabled = transformers_log.is_progress_bar_enabled()
    transformers_log.disable_progress_bar()
    try:
        encoder = open_network(folder / "text_encoder", "CLIPTextModel", "transformers")
    finally:
        if enabled:
            transformers_log.enable_progress_bar()
    limit = tokenizer.model_max_length
    rows = [tokenizer(text, padding="max_length", max_length=limit)["input_ids"] for text in texts]
    for text, row in zip(texts, rows, strict=True):
        if len(row) > limit:
            raise ValueError(f"a prompt has {len(row)} tokens, the limit is {limit}; shorten {text[:40]!r}...")
    embedded: Tensor = encoder(torch.tensor(rows)).last_hidden_state
    return embedded


def recognise(content: Any) -> bool:
    """Whether a checkpoint is a diffusers folder of Stable Diffusion."""
    return is_pipeline(content, PIPELINE)


@generator(recognise=recognise)
def stable_diffusion(
    dataset: str, path: str = "", prompt: str = "", negative_prompt: str = "", guidance: float = 7.5, steps: int = 50
) -> Generator:
    """Stable Diffusion with one prompt for all images; sampled by DDIM, without the safety checker.

    path: a diffusers folder. guidance: its weight w; 1 means no guidance, and equal prompts have none either.
    steps: number of DDIM steps.
    """
    folder = find_folder("stable_diffusion", path)
    require_pipeline(folder, PIPELINE)
    if guidance < 1:
        raise ValueError(f"guidance={guidance} must be at least 1, which means no guidance")
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
