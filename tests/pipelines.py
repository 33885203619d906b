"""A tiny Stable Diffusion folder with random weights, as a caller of the command line would give it to ``--base``."""

import json
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from fixtures_pipelines import NUM_TOKENS, save_tokenizer, without_progress_bars
from transformers import CLIPTextConfig, CLIPTextModel

HIDDEN = 32


def write_tiny_stable_diffusion(
    folder: Path,
    *,
    prediction_type: str = "epsilon",
    seed: int = 0,
    resolution: int = 32,
    latent_channels: int = 4,
    hidden: int = HIDDEN,
    num_tokens: int = NUM_TOKENS,
) -> Path:
    """Write the folder and return it: an 8-fold autoencoder, so latents of ``resolution`` / 8; equal for equal seeds."""
    with torch.random.fork_rng(devices=[]), without_progress_bars():
        torch.manual_seed(seed)
        tokenizer = save_tokenizer(folder / "tokenizer")
        tokenizer.model_max_length = num_tokens
        tokenizer.save_pretrained(folder / "tokenizer")
        text = CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=hidden,
            intermediate_size=2 * hidden,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=num_tokens,
            bos_token_id=len(tokenizer) - 2,
            eos_token_id=len(tokenizer) - 1,
            projection_dim=hidden,
        )
        CLIPTextModel(text).save_pretrained(folder / "text_encoder")
        UNet2DConditionModel(
            sample_size=resolution // 8,
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=(8, 16),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=hidden,
            attention_head_dim=2,
            norm_num_groups=4,
        ).save_pretrained(folder / "unet")
        AutoencoderKL(
            block_out_channels=cast(Any, (8,) * 4),
            down_block_types=cast(Any, ("DownEncoderBlock2D",) * 4),
            up_block_types=cast(Any, ("UpDecoderBlock2D",) * 4),
            latent_channels=latent_channels,
            norm_num_groups=4,
            sample_size=resolution,
        ).save_pretrained(folder / "vae")
    DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=cast(Any, prediction_type),
        steps_offset=1,
        clip_sample=False,
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
