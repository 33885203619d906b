"""One run under way, from its newest checkpoint to its last step. Knows neither batches nor the base.

Whoever drives it takes gradients of what ``share`` gives for each of ``batches``, then calls ``take_step``.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from packshot.diffusion.averages import MovingAverage
from packshot.diffusion.checkpoints import Checkpoints
from packshot.diffusion.metrics import MetricsLog
from packshot.diffusion.optimizers import Optimizer, diverged
from packshot.diffusion.processes import Processes
from packshot.diffusion.protocols import Attachment
from packshot.domain.errors import Interrupted
from packshot.domain.training import TrainingConfig
from packshot.ports import Progress

PHASE = "training"

_PARAMETER, _STATE, _AVERAGE = "parameter/", "optimizer/", "average/"


@dataclass(frozen=True, kw_only=True)
class Losses:
    """``total`` = ``instance`` + prior weight * ``prior``; ``prior`` is None without class images."""

    total: Tensor
    instance: Tensor
    prior: Tensor | None


class Course:
    """Parameters, optimiser state, moving average and figures of a run; ``step`` steps are behind it.

    ``saved`` is the step of its newest checkpoint.
    """

    def __init__(
        self,
        attachment: Attachment,
        config: TrainingConfig,
        device: torch.device,
        checkpoints: Checkpoints,
        metrics: MetricsLog,
        processes: Processes,
    ) -> None:
        self._parameters = attachment.parameters
        self._config = config
        self._checkpoints = checkpoints
        self._metrics = metrics
        self._processes = processes
        self._optimizer = Optimizer(attachment.groups, config, device)
        self._average = MovingAverage(self._parameters, config.ema_decay) if config.ema_decay else None
        self._rows: list[dict[str, float]] = []
        self._ended = False
        self.step = self.saved = self._restore()
        self._optimizer.zero_grad()

    @property
    def finished(self) -> bool:
        """Whether the last step is behind it."""
        return self._ended or self.step >= self._config.steps

    def end(self) -> None:
        """Let the step that is behind it be its last."""
        self._ended = True

    @property
    def learned(self) -> Mapping[str, Tensor]:
        """What was learned, by name."""
        return self._average.tensors if self._average else self._parameters

    @contextmanager
    def learned_in_place(self) -> Iterator[None]:
        """While the context lasts, the parameters have the values of ``learned``; afterwards their own, to the bit."""
        if self._average is None:
            yield
            return
        kept = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._put(self._average.tensors)
        try:
            yield
        finally:
            self._put(kept)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])

    @property
    def batches(self) -> range:
        """The numbers of the batches whose gradients the next step averages."""
        count = self._config.gradient_accumulation_steps
        return range(self.step * count, (self.step + 1) * count)

    def check(self, stop: Callable[[], bool]) -> None:
        """Go on unless ``stop()``.

        Raises:
            Interrupted: it is true; a checkpoint of the last whole step is written.
        """
        if stop():
            self.save()
            raise Interrupted(
                f"stopped after {self.step} of {self._config.steps} steps; the same command goes on there"
            )

    def share(self, losses: Losses) -> Tensor | None:
        """What the gradients of a batch are to be taken of; None where nothing in it learns.

        That is so where every caption of a textual inversion was dropped.
        """
        row = {"loss": losses.total.item(), "instance_loss": losses.instance.item()}
        if losses.prior is not None:
            row["prior_loss"] = losses.prior.item()
        self._rows.append(row)
        scaled = self._optimizer.scaled(losses.total / self._config.gradient_accumulation_steps)
        return scaled if scaled.requires_grad else None

    def take_step(self, report: Callable[[Progress], None]) -> None:
        """Take the next step with the gradients that are there, and a checkpoint where one is due.

        Raises:
            InvalidConfiguration: the loss or a gradient is no longer a number.
            WorkspaceUnusable: a checkpoint cannot be written; earlier ones stay.
            ProcessLost: another process of this training has ended.
        """
        count = len(self._rows)
        means = {name: sum(each[name] for each in self._rows) / count for name in self._rows[0]}
        totals = self._processes.add_up(list(self._parameters.values()), list(means.values()))
        row = {"step": self.step + 1.0} | dict(zip(means, totals, strict=True))
        self._rows = []
        if not math.isfinite(row["loss"]):
            raise diverged(self._config, self.step, f"its loss is {row['loss']}")
        norm = self._optimizer.step(self.step)
        self._optimizer.zero_grad()
        if self._average:
            self._average.update(self.step)
        self.step += 1
        self._metrics.append(row if norm is None else row | {"gradient_norm": norm})
        report(
            Progress(
                phase=PHASE,
                step=self.step,
                num_steps=self._config.steps,
                loss=row["loss"],
                instance_loss=row["instance_loss"],
                prior_loss=row.get("prior_loss"),
            )
        )
        if self.step % self._config.checkpoint_every_steps == 0:
            self.save()

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            WorkspaceUnusable: it cannot be written; earlier ones stay.
        """
        tensors: dict[str, Tensor] = {}
        tensors |= {_PARAMETER + name: each for name, each in self._parameters.items()}
        tensors |= {_STATE + name: each for name, each in self._optimizer.state()}
        if self._average:
            tensors |= {_AVERAGE + name: each for name, each in self._average.tensors.items()}
        self._metrics.sync()
        self._checkpoints.save(self.step, tensors)
        self.saved = self.step

    @torch.no_grad()
    def _restore(self) -> int:
        """Put the newest checkpoint's tensors in their places; returns how many steps they have behind them."""
        step, tensors = self._checkpoints.newest() or (0, {})
        places = {_PARAMETER + name: each for name, each in self._parameters.items()}
        if self._average:
            places |= {_AVERAGE + name: each for name, each in self._average.tensors.items()}
        for key in places.keys() & tensors.keys():
            places[key].copy_(tensors[key])
        state = {key.removeprefix(_STATE): each for key, each in tensors.items() if key.startswith(_STATE)}
        self._optimizer.restore(state)
        self._metrics.resume(step)
        return step
