"""Implements Generator: our own sampling loop over a family and its scheduler. Does not know identifiers.

What is reproducible: the same call with the same ``max_batch`` on one machine gives the same bytes. Each picture's
noise comes from its own seed on the CPU, so a picture does not depend on its neighbours except by rounding: in a batch
of another size the same picture may differ in the last bits, which is at most a grey level here and there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.methods import applied
from packshot.diffusion.pictures import png_from_pixels
from packshot.diffusion.protocols import Conditioning, Family
from packshot.diffusion.weights import WeightsHeader, read_weights
from packshot.domain.errors import CorruptArtifact, IncompatibleFineTune, InvalidInput
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import BaseModelRef, FineTune
from packshot.ports import LoadedFineTune, Progress

PHASE = "pictures"


@dataclass(frozen=True, kw_only=True)
class _Picture:
    prompt: str
    seed: int


class DiffusersGenerator:
    """Makes pictures with a base, bare or with one fine-tune, at most ``max_batch`` at a time."""

    def __init__(self, bases: DiffusersBaseModels, *, max_batch: int = 8) -> None:
        self._bases = bases
        self.max_batch = max_batch

    def generate(
        self,
        base: BaseModelRef,
        fine_tune: LoadedFineTune | None,
        prompts: Sequence[str],
        sampling: SamplingSettings,
        *,
        report: Callable[[Progress], None],
    ) -> list[bytes]:
        """``sampling.num_images`` PNGs per prompt, prompts in order; image i of every prompt has seed + i.

        A guidance scale of at most 1 means no guidance, as in diffusers.

        Raises:
            IncompatibleFineTune: the fine-tune was trained on another base.
            CorruptArtifact: its weights are damaged or another's, or the base's files have changed.
            BaseModelRefused: the base cannot be loaded.
            InvalidInput: more inference steps than the base's noise schedule can be divided into, or a size or a
                negative prompt that the base cannot take.
        """
        pictures = [
            _Picture(prompt=prompt, seed=sampling.seed + number)
            for prompt in prompts
            for number in range(sampling.num_images)
        ]
        batches = [pictures[at : at + self.max_batch] for at in range(0, len(pictures), self.max_batch)]
        num_steps = len(batches) * sampling.inference_steps
        pngs: list[bytes] = []
        with self._bases.borrow(base) as loaded, _applied(loaded, base, fine_tune), torch.inference_mode():
            _check_sampling(loaded, sampling, base)
            encoded = _encode(loaded, {sampling.negative_prompt, *prompts})
            for number, batch in enumerate(batches):
                done = number * sampling.inference_steps
                for latents in _denoise(
                    loaded,
                    batch,
                    encoded,
                    sampling,
                    lambda step, done=done: report(Progress(phase=PHASE, step=done + step, num_steps=num_steps)),
                ):
                    pngs.append(png_from_pixels(loaded.decode_latents(latents)))
        return pngs


@contextmanager
def _applied(loaded: Family, base: BaseModelRef, fine_tune: LoadedFineTune | None) -> Iterator[None]:
    """The base with the fine-tune in it while the context lasts."""
    if fine_tune is None:
        yield
        return
    header, tensors = read_weights(fine_tune.weights)
    _check_header(header, base, fine_tune.record)
    with applied(loaded, header, tensors):
        yield


def _check_header(header: WeightsHeader, base: BaseModelRef, record: FineTune) -> None:
    """Raise unless the weights are those of ``record``, for ``base``."""
    if header.base_digest != base.digest:
        raise IncompatibleFineTune(
            f"the fine-tune was trained on a base with the digest {header.base_digest[:12]}, and {base.source} has "
            f"{base.digest[:12]}; use the base that it was trained on, or train it anew"
        )
    told = (header.method, header.token, header.trained_phrase)
    recorded = (record.method, record.token, record.trained_phrase)
    if told != recorded:
        raise CorruptArtifact(f"the weights say that they are {told}, the record says {recorded}; train it anew")


def _check_sampling(loaded: Family, sampling: SamplingSettings, base: BaseModelRef) -> None:
    if loaded.embeds_guidance and sampling.negative_prompt:
        raise InvalidInput(
            f"the base {base.source} reads the guidance scale itself and takes no negative prompt, and "
            f"{sampling.negative_prompt!r} was given; leave it out"
        )


def _encode(loaded: Family, prompts: set[str]) -> dict[str, Conditioning]:
    """Each prompt's conditioning, encoded on its own so that it does not depend on the others."""
    return {prompt: loaded.encode_prompts([prompt]) for prompt in sorted(prompts)}


def _denoise(
    loaded: Family,
    batch: Sequence[_Picture],
    encoded: dict[str, Conditioning],
    sampling: SamplingSettings,
    report_step: Callable[[int], None],
) -> Tensor:
    """The latents of a batch of pictures, by classifier-free guidance (Ho and Salimans 2022) or the base's own."""
    guided = sampling.guidance_scale > 1 and not loaded.embeds_guidance
    texts = [picture.prompt for picture in batch]
    if guided:
        texts = [sampling.negative_prompt] * len(batch) + texts
    conditioning = {name: torch.cat([encoded[text][name] for text in texts]) for name in encoded[texts[0]]}
    width, height = sampling.width or loaded.resolution, sampling.height or loaded.resolution
    frames = torch.tensor([[height, width, 0, 0, height, width]] * len(texts), dtype=torch.float32)
    conditioning |= loaded.picture_conditioning(frames, sampling.guidance_scale)
    shape = loaded.latent_shape(width, height)
    sampler = loaded.new_sampler(sampling.inference_steps, shape)
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(picture.seed)) for picture in batch]
    latents = torch.stack(noise).to(loaded.device) * sampler.init_noise_sigma
    for number, timestep in enumerate(sampler.timesteps):
        model_input = sampler.scale_model_input(torch.cat([latents] * (2 if guided else 1)), timestep)
        timesteps = timestep.expand(len(model_input)).to(loaded.device)
        prediction = loaded.predict(model_input, timesteps, conditioning)
        if guided:
            negative, positive = prediction.chunk(2)
            prediction = negative + sampling.guidance_scale * (positive - negative)
        latents = sampler.step(prediction, timestep, latents, return_dict=False)[0]
        report_step(number + 1)
    return latents
