"""What a process does that follows another in a training: its share of every step, and no file but the base's."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from torch import Tensor

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.batches import BatchPlan, Example
from packshot.diffusion.checkpoints import Checkpoints
from packshot.diffusion.launched import Launched
from packshot.diffusion.metrics import MetricsLog
from packshot.diffusion.runs import attached_loop
from packshot.domain.errors import PackshotError, ProcessLost
from packshot.ports import TrainingTask


@dataclass(frozen=True, kw_only=True)
class Order:
    """A training that is to be followed: its task without photos, its encoded pictures, its newest checkpoint."""

    task: TrainingTask
    instances: Sequence[Example]
    class_examples: Sequence[Example]
    newest: tuple[int, dict[str, Tensor]] | None


def order(task: TrainingTask, plan: BatchPlan, newest: tuple[int, dict[str, Tensor]] | None) -> Order:
    """What other processes need to follow ``task``."""
    return Order(
        task=replace(task, examples=(), validation=(), scoring=None),
        instances=plan.instances,
        class_examples=plan.class_examples,
        newest=newest,
    )


def follow(bases: DiffusersBaseModels, processes: Launched) -> None:
    """Follow the leader's orders until there are no more. What fails is told to the leader, who says what to do.

    Raises:
        ProcessLost: another process has ended.
    """
    while (received := processes.receive()) is not None:
        assert isinstance(received, Order)
        try:
            _carry_out(received, bases, processes)
        except ProcessLost:
            raise
        except PackshotError:
            if processes.still_led():
                raise


def _carry_out(received: Order, bases: DiffusersBaseModels, processes: Launched) -> None:
    task = received.task
    with ExitStack() as borrowed:
        with processes.watched():
            base = borrowed.enter_context(bases.borrow(task.base, task.config.frozen_precision))
            plan = BatchPlan(
                instances=received.instances,
                class_examples=received.class_examples,
                config=task.config,
                draw_timesteps=base.draw_timesteps,
            )
            loop, _ = borrowed.enter_context(attached_loop(task, base, plan, processes))
        unwritten = replace(loop, checkpoints=_Sent(received.newest), metrics=_Unwritten())
        unwritten.run(lambda _: None, lambda: False)
        assert not processes.still_led(), "the leader goes on after the last step"


class _Sent(Checkpoints):
    """The checkpoint that the leader has sent; none is written here."""

    def __init__(self, newest: tuple[int, dict[str, Tensor]] | None) -> None:
        self._newest = newest

    def save(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        pass

    def newest(self) -> tuple[int, dict[str, Tensor]] | None:
        return self._newest


class _Unwritten(MetricsLog):
    """Figures that the leader writes."""

    def __init__(self) -> None:
        self.rows = []

    def resume(self, num_steps: int) -> None:
        pass

    def append(self, row: dict[str, float]) -> None:
        pass

    def sync(self) -> None:
        pass
