"""The variance-preserving forward process (Ho et al. 2020) and what a base of this kind learns. Knows no family."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from torch import Tensor

from packshot.diffusion.components import known_to
from packshot.diffusion.protocols import Sampler
from packshot.domain.errors import BaseModelRefused, InvalidInput, SchedulerRefused

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
_SAMPLERS: dict[str, tuple[Any, dict[str, object]]] = {
    "ddim": (DDIMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "dpmsolver++": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
}


class VariancePreserving:
    """The process that a scheduler's configuration describes; implements ``NoiseProcess``."""

    def __init__(self, scheduler_config: Mapping[str, object], device: torch.device) -> None:
        schedule: Any = DDPMScheduler.from_config(known_to(DDPMScheduler, scheduler_config))
        self._prediction_type = str(schedule.config["prediction_type"])
        if self._prediction_type not in PREDICTION_TYPES:
            raise BaseModelRefused(
                f"the base predicts {self._prediction_type!r}; supported are {', '.join(PREDICTION_TYPES)}"
            )
        self._device = device
        self._config = dict(scheduler_config)
        self._alphas_cumprod = schedule.alphas_cumprod.to(device)
        self.num_train_timesteps = int(schedule.config["num_train_timesteps"])

    def draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Uniform time steps, whole numbers from 0."""
        return torch.randint(self.num_train_timesteps, (count,), generator=generator)

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The latents at the given time steps."""
        signal, deviation = self._signal_and_deviation(timesteps)
        return signal * latents + deviation * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The noise; or the velocity (Salimans and Ho 2022), or the latents, where the base predicts those."""
        if self._prediction_type == "epsilon":
            return noise
        if self._prediction_type == "sample":
            return latents
        signal, deviation = self._signal_and_deviation(timesteps)
        return signal * noise - deviation * latents

    def min_snr_weights(self, timesteps: Tensor, gamma: float) -> Tensor:
        """min(SNR, gamma), / SNR for epsilon, / (SNR + 1) for velocity (Hang et al. 2023); ones for gamma 0."""
        if gamma == 0:
            return torch.ones(len(timesteps), device=self._device)
        alphas = self._alphas_cumprod[timesteps]
        snr = alphas / (1 - alphas)
        if self._prediction_type == "epsilon":
            return (gamma / snr).clamp(max=1.0)
        if self._prediction_type == "sample":
            return snr.clamp(max=gamma)
        return snr.clamp(max=gamma) / (snr + 1)

    def estimate(self, noisy: Tensor, prediction: Tensor, timesteps: Tensor) -> Tensor:
        """The latents without noise, as far as the prediction tells."""
        signal, deviation = self._signal_and_deviation(timesteps)
        if self._prediction_type == "epsilon":
            return (noisy - deviation * prediction) / signal
        if self._prediction_type == "sample":
            return prediction
        return signal * noisy - deviation * prediction

    def new_sampler(self, inference_steps: int, scheduler: str) -> Sampler:
        """DDIM (Song et al. 2021), Euler's method (Karras et al. 2022) or DPM-Solver++ multistep (Lu et al. 2022).

        Each runs on the base's own noise schedule.

        Raises:
            SchedulerRefused: another scheduler.
            InvalidInput: more steps than the schedule can be divided into.
        """
        if scheduler not in _SAMPLERS:
            raise SchedulerRefused(
                f"the scheduler is {scheduler!r}, and the base predicts {self._prediction_type}; take one of "
                f"{', '.join(_SAMPLERS)}"
            )
        if inference_steps > self.num_train_timesteps:
            raise InvalidInput(
                f"inference_steps is {inference_steps}, more than the {self.num_train_timesteps} time steps of the "
                "base's noise schedule; ask for fewer"
            )
        kind, options = _SAMPLERS[scheduler]
        sampler: Any = kind.from_config(known_to(kind, self._config), **options)
        sampler.set_timesteps(inference_steps, device=self._device)
        # DPM-Solver++ would divide by zero between equal noise levels.
        if kind is DPMSolverMultistepScheduler and (sampler.sigmas.diff() >= 0).any():
            raise InvalidInput(
                f"inference_steps is {inference_steps}, more than the noise schedule of the base can be divided into; "
                f"ask for at most {self.num_train_timesteps // 2}"
            )
        return cast(Sampler, sampler)

    def begin(self, sampler: Sampler, latents: Tensor, noise: Tensor, strength: float) -> tuple[Tensor, int]:
        """The latents with the noise of the first step that is taken (Meng et al. 2022, SDEdit), and its number."""
        num_steps = len(sampler.timesteps)
        first = num_steps - int(num_steps * strength)
        if not isinstance(sampler, DDIMScheduler):  # that one goes by the time step alone
            cast(Any, sampler).set_begin_index(first)
        return cast(Any, sampler).add_noise(latents, noise, sampler.timesteps[first : first + 1]), first

    def _signal_and_deviation(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self._alphas_cumprod[timesteps.round().long()][:, None, None, None]  # a sampler's may lie between two
        return alphas.sqrt(), (1 - alphas).sqrt()
