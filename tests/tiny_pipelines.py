"""Pipelines of diffusers with random weights, made by its own classes with the sizes of its own tests: no downloads."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

with warnings.catch_warnings(action="ignore"):
    import diffusers as d
    import transformers as t

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SPECIAL = ("<|startoftext|>", "<|endoftext|>")
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
DETERMINISTIC: dict[str, Any] = BETAS | {"clip_sample": False, "set_alpha_to_one": False}


def clip_tokenizer() -> Any:
    """Letters, and the word cat."""
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "ca", "cat</w>", *SPECIAL]
    special = {"bos_token": SPECIAL[0], "eos_token": SPECIAL[1], "pad_token": SPECIAL[1], "unk_token": SPECIAL[1]}
    vocabulary = {word: i for i, word in enumerate(words)}
    return t.CLIPTokenizer(vocab=vocabulary, merges=[("c", "a"), ("ca", "t</w>")], model_max_length=77, **special)


def t5_tokenizer() -> Any:
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), *((letter, -3.0) for letter in LETTERS)]
    return t.T5Tokenizer(vocab=[*words, ("▁cat", -1.0)], extra_ids=0, model_max_length=77)


def clip(projection: bool = False, hidden: int = 32) -> Any:
    sizes = {"hidden_size": hidden, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"bos_token_id": 54, "eos_token_id": 55, "pad_token_id": 55}
    config = t.CLIPTextConfig(vocab_size=56, max_position_embeddings=77, projection_dim=32, **sizes, **ids)
    return (t.CLIPTextModelWithProjection if projection else t.CLIPTextModel)(config).eval()


def t5() -> Any:
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4, "vocab_size": 31}
    return t.T5EncoderModel(t.T5Config(**sizes)).eval()


def vae(channels: int = 4, **options: Any) -> Any:
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    sizes = {"block_out_channels": [8, 16], "norm_num_groups": 4, "sample_size": 16}
    return d.AutoencoderKL(latent_channels=channels, **blocks, **sizes, **options).eval()


def unet(**options: Any) -> Any:
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 8}
    return d.UNet2DConditionModel(
        **{**blocks, **sizes, "attention_head_dim": 2, "cross_attention_dim": 32, "in_channels": 4, **options}
    ).eval()


def pixel_unet(**options: Any) -> Any:
    blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, "attention_head_dim": 8}
    channels = {"in_channels": 3, "out_channels": 3, "sample_size": 8}
    return d.UNet2DModel(**{**blocks, **sizes, **channels, **options}).eval()


def sd(scheduler: Any = None) -> Any:
    parts = {"vae": vae(), "unet": unet(), "text_encoder": clip(), "tokenizer": clip_tokenizer()}
    scheduler = scheduler or d.DDIMScheduler(**DETERMINISTIC)
    return d.StableDiffusionPipeline(
        **parts, scheduler=scheduler, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )


def sd_ancestral() -> Any:
    return sd(d.EulerAncestralDiscreteScheduler(**BETAS))


def sdxl() -> Any:
    network = unet(
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=80,
        cross_attention_dim=64,
        use_linear_projection=True,
        attention_head_dim=(2, 4),
    )
    return d.StableDiffusionXLPipeline(
        vae=vae(),
        unet=network,
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(projection=True),
        tokenizer_2=clip_tokenizer(),
        scheduler=d.EulerDiscreteScheduler(**BETAS, timestep_spacing="leading"),
    )


def sd3() -> Any:
    network = d.SD3Transformer2DModel(
        sample_size=16,
        patch_size=1,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=4,
    )
    return d.StableDiffusion3Pipeline(
        transformer=network.eval(),
        vae=vae(scaling_factor=1.5, shift_factor=0.06),
        text_encoder=clip(projection=True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(projection=True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(),
        tokenizer_3=t5_tokenizer(),
        scheduler=d.FlowMatchEulerDiscreteScheduler(),
    )


def flux() -> Any:
    network = d.FluxTransformer2DModel(
        patch_size=1,
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    return d.FluxPipeline(
        transformer=network.eval(),
        vae=vae(scaling_factor=1.5, shift_factor=0.06),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        scheduler=d.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
    )


def pixart() -> Any:
    network = d.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=3,
        caption_channels=32,
        in_channels=4,
        cross_attention_dim=24,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
    )
    return d.PixArtAlphaPipeline(
        transformer=network.eval(),
        vae=vae(),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
        scheduler=d.DPMSolverMultistepScheduler(),
    )


def lcm() -> Any:
    return d.LatentConsistencyModelPipeline(
        vae=vae(),
        unet=unet(time_cond_proj_dim=32),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        scheduler=d.LCMScheduler(**BETAS, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def dit() -> Any:
    network = d.DiTTransformer2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=2,
        in_channels=4,
        out_channels=8,
        attention_bias=True,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_zero",
        norm_elementwise_affine=False,
    )
    return d.DiTPipeline(transformer=network.eval(), vae=vae(), scheduler=d.DDIMScheduler(**DETERMINISTIC))


def consistency() -> Any:
    """Of four classes."""
    network = pixel_unet(num_class_embeds=4, down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"))
    scheduler = d.CMStochasticIterativeScheduler(num_train_timesteps=40, sigma_min=0.002, sigma_max=80.0)
    return d.ConsistencyModelPipeline(unet=network, scheduler=scheduler)


def ddpm() -> Any:
    return d.DDPMPipeline(unet=pixel_unet(), scheduler=d.DDPMScheduler())


def ddim() -> Any:
    return d.DDIMPipeline(unet=pixel_unet(), scheduler=d.DDIMScheduler())


def ldm() -> Any:
    blocks = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    sizes = {"block_out_channels": [8, 16], "norm_num_groups": 4, "sample_size": 16}
    first = d.VQModel(latent_channels=3, num_vq_embeddings=32, **blocks, **sizes).eval()
    return d.LDMPipeline(vqvae=first, unet=pixel_unet(), scheduler=d.DDIMScheduler(**DETERMINISTIC))


def ldm_text() -> Any:
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    config = LDMBertConfig(
        vocab_size=56, max_position_embeddings=77, encoder_layers=1, encoder_ffn_dim=16, encoder_attention_heads=4,
        head_dim=8, d_model=32, pad_token_id=55,
    )  # fmt: skip
    return d.LDMTextToImagePipeline(
        vqvae=vae(),
        bert=LDMBertModel(config).eval(),
        tokenizer=clip_tokenizer(),
        unet=unet(sample_size=8),
        scheduler=d.DDIMScheduler(**DETERMINISTIC),
    )


MAKERS: dict[str, Callable[[], Any]] = {
    maker.__name__: maker
    for maker in (
        sd,
        sd_ancestral,
        sdxl,
        sd3,
        flux,
        pixart,
        lcm,
        dit,
        consistency,
        ddpm,
        ddim,
        ldm,
        ldm_text,
    )
}


def tiny(kind: str) -> Any:
    """A pipeline with random weights, the same at every call."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        return MAKERS[kind]()
