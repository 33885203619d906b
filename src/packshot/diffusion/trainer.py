"""Implements Trainer: class images, encoding, then the loop, with a base that is left as it was found."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from diffusers.models.modeling_utils import ModelMixin
from torch import nn

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.generator import DiffusersGenerator
from packshot.diffusion.methods import METHODS
from packshot.diffusion.optimizers import check_installed
from packshot.diffusion.preparation import Preparation
from packshot.diffusion.runs import loop_of, trained
from packshot.diffusion.together import train_members
from packshot.domain.presets import check_supported
from packshot.ports import GroupMember, Progress, TrainedWeights, TrainingTask


class DiffusersTrainer:
    """Fine-tunes bases in the diffusers layout. Class images come from ``generator``.

    Of trainings that are carried out together, at most ``group_samples`` pictures pass through the base at once, or
    those of one training where they are more.
    """

    def __init__(self, bases: DiffusersBaseModels, generator: DiffusersGenerator, *, group_samples: int = 16) -> None:
        self._bases = bases
        self._generator = generator
        self._group_samples = group_samples

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
        """
        _check(task)
        config = task.config
        with self._bases.borrow(task.base) as base:
            plan = Preparation(base=base, generator=self._generator).plan(task, report, stop)
            start = base.initial_rows(task.class_noun, config.seed, config.num_vectors)
            with base.with_token(task.token, start) as rows:
                attachment = METHODS[config.method].attach(base, rows, config)
                try:
                    loop = loop_of(task, base, plan, attachment, rows)
                    with _recomputed_activations(base.denoiser) if config.gradient_checkpointing else nullcontext():
                        course = loop.run(report, stop)
                    return trained(task, loop, course, rows)
                finally:
                    attachment.detach()

    def train_together(self, members: Sequence[GroupMember]) -> None:
        """Train several tasks on one base at once; see the port. Each gets the weights that ``train`` would give it.

        Raises:
            BaseModelRefused, CorruptArtifact: the base cannot be loaded, or has changed.
        """
        for member in members:
            with member.own():
                _check(member.task)
        with self._bases.borrow(members[0].task.base) as base:
            preparation = Preparation(base=base, generator=self._generator)
            train_members(base, preparation, members, self._group_samples)


def _check(task: TrainingTask) -> None:
    check_supported(task.config, task.base.family)
    check_installed(task.config.optimizer)


@contextmanager
def _recomputed_activations(denoiser: nn.Module) -> Iterator[None]:
    """Within the context the backward pass computes activations anew, which saves memory and costs time."""
    assert isinstance(denoiser, ModelMixin)
    denoiser.enable_gradient_checkpointing()
    try:
        yield
    finally:
        denoiser.disable_gradient_checkpointing()
