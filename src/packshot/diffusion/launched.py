"""Several processes that share a training, over torch's process groups. Knows no loop."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta

import torch
from torch import Tensor, nn

from packshot.diffusion.processes import Processes
from packshot.domain.errors import ProcessFailed, ProcessLost

# The leader may need hours for class images. A process that dies is noticed at once, by its closed connection.
_LONGEST_WAIT = timedelta(days=7)
_CHUNK_ELEMENTS = 2**23


class Launched(Processes):
    """The processes that accelerate's launcher, or torchrun, has started with the same command."""

    def __init__(self, device: str = "auto") -> None:
        """Meet the others, which takes until all are there; ``device`` is the setting."""
        from accelerate import PartialState

        processors = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
        self._state = PartialState(cpu=processors, timeout=_LONGEST_WAIT)
        assert self._state.num_processes > 1, "accelerate has met no other process"
        self.number, self.count = self._state.process_index, self._state.num_processes
        self._going = False

    @contextmanager
    def led(self, order: Callable[[], object]) -> Iterator[None]:
        """Send what ``order`` gives to the others, and have them follow until the context ends."""
        self._pass_on(order())
        try:
            with self.watched():
                pass
            yield
        finally:
            if not self.broken:
                self._flag(going=False)

    def receive(self) -> object:
        """The leader's next order; None when there are no more."""
        self._going = True
        return self._pass_on(None)

    def go_on(self) -> bool:
        """Whether another step follows: what the leader says, by calling it."""
        self._going = self._flag(going=True)
        return self._going

    def still_led(self) -> bool:
        """Whether the leader goes on where this process has come to the end of its order."""
        return self._going and self.go_on()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """What may fail in one process alone; the others learn it at the context's end."""
        try:
            yield
        except ProcessLost:
            raise
        except Exception as error:
            told = f"process {self.number} of {self.count} failed: {type(error).__name__}: {error}"
            self._meet(told)
            if self.number:
                raise ProcessFailed(told) from error
            raise
        failed = self._meet("")
        if failed:
            raise ProcessFailed(failed)

    def add_up(self, parameters: Sequence[nn.Parameter], figures: Sequence[float]) -> list[float]:
        """Make each gradient, and return each of ``figures``, the sum over all processes."""
        learns = [float(parameter.grad is not None) for parameter in parameters]
        told = self._sum(self._tensor([*figures, *learns])).tolist()
        learning = [parameter for parameter, count in zip(parameters, told[len(figures) :], strict=True) if count]
        for parameter in learning:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for chunk in _chunks([parameter.grad for parameter in learning if parameter.grad is not None]):
            total = self._sum(torch.cat([each.flatten() for each in chunk]))
            for each, part in zip(chunk, total.split([each.numel() for each in chunk]), strict=True):
                each.copy_(part.view_as(each))
        return told[: len(figures)]

    @contextmanager
    def led_from_here(self) -> Iterator[None]:
        """Let the others end with the context: the leader has no more orders."""
        try:
            yield
        finally:
            with suppress(ProcessLost):
                if not self.broken:
                    self._pass_on(None)
            self._state.destroy_process_group()

    def _meet(self, failure: str) -> str:
        """What those that failed tell, when all are here; empty where none did."""
        if not self._sum(self._tensor([float(bool(failure))])).item():
            return ""
        told: list[str] = [""] * self.count
        with self._connected():
            torch.distributed.all_gather_object(told, failure)
        return "; ".join(each for each in told if each)

    def _flag(self, *, going: bool) -> bool:
        told = self._tensor([float(going)])
        with self._connected():
            torch.distributed.broadcast(told, src=0)
        return bool(told.item())

    def _pass_on(self, order: object) -> object:
        """The leader's ``order``, in all processes."""
        told = [order]
        with self._connected():
            torch.distributed.broadcast_object_list(told, src=0, device=self._state.device)
        return told[0]

    def _sum(self, values: Tensor) -> Tensor:
        with self._connected():
            torch.distributed.all_reduce(values)
        return values

    def _tensor(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self._state.device)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # what the backends raise when a connection is closed
            self.broken = True
            raise ProcessLost(
                f"another of the {self.count} processes of this training has ended, its own messages say why "
                f"({str(error).splitlines()[0]}); the same command goes on from the newest checkpoint"
            ) from error


def _chunks(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors in order, as many at a time as are sent well together."""
    chunk: list[Tensor] = []
    for tensor in tensors:
        if chunk and sum(each.numel() for each in chunk) + tensor.numel() > _CHUNK_ELEMENTS:
            yield chunk
            chunk = []
        chunk.append(tensor)
    if chunk:
        yield chunk
