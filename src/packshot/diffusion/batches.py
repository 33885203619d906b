"""What one training step sees: a pure function of seed and step, so that a resumed run is the same run.

A batch is [instances; class images], each with its own prompt. Knows no model: it holds latents that were encoded.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from packshot.diffusion.protocols import Frame, LatentDistribution
from packshot.domain.training import TrainingConfig


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What is to be predicted of a picture, (channels, h, w), with that noise at that time step."""

    noise: Tensor
    timestep: Tensor
    target: Tensor


@dataclass(frozen=True, kw_only=True)
class Example:
    """An encoded picture with its prompt. ``mask`` is the share of product in each latent cell, (1, h, w), or None.

    With a ``lesson`` it is seen with that noise alone, compared with its target, and never mirrored.
    """

    latents: LatentDistribution
    mirrored: LatentDistribution | None
    prompt: str
    frame: Frame
    mask: Tensor | None = None
    lesson: Lesson | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures of one shape. The first ``num_instances`` rows of everything are instances, the others class images.

    ``latents`` and ``noise`` are (batch, channels, h, w), ``frames`` (batch, 6); ``weights``, (num_instances, 1, h, w),
    tell how much each cell of an instance counts. ``targets`` are what the predictions of ``taught``, rows with lessons, are
    compared with, of the shape of those rows' latents; the others are compared with what the family makes of noise and latents.
    """

    latents: Tensor
    noise: Tensor
    timesteps: Tensor
    prompts: tuple[str, ...]
    frames: Tensor
    weights: Tensor
    num_instances: int
    taught: tuple[int, ...] = ()
    targets: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Draws the batch of any step, or the share of it that falls to ``process``: rows in turns, of both parts."""

    instances: Sequence[Example]
    class_examples: Sequence[Example]
    config: TrainingConfig
    draw_timesteps: Callable[[int, torch.Generator], Tensor]
    process: int = 0
    num_processes: int = 1

    def batch(self, step: int) -> list[Batch]:
        """The batch of ``step`` (from 0), in one part for each shape of latents.

        Everything random is drawn at every step in one order, whether it is used or not, so that no setting shifts
        another's draws: caption dropout, mirroring, latents, noise, time steps, noise offset.
        """
        chosen = self._chosen(step)
        generator = stream(self.config.seed, "step", step)
        shapes = [tuple(example.latents.mean.shape) for example in chosen]
        largest = (len(chosen), *(max(lengths) for lengths in zip(*shapes, strict=True)))
        dropped = torch.rand(len(chosen), generator=generator) < self.config.caption_dropout
        dropped[self.config.batch_size :] = False  # a class image without its class prompt would preserve nothing
        mirrored = torch.rand(len(chosen), generator=generator) < 0.5
        sampled = torch.randn(largest, generator=generator)
        noise = torch.randn(largest, generator=generator)
        timesteps = self.draw_timesteps(len(chosen), generator)
        offsets = torch.randn((*largest[:2], 1, 1), generator=generator)
        if self.config.noise_offset:
            noise += self.config.noise_offset * offsets
        lessons = {row: example.lesson for row, example in enumerate(chosen) if example.lesson}
        for row, lesson in lessons.items():
            noise[row, :, : shapes[row][1], : shapes[row][2]] = lesson.noise
            timesteps[row] = lesson.timestep
        flips = [bool(flip) and self.config.mirrors and row not in lessons for row, flip in enumerate(mirrored)]
        own = [row for row in range(len(chosen)) if row % self.config.batch_size % self.num_processes == self.process]
        prompts = ["" if drop else example.prompt for example, drop in zip(chosen, dropped, strict=True)]

        def part(shape: tuple[int, ...]) -> Batch:
            rows = [row for row in own if shapes[row] == shape]
            used = [_distribution(chosen[row], flips[row]) for row in rows]
            cells = slice(shape[1]), slice(shape[2])
            instances = [row for row in rows if row < self.config.batch_size]
            weights = [self._weights(chosen[row], flips[row]) for row in instances]
            taught = [at for at, row in enumerate(rows) if row in lessons]
            return Batch(
                latents=torch.stack(
                    [each.mean + each.std * sampled[row, :, *cells] for each, row in zip(used, rows, strict=True)]
                ),
                noise=noise[rows][:, :, *cells],
                timesteps=timesteps[rows],
                prompts=tuple(prompts[row] for row in rows),
                frames=torch.tensor([chosen[row].frame for row in rows], dtype=torch.float32),
                weights=torch.stack(weights) if weights else torch.empty(0, 1, *shape[1:]),
                num_instances=len(instances),
                taught=tuple(taught),
                targets=torch.stack([lessons[rows[at]].target for at in taught]) if taught else None,
            )

        return [part(shape) for shape in dict.fromkeys(shapes[row] for row in own)]

    def _chosen(self, step: int) -> list[Example]:
        size, seed = self.config.batch_size, self.config.seed
        chosen = [self.instances[at] for at in _order(len(self.instances), size, step, seed, "instances")]
        if self.class_examples:
            chosen += [self.class_examples[at] for at in _order(len(self.class_examples), size, step, seed, "class")]
        return chosen

    def _weights(self, example: Example, flip: bool) -> Tensor:
        if example.mask is None:
            return torch.ones(1, *example.latents.mean.shape[1:])
        mask = example.mask.flip(-1) if flip else example.mask
        return self.config.background_weight + (1 - self.config.background_weight) * mask


def stream(seed: int, *name: str | int) -> torch.Generator:
    """A generator of its own for each name: the first 63 bits of the sha256 of the JSON list [seed, *name]."""
    digest = hashlib.sha256(json.dumps([seed, *name]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _order(num_examples: int, size: int, step: int, seed: int, name: str) -> list[int]:
    """The examples of a step: every epoch visits each once, in an order of its own."""
    positions = range(step * size, (step + 1) * size)
    epochs = {
        epoch: torch.randperm(num_examples, generator=stream(seed, name, epoch)).tolist()
        for epoch in sorted({position // num_examples for position in positions})
    }
    return [epochs[position // num_examples][position % num_examples] for position in positions]


def _distribution(example: Example, flip: bool) -> LatentDistribution:
    if not flip:
        return example.latents
    assert example.mirrored is not None, "mirrored latents are encoded where mirroring is on"
    return example.mirrored
