"""The training loop: denoising with prior preservation (Ruiz et al. 2023, DreamBooth). Knows no family and no method.

A run is a pure function of base, examples and configuration: step s draws from generators seeded by (seed, s), and a
checkpoint holds parameters and optimiser state exactly. Dropout layers stay off, since they would draw elsewhere.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from packshot.diffusion.batches import Batch, BatchPlan
from packshot.diffusion.checkpoints import Checkpoints
from packshot.diffusion.conditioning import PromptConditioning
from packshot.diffusion.metrics import MetricsLog
from packshot.diffusion.protocols import Attachment, Family
from packshot.domain.errors import Interrupted, InvalidConfiguration
from packshot.domain.training import TrainingConfig
from packshot.ports import Progress

PHASE = "training"
BETAS = (0.9, 0.999)
EPSILON = 1e-8
# What a base that was distilled to read a guidance scale is told in training.
GUIDANCE = 1.0

_PARAMETER, _STATE = "parameter/", "adamw/"


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

    def run(self, report: Callable[[Progress], None], stop: Callable[[], bool]) -> None:
        """Train to the last step, from the newest checkpoint if there is one.

        Raises:
            Interrupted: ``stop()`` became true; a checkpoint of the last whole step is written.
            InvalidConfiguration: the loss is no longer a number.
            WorkspaceUnusable: a checkpoint cannot be written; earlier ones stay.
        """
        optimizer = self._new_optimizer()
        step = self._restore(optimizer)
        while step < self.config.steps:
            if stop():
                self._save(step, optimizer)
                raise Interrupted(f"stopped after {step} of {self.config.steps} steps; the same command goes on there")
            row = self._step(step, optimizer)
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
                self._save(step, optimizer)

    def losses(self, batch: Batch) -> Losses:
        """The objective: mean squared error, per instance weighted by min-SNR and mask, plus that of the class images.

        The mask's weights are normalised per image, so that a small product counts as much as a large one.
        """
        device, count = self.base.device, batch.num_instances
        latents, noise, timesteps = batch.latents.to(device), batch.noise.to(device), batch.timesteps.to(device)
        noisy = self.base.add_noise(latents, noise, timesteps)
        told = self.conditioning(batch.prompts) | self.base.picture_conditioning(batch.frames, GUIDANCE)
        prediction = self.base.predict(noisy, timesteps, told)
        error = (prediction - self.base.target(latents, noise, timesteps)).square()
        weights = batch.weights.to(device)
        per_instance = (error[:count] * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))
        instance = (per_instance * self.base.min_snr_weights(timesteps[:count], self.config.snr_gamma)).mean()
        if len(error) == count:
            return Losses(total=instance, instance=instance, prior=None)
        prior = error[count:].mean()
        return Losses(total=instance + self.config.prior_weight * prior, instance=instance, prior=prior)

    def _step(self, step: int, optimizer: torch.optim.AdamW) -> dict[str, float]:
        losses = self.losses(self.plan.batch(step))
        optimizer.zero_grad(set_to_none=True)
        if losses.total.requires_grad:  # not where every caption of a textual inversion was dropped
            losses.total.backward()
        parameters = list(self.attachment.parameters.values())
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.config.max_gradient_norm)
        row = {"step": step + 1.0, "loss": losses.total.item(), "instance_loss": losses.instance.item()}
        if losses.prior is not None:
            row["prior_loss"] = losses.prior.item()
        row["gradient_norm"] = norm.item()
        if not (math.isfinite(row["loss"]) and math.isfinite(row["gradient_norm"])):
            raise InvalidConfiguration(
                f"the training diverged at step {step + 1}: its loss is {row['loss']}; lower learning_rate, which is "
                f"{self.config.learning_rate:g}, or token_learning_rate, which is {self.config.token_learning_rate:g}"
            )
        optimizer.step()
        return row

    def _new_optimizer(self) -> torch.optim.AdamW:
        groups = [
            {
                "params": list(group.parameters.values()),
                "lr": group.learning_rate,
                "weight_decay": self.config.weight_decay if group.decays else 0.0,
            }
            for group in self.attachment.groups
        ]
        on_known_device = self.base.device.type in ("cpu", "cuda")
        return torch.optim.AdamW(groups, betas=BETAS, eps=EPSILON, fused=on_known_device)

    def _save(self, step: int, optimizer: torch.optim.AdamW) -> None:
        tensors: dict[str, Tensor] = {}
        for name, parameter in self.attachment.parameters.items():
            tensors[_PARAMETER + name] = parameter
            for key, value in optimizer.state[parameter].items():
                tensors[f"{_STATE}{key}/{name}"] = value
        self.metrics.sync()
        self.checkpoints.save(step, tensors)

    @torch.no_grad()
    def _restore(self, optimizer: torch.optim.AdamW) -> int:
        """Put the newest checkpoint's tensors in their places; returns how many steps they have behind them."""
        found = self.checkpoints.newest()
        step, tensors = found or (0, {})
        parameters = self.attachment.parameters
        for key, tensor in tensors.items():
            if key.startswith(_PARAMETER):
                parameters[key.removeprefix(_PARAMETER)].copy_(tensor)
            else:
                kind, _, name = key.removeprefix(_STATE).partition("/")
                optimizer.state[parameters[name]][kind] = _like(parameters[name], tensor)
        self.metrics.resume(step)
        return step


def _like(parameter: Tensor, tensor: Tensor) -> Tensor:
    """A copy of an optimiser's tensor, where and as AdamW keeps it for this parameter."""
    if tensor.shape != parameter.shape:
        return tensor.to(parameter.device)
    return torch.empty_like(parameter, requires_grad=False).copy_(tensor)
