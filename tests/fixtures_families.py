"""Tiny pipelines of every family with random weights in the diffusers layout, at 16 x 16 pixels (latents 8 x 8)."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from fixtures_pipelines import NUM_TOKENS, QUICK, RESOLUTION, save_pipeline, save_tokenizer, without_progress_bars
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    PreTrainedModel,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from packshot.diffusion.families.flux import pack
from packshot.diffusion.protocols import Family
from packshot.domain.training import TrainingConfig

FAMILIES = ("stable-diffusion", "stable-diffusion-xl", "stable-diffusion-3", "flux")
FLOWS = ("stable-diffusion-3", "flux")
EDGE = RESOLUTION // 2
STEPS, GUIDANCE = 5, 3.0
PIPELINES = {
    "stable-diffusion": "StableDiffusionPipeline",
    "stable-diffusion-xl": "StableDiffusionXLPipeline",
    "stable-diffusion-3": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
}


def quick(family: str, **changes: Any) -> TrainingConfig:
    """A short training that ``family`` supports, at the size of the tiny pipelines."""
    fitting = replace(QUICK, resolution=RESOLUTION, snr_gamma=0.0 if family in FLOWS else QUICK.snr_gamma)
    return replace(fitting, **changes)


def save_family(family: str, folder: Path, *, seed: int = 0) -> Path:
    """A pipeline of ``family``; equal seeds give equal files."""
    with torch.random.fork_rng(devices=[]), without_progress_bars():
        torch.manual_seed(seed)
        return _SAVERS[family](folder)


def _save_sdxl(folder: Path) -> Path:
    save_clip(folder, 1, CLIPTextModel, width=16)
    save_clip(folder, 2, CLIPTextModelWithProjection, width=8)
    UNet2DConditionModel(
        sample_size=RESOLUTION // 2,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=24,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=4 * 6 + 8,
    ).save_pretrained(folder / "unet")
    _save_vae(folder, channels=4)
    EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    ).save_pretrained(folder / "scheduler")
    return _save_index(
        folder,
        "StableDiffusionXLPipeline",
        unet="UNet2DConditionModel",
        text_encoder="CLIPTextModel",
        text_encoder_2="CLIPTextModelWithProjection",
        tokenizer="CLIPTokenizer",
        tokenizer_2="CLIPTokenizer",
        scheduler="EulerDiscreteScheduler",
        force_zeros_for_empty_prompt=True,
    )


def _save_sd3(folder: Path) -> Path:
    save_clip(folder, 1, CLIPTextModelWithProjection, width=8)
    save_clip(folder, 2, CLIPTextModelWithProjection, width=8)
    save_t5(folder, 3)
    SD3Transformer2DModel(
        sample_size=RESOLUTION // 2,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        caption_projection_dim=16,
        pooled_projection_dim=16,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    ).save_pretrained(folder / "transformer")
    _save_vae(folder, channels=4, shift_factor=0.06)
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    return _save_index(
        folder,
        "StableDiffusion3Pipeline",
        transformer="SD3Transformer2DModel",
        text_encoder="CLIPTextModelWithProjection",
        text_encoder_2="CLIPTextModelWithProjection",
        text_encoder_3="T5EncoderModel",
        tokenizer="CLIPTokenizer",
        tokenizer_2="CLIPTokenizer",
        tokenizer_3="T5Tokenizer",
        scheduler="FlowMatchEulerDiscreteScheduler",
    )


def _save_flux(folder: Path) -> Path:
    save_clip(folder, 1, CLIPTextModel, width=8)
    save_t5(folder, 2)
    FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=8,
        guidance_embeds=True,
        axes_dims_rope=(4, 2, 2),
    ).save_pretrained(folder / "transformer")
    _save_vae(folder, channels=4, shift_factor=0.06)
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True).save_pretrained(folder / "scheduler")
    return _save_index(
        folder,
        "FluxPipeline",
        transformer="FluxTransformer2DModel",
        text_encoder="CLIPTextModel",
        text_encoder_2="T5EncoderModel",
        tokenizer="CLIPTokenizer",
        tokenizer_2="T5Tokenizer",
        scheduler="FlowMatchEulerDiscreteScheduler",
    )


_SAVERS: dict[str, Callable[[Path], Path]] = {
    "stable-diffusion": save_pipeline,
    "stable-diffusion-xl": _save_sdxl,
    "stable-diffusion-3": _save_sd3,
    "flux": _save_flux,
}


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"


def save_clip(folder: Path, number: int, kind: type[PreTrainedModel], *, width: int) -> None:
    """Two layers, so that the last but one depends on weights."""
    tokenizer = save_tokenizer(folder / _numbered("tokenizer", number))
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=NUM_TOKENS,
        bos_token_id=len(tokenizer) - 2,
        eos_token_id=len(tokenizer) - 1,
        projection_dim=width,
    )
    kind(config).save_pretrained(folder / _numbered("text_encoder", number))


def save_t5(folder: Path, number: int) -> None:
    """A vocabulary of letters; its table has spare rows, as the published ones have."""
    pieces = ["<pad>", "</s>", "<unk>", "▁", "▁apple", "▁pear", "▁a", *(chr(code) for code in range(33, 127))]
    vocabulary = [(piece, -float(len(pieces) - len(piece))) for piece in pieces]
    tokenizer = T5Tokenizer(vocab=cast(Any, vocabulary), extra_ids=0, model_max_length=NUM_TOKENS + 4)
    tokenizer.save_pretrained(folder / _numbered("tokenizer", number))
    config = T5Config(
        vocab_size=len(tokenizer) + 20, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0
    )
    T5EncoderModel(config).save_pretrained(folder / _numbered("text_encoder", number))


def _save_vae(folder: Path, *, channels: int, shift_factor: float | None = None) -> None:
    AutoencoderKL(
        block_out_channels=cast(Any, (8, 8)),
        down_block_types=cast(Any, ("DownEncoderBlock2D",) * 2),
        up_block_types=cast(Any, ("UpDecoderBlock2D",) * 2),
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=RESOLUTION,
        shift_factor=shift_factor,
        scaling_factor=0.5,
    ).save_pretrained(folder / "vae")


def _save_index(folder: Path, pipeline: str, **parts: str | bool) -> Path:
    index: dict[str, object] = {"_class_name": pipeline, "vae": ["diffusers", "AutoencoderKL"]}
    for name, kind in parts.items():
        is_text = name.startswith(("text_encoder", "tokenizer"))
        index[name] = kind if isinstance(kind, bool) else ["transformers" if is_text else "diffusers", kind]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def plain_pipeline(folder: Path, family: str) -> Any:
    """The pipeline as diffusers itself loads it, quiet."""
    import diffusers

    with without_progress_bars():
        pipeline = getattr(diffusers, PIPELINES[family]).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def ours(base: Family, latents: Tensor, prompts: list[str], negative: str = "") -> Tensor:
    """Our sampling loop over given latents, as the generator runs it."""
    guided = not base.embeds_guidance
    told = base.encode_prompts([negative] * len(prompts) + prompts if guided else prompts)
    count = len(prompts) * (2 if guided else 1)
    frames = torch.tensor([[RESOLUTION, RESOLUTION, 0, 0, RESOLUTION, RESOLUTION]] * count, dtype=torch.float32)
    told |= base.picture_conditioning(frames, GUIDANCE)
    sampler = base.new_sampler(STEPS, (4, EDGE, EDGE))
    latents = latents * sampler.init_noise_sigma
    for timestep in sampler.timesteps:
        model_input = sampler.scale_model_input(torch.cat([latents] * (2 if guided else 1)), timestep)
        prediction = base.predict(model_input, timestep.expand(count), told)
        if guided:
            without, given = prediction.chunk(2)
            prediction = without + GUIDANCE * (given - without)
        latents = sampler.step(prediction, timestep, latents, return_dict=False)[0]
    return torch.stack([base.decode_latents(each) for each in latents])


def plain_pictures(pipeline: Any, family: str, latents: Tensor, prompts: list[str]) -> Tensor:
    """What the plain pipeline makes of given latents, as our own loop samples: (batch, 3, height, width) in [-1, 1]."""
    if family == "stable-diffusion":
        from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

        pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    options: dict[str, Any] = {"max_sequence_length": pipeline.tokenizer_2.model_max_length} if family == "flux" else {}
    if family == "stable-diffusion-3":
        options["max_sequence_length"] = pipeline.tokenizer_3.model_max_length
    images = pipeline(
        prompts,
        latents=pack(latents) if family == "flux" else latents.clone(),
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        width=RESOLUTION,
        height=RESOLUTION,
        output_type="pt",
        **options,
    ).images
    return images * 2 - 1
