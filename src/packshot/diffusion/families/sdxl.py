"""Stable Diffusion XL (Podell et al. 2023): two text encoders, a pooled embedding, size and crop conditioning."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from packshot.diffusion.components import load_module, load_text_encoder, read_config
from packshot.diffusion.latent_codec import LatentCodec
from packshot.diffusion.loaded_base import LoadedBase
from packshot.diffusion.protocols import Conditioning, Sampler
from packshot.diffusion.text_encoders import TextEncoder
from packshot.diffusion.variance_preserving import VariancePreserving
from packshot.domain.training_choices import MixedPrecision


class StableDiffusionXL(LoadedBase):
    """A loaded base; implements ``Family``. ``empty_is_zero``: the empty prompt's conditioning is all zeros."""

    prefix = "unet"

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        text_encoders: tuple[TextEncoder, TextEncoder],
        scheduler_config: dict[str, object],
        empty_is_zero: bool,
        device: torch.device,
        precision: MixedPrecision,
    ) -> None:
        process = VariancePreserving(scheduler_config, device)
        super().__init__(
            denoiser=unet,
            codec=LatentCodec(vae, device),
            text_encoders=text_encoders,
            trainable_text_encoders=text_encoders,
            process=process,
            sample_size=int(unet.config["sample_size"]),
            patch=1,
            coarsest=2 ** (len(unet.config["block_out_channels"]) - 1),
            device=device,
            precision=precision,
        )
        self._variance_preserving = process
        self._empty_is_zero = empty_is_zero

    @classmethod
    def load(cls, folder: Path, device: torch.device, precision: MixedPrecision) -> Self:
        """Load the components in ``folder`` from safetensors alone; passes compute with ``precision``.

        Raises:
            BaseModelRefused: weights missing or of other shapes than the configuration says.
        """
        index = json.loads((folder / "model_index.json").read_text())
        return cls(
            unet=load_module(UNet2DConditionModel, folder, "unet", device, precision),
            vae=load_module(AutoencoderKL, folder, "vae", device),
            text_encoders=(
                load_text_encoder(CLIPTextModel, folder, 1, device, precision),
                load_text_encoder(CLIPTextModelWithProjection, folder, 2, device, precision),
            ),
            scheduler_config=read_config(folder, "scheduler"),
            empty_is_zero=bool(index.get("force_zeros_for_empty_prompt", True)),
            device=device,
            precision=precision,
        )

    def _encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """Both encoders' last hidden states but one, (batch, tokens, widths), and the second's pooled (batch, width)."""
        outputs = [encoder(prompts, output_hidden_states=True) for encoder in self._encoders]
        hidden_states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        pooled = outputs[1].text_embeds
        if self._empty_is_zero:
            told = torch.tensor([bool(prompt) for prompt in prompts], device=self.device)
            hidden_states = hidden_states.masked_fill(~told[:, None, None], 0.0)
            pooled = pooled.masked_fill(~told[:, None], 0.0)
        return {"hidden_states": hidden_states, "pooled": pooled}

    def picture_conditioning(self, frames: Tensor, guidance: float) -> Conditioning:
        """The frames: from which size and at which corner a picture was cut, and its own size."""
        del guidance
        return {"time_ids": frames.to(self.device)}

    def _predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's prediction."""
        added = {"text_embeds": conditioning["pooled"], "time_ids": conditioning["time_ids"]}
        unet = cast(Any, self._denoiser)
        return unet(noisy, timesteps, conditioning["hidden_states"], added_cond_kwargs=added).sample

    def new_sampler(self, inference_steps: int, latent_shape: tuple[int, int, int], scheduler: str = "") -> Sampler:
        """A fresh sampler on the base's own noise schedule; Euler's method where none is named."""
        del latent_shape
        return self._variance_preserving.new_sampler(inference_steps, scheduler or "euler")
