"""Pictures to the latents that a denoiser sees, and back, through a base's autoencoder. Knows no family."""

from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from packshot.diffusion.protocols import LatentDistribution


class LatentCodec:
    """A frozen autoencoder with the scale and the shift of its latents."""

    def __init__(self, vae: AutoencoderKL, device: torch.device) -> None:
        self._vae = vae
        self._device = device
        self._scale = float(vae.config["scaling_factor"])
        self._shift = float(vae.config.get("shift_factor") or 0.0)
        self.num_channels = int(vae.config["latent_channels"])
        self.factor = 2 ** (len(vae.config["block_out_channels"]) - 1)

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> LatentDistribution:
        """(3, height, width) in [-1, 1] to scaled latents' mean and standard deviation."""
        posterior = cast(Any, self._vae).encode(pixels[None].to(self._device)).latent_dist
        mean = (posterior.mean[0].cpu() - self._shift) * self._scale
        return LatentDistribution(mean=mean, std=posterior.std[0].cpu() * self._scale)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """(channels, height, width) of scaled latents to pixels in [-1, 1]."""
        return cast(Any, self._vae).decode(latents[None] / self._scale + self._shift).sample[0]
