"""Stable Diffusion 1.x and 2.x, and bases of the same parts: how they read prompts and predict. Knows no method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from packshot.diffusion.components import load_module, load_text_encoder, read_config
from packshot.diffusion.latent_codec import LatentCodec
from packshot.diffusion.loaded_base import LoadedBase
from packshot.diffusion.protocols import Conditioning, Sampler
from packshot.diffusion.text_encoders import TextEncoder
from packshot.diffusion.variance_preserving import VariancePreserving
from packshot.domain.training_choices import MixedPrecision


class StableDiffusion(LoadedBase):
    """A loaded base of AutoencoderKL, CLIPTextModel and UNet2DConditionModel; implements ``Family``."""

    prefix = "unet"

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoder: TextEncoder,
        scheduler_config: dict[str, object],
        device: torch.device,
        precision: MixedPrecision,
    ) -> None:
        sample_size = unet.config["sample_size"]
        process = VariancePreserving(scheduler_config, device)
        super().__init__(
            denoiser=unet,
            codec=LatentCodec(vae, device),
            text_encoders=[text_encoder],
            trainable_text_encoders=[text_encoder],
            process=process,
            sample_size=int(sample_size[0] if isinstance(sample_size, list | tuple) else sample_size),
            patch=1,
            coarsest=2 ** (len(unet.config["block_out_channels"]) - 1),
            device=device,
            precision=precision,
        )
        self._text_encoder = text_encoder
        self._variance_preserving = process

    @classmethod
    def load(cls, folder: Path, device: torch.device, precision: MixedPrecision) -> Self:
        """Load the components in ``folder`` from safetensors alone; passes compute with ``precision``.

        Raises:
            BaseModelRefused: weights missing or of other shapes than the configuration says.
        """
        return cls(
            unet=load_module(UNet2DConditionModel, folder, "unet", device, precision),
            vae=load_module(AutoencoderKL, folder, "vae", device),
            text_encoder=load_text_encoder(CLIPTextModel, folder, 1, device, precision),
            scheduler_config=read_config(folder, "scheduler"),
            device=device,
            precision=precision,
        )

    def _encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The last hidden states, (batch, tokens, width)."""
        return {"hidden_states": self._text_encoder(prompts).last_hidden_state}

    def _predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's prediction."""
        return cast(Any, self._denoiser)(noisy, timesteps, conditioning["hidden_states"]).sample

    def new_sampler(self, inference_steps: int, latent_shape: tuple[int, int, int], scheduler: str = "") -> Sampler:
        """A fresh sampler on the base's own noise schedule; DPM-Solver++ where none is named."""
        del latent_shape
        return self._variance_preserving.new_sampler(inference_steps, scheduler or "dpmsolver++")
