"""The engine: one resident base, and whatever is asked of it mixed in one running batch. Knows no identifiers.

Requests are taken from any thread. One thread samples, as long as there is anything to sample; it borrows the base for
that long, so a training in the same process waits for it, and it for the training. See docs/guide/engine.md.
"""

import logging
import threading
from dataclasses import asdict
from weakref import WeakKeyDictionary

from packshot.diffusion.bases import DiffusersBaseModels
from packshot.diffusion.protocols import Family
from packshot.diffusion.resident import EngineLimits, EngineMemory, Prepared, Resident
from packshot.diffusion.session import Session
from packshot.diffusion.tallies import EngineTally
from packshot.diffusion.tickets import Listener, PictureRequest, Ticket, hear_nothing
from packshot.diffusion.turns import Turns
from packshot.domain.errors import QueueFull
from packshot.domain.models import BaseModelRef
from packshot.domain.training_choices import MixedPrecision

_log = logging.getLogger("packshot.engine")


class DiffusersEngine:
    """Samples requests in one batch, whatever their fine-tunes, callers, steps and schedulers.

    A picture is what it would be alone, except for rounding: see ``generator``. ``memory`` is what stood beside the
    base, and what can, when it was taken into use; None before. ``tally`` counts what it does. Passes through the base
    compute with ``precision``.
    """

    def __init__(
        self,
        bases: DiffusersBaseModels,
        limits: EngineLimits | None = None,
        tally: EngineTally | None = None,
        *,
        precision: MixedPrecision = MixedPrecision.NO,
    ) -> None:
        self.limits = limits or EngineLimits()
        self.tally = tally or EngineTally()
        self.memory: EngineMemory | None = None
        self._bases = bases
        self._precision = precision
        self._residents: WeakKeyDictionary[Family, Resident] = WeakKeyDictionary()
        self._turns: Turns[Prepared] = Turns()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def submit(self, request: PictureRequest, listen: Listener = hear_nothing, *, patient: bool = False) -> Ticket:
        """Let the request's pictures join the batch; ``patient`` = wait while the queue is full.

        Raises:
            QueueFull: as many pictures wait as the limits allow.
        """
        ticket = Ticket(request, listen)
        ticket.future.add_done_callback(lambda _: self._notify())
        with self._changed:
            while self._turns.num_waiting >= self.limits.max_queue:
                if not patient:
                    raise QueueFull(
                        f"{self._turns.num_waiting} pictures wait for the engine, which holds {self.limits.max_queue}; "
                        "come again when some are done, or raise PACKSHOT_MAX_QUEUE"
                    )
                self._changed.wait()
            self._turns.add(ticket)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="packshot-engine")
                self._thread.start()
            self._changed.notify_all()
        return ticket

    def run_here(self, request: PictureRequest, listen: Listener) -> list[bytes]:
        """The PNGs of a request, sampled by this thread, which has borrowed the base. What ``listen`` raises goes on.

        Raises:
            PackshotError: why they could not be made.
        """
        turns: Turns[Prepared] = Turns()
        ticket = Ticket(request, listen)
        turns.add(ticket)
        self._serve(request.base, turns, threading.Condition())
        return ticket.result()

    def _work(self) -> None:
        """Serve base after base, until nothing waits."""
        while True:
            with self._changed:
                self._turns.drop_ended()
                if not self._turns.entries:
                    self._thread = None
                    return
                base = self._turns.entries[0].ticket.request.base
            try:
                self._serve(base, self._turns, self._changed)
            except Exception as error:  # noqa: BLE001 - those who wait learn of it, whatever it was
                with self._changed:
                    waiting = [entry for entry in self._turns.entries if entry.base_digest == base.digest]
                for entry in waiting:
                    entry.ticket.fail(error)

    def _serve(self, base: BaseModelRef, turns: Turns[Prepared], changed: threading.Condition) -> None:
        with self._bases.borrow(base, self._precision) as loaded:
            if loaded not in self._residents:
                self._residents[loaded] = Resident(loaded, self.limits, self.tally)
                self.memory = self._residents[loaded].memory
                _log.info("engine ready", extra={"base": base.source, **asdict(self.limits), **asdict(self.memory)})
            Session(
                base=loaded,
                base_digest=base.digest,
                resident=self._residents[loaded],
                turns=turns,
                changed=changed,
                max_batch=self.limits.max_batch,
                tally=self.tally,
            ).run()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
