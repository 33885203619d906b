"""What the engine is asked for, and the ticket that the caller waits on. Knows no model."""

from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

from packshot.domain.errors import Interrupted
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import BaseModelRef
from packshot.ports import LoadedFineTune, LoadedSubject, Progress

PHASE = "pictures"


@dataclass(frozen=True, kw_only=True)
class PictureRequest:
    """``sampling.num_images`` pictures per prompt, prompts in order; image i of every prompt has seed + i.

    With ``subjects`` there is no ``fine_tune``, and the one prompt is what the bare base reads where no subject stands.
    ``layout`` is the PNG that they begin from, where ``sampling`` names one. ``caller`` is who takes turns with the
    others, such as a namespace. ``preview_every`` is the number of steps between previews; 0 = none.
    """

    base: BaseModelRef
    fine_tune: LoadedFineTune | None
    prompts: tuple[str, ...]
    sampling: SamplingSettings
    subjects: tuple[LoadedSubject, ...] = ()
    layout: bytes | None = None
    caller: str = ""
    preview_every: int = 0

    def __post_init__(self) -> None:
        assert not self.subjects or (self.fine_tune is None and len(self.prompts) == 1), (
            "a composed picture has no other"
        )

    @property
    def num_pictures(self) -> int:
        """How many pictures are asked for."""
        return len(self.prompts) * self.sampling.num_images

    @property
    def num_steps(self) -> int:
        """The denoising steps of all pictures together."""
        return self.num_pictures * self.sampling.inference_steps


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What picture ``number`` will look like, as far as its first ``step`` steps tell."""

    number: int
    step: int
    png: bytes


Event = Progress | Preview | None  # None: there is nothing more to come
Listener = Callable[[Event], None]


def hear_nothing(_: Event) -> None:
    """Listen to nothing."""


class Ticket:
    """A request under way. ``future`` has its PNGs in the end; canceling it ends the request at the next step.

    ``listen`` is called by the thread that samples.
    """

    def __init__(self, request: PictureRequest, listen: Listener = hear_nothing) -> None:
        self.request = request
        self.future: Future[list[bytes]] = Future()
        self._listen = listen
        self._num_steps_done = 0
        self._pngs: dict[int, bytes] = {}
        self.future.add_done_callback(lambda _: listen(None))

    @property
    def ended(self) -> bool:
        """Whether nobody waits for pictures any more: they are there, it failed or was canceled."""
        return self.future.done()

    def cancel(self) -> None:
        """End the request; nothing happens where it has ended."""
        self.future.cancel()

    def result(self, timeout_s: float | None = None) -> list[bytes]:
        """The PNGs, once they are there.

        Raises:
            Interrupted: it was canceled.
            TimeoutError: they are not there within ``timeout_s``.
            PackshotError: why they could not be made.
        """
        try:
            return self.future.result(timeout_s)
        except CancelledError as error:
            raise Interrupted("the pictures were canceled on request") from error

    def note(self, num_steps: int) -> None:
        """So many of all pictures' steps are done now."""
        self._num_steps_done += num_steps
        self._listen(Progress(phase=PHASE, step=self._num_steps_done, num_steps=self.request.num_steps))

    def show(self, preview: Preview) -> None:
        """Let the caller see a preview."""
        self._listen(preview)

    def deliver(self, number: int, png: bytes) -> None:
        """Picture ``number`` is done; the last one ends the request."""
        self._pngs[number] = png
        if len(self._pngs) == self.request.num_pictures and self.future.set_running_or_notify_cancel():
            self.future.set_result([self._pngs[each] for each in sorted(self._pngs)])

    def fail(self, error: BaseException) -> None:
        """End the request with ``error``, where it has not ended."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)
