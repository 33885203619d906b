"""Stable Diffusion 1.x and 2.x, and bases of the same parts: how they read prompts and predict. Knows no method."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor
from transformers import CLIPTextModel

from packshot.diffusion.components import known_to, load_module, load_text_encoder, read_config
from packshot.diffusion.latent_codec import LatentCodec
from packshot.diffusion.loaded_base import LoadedBase
from packshot.diffusion.protocols import Conditioning, Sampler
from packshot.diffusion.text_encoders import TextEncoder
from packshot.diffusion.variance_preserving import VariancePreserving
from packshot.domain.errors import InvalidInput


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
        )
        self._text_encoder = text_encoder
        self._scheduler_config = scheduler_config
        self._num_train_timesteps = process.num_train_timesteps

    @classmethod
    def load(cls, folder: Path, device: torch.device) -> Self:
        """Load the components in ``folder`` from safetensors alone, in 32-bit floats.

        Raises:
            BaseModelRefused: weights missing or of other shapes than the configuration says.
        """
        return cls(
            unet=load_module(UNet2DConditionModel, folder, "unet", device),
            vae=load_module(AutoencoderKL, folder, "vae", device),
            text_encoder=load_text_encoder(CLIPTextModel, folder, 1, device),
            scheduler_config=read_config(folder, "scheduler"),
            device=device,
        )

    def encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The last hidden states, (batch, tokens, width)."""
        return {"hidden_states": self._text_encoder(prompts).last_hidden_state}

    def predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's prediction."""
        return cast(Any, self._denoiser)(noisy, timesteps, conditioning["hidden_states"]).sample

    def new_sampler(self, inference_steps: int, latent_shape: tuple[int, int, int]) -> Sampler:
        """DPM-Solver++ multistep (Lu et al. 2022) on the base's own noise schedule.

        Raises:
            InvalidInput: more steps than the schedule has noise levels, between which the solver would divide by zero.
        """
        del latent_shape
        sampler = cast(
            DPMSolverMultistepScheduler,
            DPMSolverMultistepScheduler.from_config(
                known_to(DPMSolverMultistepScheduler, self._scheduler_config), algorithm_type="dpmsolver++"
            ),
        )
        sampler.set_timesteps(inference_steps, device=cast(Any, self.device))
        if (sampler.sigmas.diff() >= 0).any():
            raise InvalidInput(
                f"inference_steps is {inference_steps}, more than the noise schedule of the base can be divided into; "
                f"ask for at most {self._num_train_timesteps // 2}"
            )
        return cast(Sampler, sampler)
