"""Processes that carry out one training: what the loop asks of them, and how that is where there is one alone.

The first leads, the others compute their shares of its batches. All hold the same parameters and optimiser state, and
add up their gradients before each step, so that all take the same one. Only the leader knows workspace and records.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from packshot.domain.errors import InvalidConfiguration
from packshot.domain.training import TrainingConfig

if TYPE_CHECKING:
    from torch import nn


class Processes:
    """This process alone, which is the base of ``Launched``: number ``number`` of ``count``; number 0 leads."""

    number = 0
    count = 1
    broken = False

    def check(self, config: TrainingConfig) -> None:
        """Refuse batches that leave a process without a picture.

        Raises:
            InvalidConfiguration: with what to set.
        """
        if config.batch_size < self.count:
            raise InvalidConfiguration(
                f"batch_size is {config.batch_size}, and {self.count} processes share each batch; set batch_size to "
                f"{self.count} or more, or launch fewer processes"
            )

    @contextmanager
    def led(self, order: Callable[[], object]) -> Iterator[None]:
        """Send what ``order`` gives to the others, and have them follow until the context ends."""
        yield

    def go_on(self) -> bool:
        """Whether another step follows: what the leader says, by calling it."""
        return True

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What may fail in one process alone; the others learn it at the context's end.

        Raises:
            ProcessFailed: another failed.
            ProcessLost: another has ended.
        """
        yield

    def add_up(self, parameters: "Sequence[nn.Parameter]", figures: Sequence[float]) -> list[float]:
        """Make each gradient, and return each of ``figures``, the sum over all processes.

        Raises:
            ProcessLost: another has ended.
        """
        return list(figures)

    @contextmanager
    def led_from_here(self) -> Iterator[None]:
        """Let the others end with the context: the leader has no more orders."""
        yield
