"""Stable Diffusion 3 and 3.5 (Esser et al. 2024): three text encoders, one transformer over both streams, flow."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from packshot.diffusion.components import load_module, load_text_encoder, read_config
from packshot.diffusion.flow_matching import SCHEDULER, FlowMatching
from packshot.diffusion.latent_codec import LatentCodec
from packshot.diffusion.loaded_base import LoadedBase
from packshot.diffusion.protocols import Conditioning, Sampler
from packshot.diffusion.text_encoders import TextEncoder
from packshot.domain.training_choices import MixedPrecision

MAX_T5_TOKENS = 256


class StableDiffusion3(LoadedBase):
    """A loaded base; implements ``Family``. The T5 encoder never learns: it is larger than all else together."""

    prefix = "transformer"

    def __init__(
        self,
        *,
        transformer: SD3Transformer2DModel,
        vae: AutoencoderKL,
        clips: tuple[TextEncoder, TextEncoder],
        t5: TextEncoder,
        process: FlowMatching,
        device: torch.device,
        precision: MixedPrecision,
    ) -> None:
        super().__init__(
            denoiser=transformer,
            codec=LatentCodec(vae, device),
            text_encoders=[*clips, t5],
            trainable_text_encoders=clips,
            process=process,
            sample_size=int(transformer.config["sample_size"]),
            patch=int(transformer.config["patch_size"]),
            coarsest=int(transformer.config["patch_size"]),
            device=device,
            precision=precision,
        )
        self._clips, self._t5, self._flow = clips, t5, process

    @classmethod
    def load(cls, folder: Path, device: torch.device, precision: MixedPrecision) -> Self:
        """Load the components in ``folder`` from safetensors alone; passes compute with ``precision``.

        Raises:
            BaseModelRefused: weights missing or of other shapes than the configuration says.
        """
        return cls(
            transformer=load_module(SD3Transformer2DModel, folder, "transformer", device, precision),
            vae=load_module(AutoencoderKL, folder, "vae", device),
            clips=(
                load_text_encoder(CLIPTextModelWithProjection, folder, 1, device, precision),
                load_text_encoder(CLIPTextModelWithProjection, folder, 2, device, precision),
            ),
            t5=load_text_encoder(T5EncoderModel, folder, 3, device, precision, max_tokens=MAX_T5_TOKENS),
            process=FlowMatching(read_config(folder, "scheduler"), device),
            device=device,
            precision=precision,
        )

    def _encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """The tokens of both CLIP encoders, side by side and padded to T5's width, before those of T5; both pooled."""
        outputs = [clip(prompts, output_hidden_states=True) for clip in self._clips]
        clips = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        t5 = self._t5(prompts).last_hidden_state
        clips = torch.nn.functional.pad(clips, (0, t5.shape[-1] - clips.shape[-1]))
        return {
            "hidden_states": torch.cat([clips, t5], dim=-2),
            "pooled": torch.cat([output.text_embeds for output in outputs], dim=-1),
        }

    def _predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's prediction."""
        return cast(Any, self._denoiser)(
            hidden_states=noisy,
            timestep=timesteps,
            encoder_hidden_states=conditioning["hidden_states"],
            pooled_projections=conditioning["pooled"],
        ).sample

    def new_sampler(self, inference_steps: int, latent_shape: tuple[int, int, int], scheduler: str = "") -> Sampler:
        """Euler's method on the base's own schedule."""
        _, height, width = latent_shape
        num_patches = (height // self._patch) * (width // self._patch)
        return self._flow.new_sampler(inference_steps, num_patches, scheduler or SCHEDULER, even=False)
