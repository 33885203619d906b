"""FLUX.1 (Black Forest Labs 2024): packed latents, distilled guidance, a CLIP and a T5 encoder, flow matching."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor
from transformers import CLIPTextModel, T5EncoderModel

from packshot.diffusion.components import load_module, load_text_encoder, read_config
from packshot.diffusion.flow_matching import SCHEDULER, FlowMatching
from packshot.diffusion.latent_codec import LatentCodec
from packshot.diffusion.loaded_base import LoadedBase
from packshot.diffusion.protocols import Conditioning, Sampler
from packshot.diffusion.text_encoders import TextEncoder
from packshot.domain.training_choices import MixedPrecision

MAX_T5_TOKENS = 512
PATCH = 2
# The transformer's configuration does not say its native size; this is the pipeline's.
SAMPLE_SIZE = 128


class Flux(LoadedBase):
    """A loaded base; implements ``Family``. The T5 encoder never learns: it is nearly as large as the transformer."""

    prefix = "transformer"
    embeds_guidance = True

    def __init__(
        self,
        *,
        transformer: FluxTransformer2DModel,
        vae: AutoencoderKL,
        clip: TextEncoder,
        t5: TextEncoder,
        process: FlowMatching,
        device: torch.device,
        precision: MixedPrecision,
    ) -> None:
        super().__init__(
            denoiser=transformer,
            codec=LatentCodec(vae, device),
            text_encoders=[clip, t5],
            trainable_text_encoders=[clip],
            process=process,
            sample_size=SAMPLE_SIZE,
            patch=PATCH,
            coarsest=PATCH,
            device=device,
            precision=precision,
        )
        self._clip, self._t5, self._flow = clip, t5, process
        self._reads_guidance = bool(transformer.config["guidance_embeds"])

    @classmethod
    def load(cls, folder: Path, device: torch.device, precision: MixedPrecision) -> Self:
        """Load the components in ``folder`` from safetensors alone; passes compute with ``precision``.

        Raises:
            BaseModelRefused: weights missing or of other shapes than the configuration says.
        """
        return cls(
            transformer=load_module(FluxTransformer2DModel, folder, "transformer", device, precision),
            vae=load_module(AutoencoderKL, folder, "vae", device),
            clip=load_text_encoder(CLIPTextModel, folder, 1, device, precision),
            t5=load_text_encoder(T5EncoderModel, folder, 2, device, precision, max_tokens=MAX_T5_TOKENS),
            process=FlowMatching(read_config(folder, "scheduler"), device),
            device=device,
            precision=precision,
        )

    def _encode_prompts(self, prompts: Sequence[str]) -> Conditioning:
        """T5's hidden states, (batch, tokens, width), and CLIP's pooled (batch, width)."""
        return {
            "hidden_states": self._t5(prompts).last_hidden_state,
            "pooled": self._clip(prompts).pooler_output,
        }

    def picture_conditioning(self, frames: Tensor, guidance: float) -> Conditioning:
        """The guidance scale, where the base was distilled to read one."""
        if not self._reads_guidance:
            return {}
        return {"guidance": torch.full((len(frames),), guidance, device=self.device)}

    def _predict(self, noisy: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's prediction; latents are packed before it and unpacked after it."""
        _, _, height, width = noisy.shape
        hidden_states = conditioning["hidden_states"]
        packed = cast(Any, self._denoiser)(
            hidden_states=pack(noisy),
            timestep=timesteps / self._flow.num_train_timesteps,
            guidance=conditioning.get("guidance"),
            pooled_projections=conditioning["pooled"],
            encoder_hidden_states=hidden_states,
            txt_ids=torch.zeros(hidden_states.shape[1], 3, device=self.device),
            img_ids=_positions(height // PATCH, width // PATCH).to(self.device),
        ).sample
        return unpack(packed, height, width)

    def new_sampler(self, inference_steps: int, latent_shape: tuple[int, int, int], scheduler: str = "") -> Sampler:
        """Euler's method on the base's own schedule, shifted to noise the more, the larger the picture."""
        _, height, width = latent_shape
        num_patches = (height // PATCH) * (width // PATCH)
        return self._flow.new_sampler(inference_steps, num_patches, scheduler or SCHEDULER, even=True)


def pack(latents: Tensor) -> Tensor:
    """(batch, channels, height, width) to one token per 2 x 2 cells: (batch, height * width / 4, channels * 4)."""
    cells = latents.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """What ``pack`` packed; ``height`` and ``width`` in latent cells."""
    cells = tokens.unflatten(2, (-1, PATCH, PATCH)).unflatten(1, (height // PATCH, width // PATCH))
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def _positions(rows: int, columns: int) -> Tensor:
    """(rows * columns, 3): zero, row and column of each token."""
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([torch.zeros_like(row), row, column], dim=-1).flatten(0, 1).float()
