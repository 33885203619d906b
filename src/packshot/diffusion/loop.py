"""The training loop: denoising with prior preservation (Ruiz et al. 2023, DreamBooth). Knows no family and no method.

A run is a pure function of base, examples and configuration: step s draws from generators seeded by (seed, s), and a
checkpoint holds parameters and optimiser state exactly. Dropout layers stay off, since they would draw elsewhere.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from packshot.diffusion.averages import MovingAverage
from packshot.diffusion.batches import Batch, BatchPlan
from packshot.diffusion.checkpoints import Checkpoints
from packshot.diffusion.conditioning import PromptConditioning
from packshot.diffusion.metrics import MetricsLog
from packshot.diffusion.optimizers import Optimizer, diverged
from packshot.diffusion.protocols import Attachment, Family
from packshot.domain.errors import Interrupted
from packshot.domain.training import MixedPrecision, TrainingConfig
from packshot.ports import Progress

PHASE = "training"
# What a base that was distilled to read a guidance scale is told in training.
GUIDANCE = 1.0

_PARAMETER, _STATE, _AVERAGE = "parameter/", "optimizer/", "average/"
_HALVES = {MixedPrecision.BF16: torch.bfloat16, MixedPrecision.FP16: torch.float16}


@dataclass(frozen=True, kw_only=True)
class Losses:
    """``total`` = ``instance`` + prior weight * ``prior``; ``prior`` is None without class images."""

    total: Tensor
    instance: Tensor
    prior: Tensor | None


@dataclass(frozen=True, kw_only=True)
class Loop:
    """One run: what learns in which base, from which batches."""

    base: Family
    attachment: Attachment
    plan: BatchPlan
    conditioning: PromptConditioning
    config: TrainingConfig
    checkpoints: Checkpoints
    metrics: MetricsLog

    def run(self, report: Callable[[Progress], None], stop: Callable[[], bool]) -> Mapping[str, Tensor]:
        """Train to the last step, from the newest checkpoint if there is one; returns what was learned, by name.

        Raises:
            Interrupted: ``stop()`` became true; a checkpoint of the last whole step is written.
            InvalidConfiguration: the loss is no longer a number.
            WorkspaceUnusable: a checkpoint cannot be written; earlier ones stay.
        """
        parameters = self.attachment.parameters
        optimizer = Optimizer(self.attachment.groups, self.config, self.base.device)
        average = MovingAverage(parameters, self.config.ema_decay) if self.config.ema_decay else None
        step = self._restore(optimizer, average)
        while step < self.config.steps:
            if stop():
                self._save(step, optimizer, average)
                raise Interrupted(f"stopped after {step} of {self.config.steps} steps; the same command goes on there")
            row = self._step(step, optimizer)
            if average:
                average.update(step)
            step += 1
            self.metrics.append(row)
            report(
                Progress(
                    phase=PHASE,
                    step=step,
                    num_steps=self.config.steps,
                    loss=row["loss"],
                    instance_loss=row["instance_loss"],
                    prior_loss=row.get("prior_loss"),
                )
            )
            if step % self.config.checkpoint_every_steps == 0:
                self._save(step, optimizer, average)
        return average.tensors if average else parameters

    def losses(self, batches: Sequence[Batch]) -> Losses:
        """The objective: mean squared error, per instance weighted by min-SNR and mask, plus that of the class images.

        The mask's weights are normalised per image, so that a small product counts as much as a large one.
        """
        instances: list[Tensor] = []
        priors: list[Tensor] = []
        for batch in batches:
            timesteps, error = batch.timesteps.to(self.base.device), self._squared_error(batch)
            count, weights = batch.num_instances, batch.weights.to(self.base.device)
            per_instance = (error[:count] * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))
            instances.append(per_instance * self.base.min_snr_weights(timesteps[:count], self.config.snr_gamma))
            if len(error) > count:
                priors.append(error[count:].mean())
        instance = torch.cat(instances).mean()
        if not priors:
            return Losses(total=instance, instance=instance, prior=None)
        (prior,) = priors  # class images are of one shape, so they are together
        return Losses(total=instance + self.config.prior_weight * prior, instance=instance, prior=prior)

    def _squared_error(self, batch: Batch) -> Tensor:
        device = self.base.device
        latents, noise, timesteps = batch.latents.to(device), batch.noise.to(device), batch.timesteps.to(device)
        noisy = self.base.add_noise(latents, noise, timesteps)
        with self._autocast():
            told = self.conditioning(batch.prompts) | self.base.picture_conditioning(batch.frames, GUIDANCE)
            prediction = self.base.predict(noisy, timesteps, told)
        return (prediction.float() - self.base.target(latents, noise, timesteps)).square()

    def _autocast(self) -> AbstractContextManager[object]:
        half = _HALVES.get(self.config.mixed_precision)
        return torch.autocast(self.base.device.type, dtype=half) if half else nullcontext()

    def _step(self, step: int, optimizer: Optimizer) -> dict[str, float]:
        optimizer.zero_grad()
        count = self.config.gradient_accumulation_steps
        rows: list[dict[str, float]] = []
        for number in range(step * count, (step + 1) * count):
            losses = self.losses(self.plan.batch(number))
            if losses.total.requires_grad:  # not where every caption of a textual inversion was dropped
                optimizer.backward(losses.total / count)
            rows.append({"loss": losses.total.item(), "instance_loss": losses.instance.item()})
            if losses.prior is not None:
                rows[-1]["prior_loss"] = losses.prior.item()
        row = {"step": step + 1.0} | {name: sum(each[name] for each in rows) / count for name in rows[0]}
        if not math.isfinite(row["loss"]):
            raise diverged(self.config, step, f"its loss is {row['loss']}")
        norm = optimizer.step(step)
        return row if norm is None else row | {"gradient_norm": norm}

    def _save(self, step: int, optimizer: Optimizer, average: MovingAverage | None) -> None:
        tensors: dict[str, Tensor] = {}
        tensors |= {_PARAMETER + name: each for name, each in self.attachment.parameters.items()}
        tensors |= {_STATE + name: each for name, each in optimizer.state()}
        if average:
            tensors |= {_AVERAGE + name: each for name, each in average.tensors.items()}
        self.metrics.sync()
        self.checkpoints.save(step, tensors)

    @torch.no_grad()
    def _restore(self, optimizer: Optimizer, average: MovingAverage | None) -> int:
        """Put the newest checkpoint's tensors in their places; returns how many steps they have behind them."""
        step, tensors = self.checkpoints.newest() or (0, {})
        places = {_PARAMETER + name: each for name, each in self.attachment.parameters.items()}
        if average:
            places |= {_AVERAGE + name: each for name, each in average.tensors.items()}
        for key in places.keys() & tensors.keys():
            places[key].copy_(tensors[key])
        optimizer.restore({key.removeprefix(_STATE): each for key, each in tensors.items() if key.startswith(_STATE)})
        self.metrics.resume(step)
        return step
