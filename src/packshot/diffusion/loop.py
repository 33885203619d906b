"""The objective: denoising with prior preservation (Ruiz et al. 2023, DreamBooth). Knows no family and no method.

A run is a pure function of base, examples and configuration: step s draws from generators seeded by (seed, s), and a
checkpoint holds parameters and optimiser state exactly. Dropout layers stay off, since they would draw elsewhere.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from packshot.diffusion.batches import Batch, BatchPlan
from packshot.diffusion.checkpoints import Checkpoints
from packshot.diffusion.conditioning import PromptConditioning
from packshot.diffusion.course import Course, Losses
from packshot.diffusion.floats import computing
from packshot.diffusion.lessons import GUIDANCE
from packshot.diffusion.looks import Looks
from packshot.diffusion.metrics import MetricsLog
from packshot.diffusion.processes import Processes
from packshot.diffusion.protocols import Attachment, Family
from packshot.domain.training import TrainingConfig
from packshot.ports import Progress


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
    looks: Looks
    processes: Processes = field(default_factory=Processes)

    def start(self) -> Course:
        """The run at its newest checkpoint, or at its first step.

        Raises:
            Conflict: the checkpoints belong to another training.
            WorkspaceUnusable: the figures of the steps behind the checkpoint are gone.
        """
        return Course(self.attachment, self.config, self.base.device, self.checkpoints, self.metrics, self.processes)

    def run(self, report: Callable[[Progress], None], stop: Callable[[], bool]) -> Course:
        """Train to the last step, from the newest checkpoint if there is one; returns the finished course.

        Raises:
            Interrupted: ``stop()`` became true; a checkpoint of the last whole step is written.
            InvalidConfiguration: the loss is no longer a number.
            WorkspaceUnusable: a checkpoint cannot be written; earlier ones stay.
            ProcessFailed, ProcessLost: another process of this training failed, or has ended.
        """
        course = self.start()
        self.looks.look(course, report, stop)
        while not course.finished:
            course.check(stop)
            if not self.processes.go_on():
                break
            with self.processes.watched():
                for number in course.batches:
                    share = course.share(self.losses(self.plan.batch(number)))
                    if share is not None:
                        share.backward()
            course.take_step(report)
            self.looks.look(course, report, stop)
        return course

    def losses(self, batches: Sequence[Batch]) -> Losses:
        """The objective of batches that pass through the base one after another."""
        return self.losses_of(batches, [squared_errors([(self, batch)])[0] for batch in batches])

    def losses_of(self, batches: Sequence[Batch], errors: Sequence[Tensor]) -> Losses:
        """The objective: mean squared error, per instance weighted by min-SNR and mask, plus that of the class images.

        The mask's weights are normalised per image, so that a small product counts as much as a large one. Of a part of a
        batch it is that part's share of the batch's mean.
        """
        instances: list[Tensor] = []
        priors: list[tuple[int, Tensor]] = []
        for batch, error in zip(batches, errors, strict=True):
            timesteps, weights = batch.timesteps.to(self.base.device), batch.weights.to(self.base.device)
            count = batch.num_instances
            per_instance = (error[:count] * weights).mean((1, 2, 3)) / weights.mean((1, 2, 3))
            instances.append(per_instance * self.base.min_snr_weights(timesteps[:count], self.config.snr_gamma))
            if len(error) > count:
                priors.append((len(error) - count, error[count:].mean()))
        size = self.config.batch_size  # other processes may have a share of the rows
        rows = torch.cat(instances)
        instance = rows.mean() * (len(rows) / size)
        if not priors:
            return Losses(total=instance, instance=instance, prior=None)
        ((num_rows, mean),) = priors  # class images are of one shape, so they are together
        prior = mean * (num_rows / size)
        return Losses(total=instance + self.config.prior_weight * prior, instance=instance, prior=prior)


def squared_errors(parts: Sequence[tuple[Loop, Batch]]) -> list[Tensor]:
    """The squared errors of each part's predictions, of batches of one shape that pass through one base together."""
    base = parts[0][0].base
    latents = torch.cat([batch.latents for _, batch in parts]).to(base.device)
    noise = torch.cat([batch.noise for _, batch in parts]).to(base.device)
    timesteps = torch.cat([batch.timesteps for _, batch in parts]).to(base.device)
    frames = torch.cat([batch.frames for _, batch in parts])
    noisy = base.add_noise(latents, noise, timesteps)
    with computing(parts[0][0].config.mixed_precision, base.device):
        told = [loop.conditioning(batch.prompts) for loop, batch in parts]
        of_all = told[0] if len(told) == 1 else {name: torch.cat([each[name] for each in told]) for name in told[0]}
        prediction = base.predict(noisy, timesteps, of_all | base.picture_conditioning(frames, GUIDANCE))
    sizes = [len(batch.latents) for _, batch in parts]
    targets = list(base.target(latents, noise, timesteps).split(sizes))
    for number, (_, batch) in enumerate(parts):
        if batch.targets is not None:
            taught = torch.tensor(batch.taught, device=base.device)
            targets[number] = targets[number].index_copy(0, taught, batch.targets.to(targets[number]))
    return [(each - target).square() for each, target in zip(prediction.split(sizes), targets, strict=True)]
