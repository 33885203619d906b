"""Implements Trainer: class images, encoding, then the loop, with a base that is left as it was found."""

from collections.abc import Callable, Sequence

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.followers import order
from packshot.diffusion.generator import DiffusersGenerator
from packshot.diffusion.optimizers import check_installed
from packshot.diffusion.preparation import Preparation
from packshot.diffusion.processes import Processes
from packshot.diffusion.runs import attached_loop, recomputed, trained
from packshot.diffusion.together import train_members
from packshot.diffusion.trial import try_out
from packshot.domain.models import BaseModelRef
from packshot.domain.presets import check_supported
from packshot.domain.training import TrainingConfig
from packshot.domain.training_cost import Trial
from packshot.ports import GroupMember, Progress, TrainedWeights, TrainingTask


class DiffusersTrainer:
    """Fine-tunes bases in the diffusers layout. Class images come from ``generator``.

    Of trainings that are carried out together, at most ``group_samples`` pictures pass through the base at once, or
    those of one training where they are more. A training alone is shared with ``processes``, which this one leads.
    """

    def __init__(
        self,
        bases: DiffusersBaseModels,
        generator: DiffusersGenerator,
        *,
        group_samples: int = 16,
        processes: Processes | None = None,
    ) -> None:
        self._bases = bases
        self._generator = generator
        self._group_samples = group_samples
        self._processes = processes or Processes()

    def train(
        self, task: TrainingTask, *, report: Callable[[Progress], None], stop: Callable[[], bool]
    ) -> TrainedWeights:
        """Train, or go on from the newest whole checkpoint in ``task.workdir``.

        Raises:
            Interrupted: ``stop()`` became true; what was done is kept.
            InvalidConfiguration: the family does not support it, the token means something to the base already, or the training diverged.
            Conflict: ``task.workdir`` belongs to another training.
            BaseModelRefused, CorruptArtifact: the base cannot be loaded, or has changed.
            WorkspaceUnusable: nothing can be written.
            ProcessFailed, ProcessLost: another process that shares the training failed, or has ended.
        """
        _check(task.config, task.base)
        self._processes.check(task.config)
        with self._bases.borrow(task.base, task.config.frozen_precision) as base:
            plan = Preparation(base=base, generator=self._generator).plan(task, report, stop)
            with attached_loop(task, base, plan, self._processes) as (loop, rows):
                with self._processes.led(lambda: order(task, plan, loop.checkpoints.newest())):
                    course = loop.run(report, stop)
                return trained(task, loop, course, rows)

    def try_out(self, base: BaseModelRef, config: TrainingConfig, class_noun: str) -> Trial:
        """Measure a few passes as a training with ``config`` would make them.

        Raises:
            InvalidConfiguration, InvalidInput: the base cannot be trained so.
            BaseModelRefused, CorruptArtifact: the base cannot be loaded, or has changed.
        """
        _check(config, base)
        with self._bases.borrow(base, config.frozen_precision) as borrowed:
            return try_out(borrowed, config, class_noun, lambda: recomputed(borrowed, config))

    def train_together(self, members: Sequence[GroupMember]) -> None:
        """Train several tasks on one base at once; see the port. Each gets the weights that ``train`` would give it.

        Raises:
            BaseModelRefused, CorruptArtifact: the base cannot be loaded, or has changed.
        """
        for member in members:
            with member.own():
                _check(member.task.config, member.task.base)
        first = members[0].task
        with self._bases.borrow(first.base, first.config.frozen_precision) as base:
            preparation = Preparation(base=base, generator=self._generator)
            train_members(base, preparation, members, self._group_samples)


def _check(config: TrainingConfig, base: BaseModelRef) -> None:
    check_supported(config, base.family)
    check_installed(config.optimizer)
