"""What the bare base predicts of class images, to be preserved as it is. Knows no method.

The prior term of DreamBooth (Ruiz et al. 2023) compares predictions with the class images, and so has the model learn those few by
heart, which moves it from the base on its own. Compared with the base's own predictions (distillation: Hinton et al. 2015)
the term is 0 at the start, and asks for nothing but to stay. Every other prediction is of the empty prompt: classifier-free
guidance (Ho and Salimans 2022) subtracts it from the prompt's with nearly the same weight, so that a picture changes as much when it
drifts. The predictions are made once, before anything learns, so that they cost no pass of a step, need no second denoiser in
full fine-tuning, and serve all trainings with the same class images.
"""

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from packshot.diffusion.batches import Example, Lesson, stream
from packshot.diffusion.floats import computing
from packshot.diffusion.protocols import Family, LatentDistribution
from packshot.domain.training import TrainingConfig
from packshot.ports import Progress

LEARNING = "predictions of the base"
# What a base that was distilled to read a guidance scale is told in training.
GUIDANCE = 1.0


def taught(
    base: Family,
    examples: Sequence[Example],
    config: TrainingConfig,
    max_batch: int,
    report: Callable[[Progress], None],
    check_stop: Callable[[], None],
) -> list[Example]:
    """Every class image once for each of its lessons, ``base`` being bare; the second, fourth … without a prompt.

    A base that reads the guidance scale itself subtracts nothing, so that all of its lessons have their prompt.
    """
    drawn = [(place, number) for number in range(config.predictions_per_class_image) for place in range(len(examples))]
    found: list[Example] = []
    for start in range(0, len(drawn), max_batch):
        check_stop()
        part = [
            (
                dataclasses.replace(examples[place], prompt="")
                if number % 2 and not base.embeds_guidance
                else examples[place],
                stream(0, "lesson", place, number),
            )
            for place, number in drawn[start : start + max_batch]
        ]
        found += _predicted(base, part, config)
        report(Progress(phase=LEARNING, step=len(found), num_steps=len(drawn)))
    return found


@torch.no_grad()
def _predicted(base: Family, part: Sequence[tuple[Example, torch.Generator]], config: TrainingConfig) -> list[Example]:
    """The examples, each with a latent, noise and time step that its generator draws."""
    latents = [_sampled(example.latents, generator) for example, generator in part]
    noise = [
        torch.randn(latent.shape, generator=generator) for latent, (_, generator) in zip(latents, part, strict=True)
    ]
    timesteps = torch.cat([base.draw_timesteps(1, generator) for _, generator in part])
    noisy = base.add_noise(*(each.to(base.device) for each in (torch.stack(latents), torch.stack(noise), timesteps)))
    frames = torch.tensor([example.frame for example, _ in part], dtype=torch.float32)
    with computing(config.mixed_precision, base.device):
        told = base.encode_prompts([example.prompt for example, _ in part])
        predictions = base.predict(
            noisy, timesteps.to(base.device), {**told, **base.picture_conditioning(frames, GUIDANCE)}
        )
    return [
        dataclasses.replace(
            example,
            latents=LatentDistribution(mean=latent, std=torch.zeros_like(latent)),
            lesson=Lesson(noise=each, timestep=timestep, prediction=prediction),
        )
        for (example, _), latent, each, timestep, prediction in zip(
            part, latents, noise, timesteps, predictions.cpu(), strict=True
        )
    ]


def _sampled(latents: LatentDistribution, generator: torch.Generator) -> Tensor:
    return latents.mean + latents.std * torch.randn(latents.mean.shape, generator=generator)
