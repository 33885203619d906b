"""Pictures of a base as it stands, in the middle of a training, which they leave no trace in. Knows no method.

Everything random comes from the pictures' own seeds, and no gradient is taken.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from packshot.diffusion.pictures import png_from_pixels
from packshot.diffusion.protocols import Conditioning, Family
from packshot.domain.generation import SamplingSettings
from packshot.ports import Sample

Encode = Callable[[Sequence[str]], Conditioning]

# Whatever must hold while so many rows pass through the denoiser.
Passing = Callable[[int], AbstractContextManager[None]]


@torch.no_grad()
def sample(
    base: Family,
    encode: Encode,
    passing: Passing,
    samples: Sequence[Sample],
    settings: SamplingSettings,
    check_stop: Callable[[], None],
) -> list[bytes]:
    """One PNG for each of ``samples``, by classifier-free guidance (Ho and Salimans 2022) or the base's own.

    They pass through the base together. ``check_stop`` is called before every denoising step, and may raise.

    Raises:
        InvalidInput: a size or a number of steps that the base cannot have.
    """
    side = settings.width or base.resolution, settings.height or base.resolution
    guided = settings.guidance_scale > 1 and not base.embeds_guidance
    prompts = [each.prompt for each in samples]
    told = _told(base, encode, ([""] * len(prompts) if guided else []) + prompts, side, settings.guidance_scale)
    shape = base.latent_shape(*side)
    sampler = base.new_sampler(settings.inference_steps, shape)
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(each.seed)) for each in samples]
    latents = torch.stack(noise).to(base.device) * sampler.init_noise_sigma
    for timestep in sampler.timesteps:
        check_stop()
        rows = sampler.scale_model_input(torch.cat([latents, latents]) if guided else latents, timestep)
        with passing(len(rows)):
            prediction = base.predict(rows, timestep.expand(len(rows)).to(base.device), told)
        if guided:
            without, with_prompt = prediction.chunk(2)
            prediction = without + settings.guidance_scale * (with_prompt - without)
        latents = sampler.step(prediction, timestep, latents, return_dict=False)[0]
    return [png_from_pixels(base.decode_latents(each)) for each in latents]


def _told(
    base: Family, encode: Encode, prompts: Sequence[str], side: tuple[int, int], guidance: float
) -> dict[str, Tensor]:
    """What the denoiser is told of pictures with these prompts; each is encoded on its own."""
    encoded = {prompt: encode([prompt]) for prompt in dict.fromkeys(prompts)}
    width, height = side
    frames = torch.tensor([[height, width, 0, 0, height, width]] * len(prompts), dtype=torch.float32)
    told = {name: torch.cat([encoded[prompt][name] for prompt in prompts]) for name in encoded[prompts[0]]}
    return told | base.picture_conditioning(frames, guidance)
