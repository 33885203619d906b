"""Implements Generator over the engine, in which the pictures of all callers are mixed. Does not know identifiers.

What is reproducible: the same call with the same ``max_batch`` on one machine gives the same bytes, as long as nobody
else asks for pictures at the same time. Each picture's noise comes from its own seed on the CPU, and no picture depends
on its neighbours except by rounding: in a batch of another size or composition the same picture may differ in the last
bits, which is at most a grey level here and there.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.engine import DiffusersEngine
from packshot.diffusion.tickets import PHASE, Event, PictureRequest
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import BaseModelRef
from packshot.ports import LoadedFineTune, LoadedSubject, Progress

REPORT_EVERY_S = 1.0


class DiffusersGenerator:
    """Makes pictures with a base, bare or with fine-tunes, and waits for them; for any number of threads."""

    def __init__(self, bases: DiffusersBaseModels, engine: DiffusersEngine) -> None:
        self._bases = bases
        self._engine = engine

    @property
    def max_batch(self) -> int:
        """How many pictures are sampled at once."""
        return self._engine.limits.max_batch

    def generate(
        self,
        base: BaseModelRef,
        fine_tune: LoadedFineTune | None,
        prompts: Sequence[str],
        sampling: SamplingSettings,
        *,
        report: Callable[[Progress], None],
        caller: str = "",
        layout: bytes | None = None,
        subjects: Sequence[LoadedSubject] = (),
    ) -> list[bytes]:
        """``sampling.num_images`` PNGs per prompt, prompts in order; image i of every prompt has seed + i.

        With ``subjects`` there is no ``fine_tune``, and the one prompt is what the bare base reads where no subject stands.
        A guidance scale of at most 1 means no guidance, as in diffusers. ``report`` counts the steps of all pictures;
        what it raises ends the call, and the pictures leave the batch.

        Raises:
            IncompatibleFineTune: the fine-tune was trained on another base.
            CorruptArtifact: its weights are damaged or another's, or the base's files have changed.
            BaseModelRefused: the base cannot be loaded.
            InvalidInput: more inference steps than the base's noise schedule can be divided into, or a size, a
                scheduler or a negative prompt that the base cannot take.
            InvalidComposition: a subject's fine-tune cannot stand beside others.
            SamplingFailed: a picture's numbers were not finite any more.
        """
        request = PictureRequest(
            base=base,
            fine_tune=fine_tune,
            prompts=tuple(prompts),
            sampling=sampling,
            subjects=tuple(subjects),
            layout=layout,
            caller=caller,
        )
        if self._bases.borrowed_here:

            def relay(event: Event) -> None:
                if isinstance(event, Progress):
                    report(event)

            return self._engine.run_here(request, relay)
        events: SimpleQueue[Event] = SimpleQueue()
        ticket = self._engine.submit(request, events.put, patient=True)
        latest = Progress(phase=PHASE, step=0, num_steps=request.num_steps)
        try:
            while True:
                with suppress(Empty):  # what waits its turn is reported too, so that the caller can end it
                    event = events.get(timeout=REPORT_EVERY_S)
                    if event is None:
                        return ticket.result()
                    assert isinstance(event, Progress)
                    latest = event
                report(latest)
        finally:
            ticket.cancel()
