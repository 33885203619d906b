"""Rectified flow (Liu et al. 2023; Esser et al. 2024): straight lines from pictures to noise. Knows no family."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from packshot.diffusion.components import known_to
from packshot.diffusion.protocols import Sampler
from packshot.domain.errors import SchedulerRefused

SCHEDULER = "flow-match-euler"


class FlowMatching:
    """The process that a flow-matching scheduler's configuration describes; implements ``NoiseProcess``.

    A time step is the share of noise times ``num_train_timesteps``, so it is no whole number.
    """

    def __init__(self, scheduler_config: Mapping[str, object], device: torch.device) -> None:
        self._config = known_to(FlowMatchEulerDiscreteScheduler, scheduler_config)
        self._device = device
        schedule = self._scheduler()
        self._timesteps = schedule.timesteps
        self.num_train_timesteps = int(schedule.config["num_train_timesteps"])

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Logit-normal positions (Esser et al. 2024) in the base's own schedule, which may be shifted to noise."""
        positions = torch.sigmoid(torch.randn(count, generator=generator))
        return self._timesteps[(positions * self.num_train_timesteps).long()]

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The latents at the given time steps, on the line between them and the noise."""
        share = (timesteps / self.num_train_timesteps)[:, None, None, None]
        return (1 - share) * latents + share * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The line's direction, the same at every time step."""
        del timesteps
        return noise - latents

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """Ones: configurations that ask for min-SNR are refused for flows."""
        assert gamma == 0, "refused before the base was loaded"
        return torch.ones(len(timesteps), device=self._device)

    def estimate(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """The latents at the other end of the line."""
        return noisy - (timesteps / self.num_train_timesteps)[:, None, None, None] * prediction

    def begin(self, sampler: Sampler, latents: Tensor, noise: Tensor, strength: float) -> tuple[Tensor, int]:
        """The point between latents and noise where the first step that is taken begins, and its number."""
        assert isinstance(sampler, FlowSampler)
        num_steps = len(sampler.timesteps)
        first = int(num_steps - num_steps * strength)
        return sampler.begin_at(first, latents, noise), first

    def new_sampler(self, inference_steps: int, num_patches: int, scheduler: str, *, even: bool) -> "FlowSampler":
        """Euler's method on the base's own schedule, for a picture of ``num_patches`` tokens.

        With ``even`` the steps end at a share of noise of 1 / inference_steps before they are shifted, without at the
        last of the training schedule: bases differ in it, and their pipelines with them.

        Raises:
            SchedulerRefused: another scheduler.
        """
        if scheduler != SCHEDULER:
            raise SchedulerRefused(f"the scheduler is {scheduler!r}, and the base predicts a flow; take {SCHEDULER}")
        schedule = self._scheduler()
        options: dict[str, Any] = {}
        if schedule.config["use_dynamic_shifting"]:
            options["mu"] = _shift(schedule.config, num_patches)
        if even:
            options["sigmas"] = np.linspace(1.0, 1 / inference_steps, inference_steps)
        schedule.set_timesteps(inference_steps, device=self._device, **options)
        return FlowSampler(schedule)

    def _scheduler(self) -> Any:
        return FlowMatchEulerDiscreteScheduler.from_config(self._config)


class FlowSampler:
    """A flow-matching scheduler as a ``Sampler``: noise has deviation one, and input needs no scaling."""

    init_noise_sigma = 1.0

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.timesteps: Tensor = scheduler.timesteps

    def begin_at(self, first: int, latents: Tensor, noise: Tensor) -> Tensor:
        """Leave out the steps before ``first``; what that one starts from."""
        self._scheduler.set_begin_index(first)
        return self._scheduler.scale_noise(latents, self.timesteps[first : first + 1], noise)

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """The sample itself."""
        del timestep
        return sample

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, *, return_dict: bool) -> tuple[Tensor]:
        """The sample one step less noisy."""
        return self._scheduler.step(model_output, timestep, sample, return_dict=return_dict)


def _shift(config: Mapping[str, float], num_patches: int) -> float:
    """How far a schedule is shifted to noise: linear in the number of patches, through the two points it names."""
    slope = (config["max_shift"] - config["base_shift"]) / (config["max_image_seq_len"] - config["base_image_seq_len"])
    shift = config["base_shift"] + slope * (num_patches - config["base_image_seq_len"])
    assert math.isfinite(shift)
    return shift
