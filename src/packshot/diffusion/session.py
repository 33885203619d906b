"""The running batch on one loaded base: pictures join before a step and leave after one, until none waits.

While the batch runs, one thread reads the next requests' files and prompts, and one decodes what is finished. What a
request brings on itself ends it alone. Knows no thread of its own: whoever has borrowed the base runs it.
"""

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Condition

import torch

from packshot.diffusion.protocols import Family
from packshot.diffusion.resident import Prepared, Resident
from packshot.diffusion.samples import Place, Sample, predict
from packshot.diffusion.tallies import EngineTally
from packshot.diffusion.turns import Entry, Turns


@dataclass(kw_only=True)
class Session:
    """``changed`` guards ``turns``, and is notified of everything that a waiting session should look at."""

    base: Family
    base_digest: str
    resident: Resident
    turns: Turns[Prepared]
    changed: Condition
    max_batch: int
    tally: EngineTally = field(default_factory=EngineTally)
    _running: list[Sample] = field(default_factory=list[Sample], init=False)
    _finishing: deque[Future[None]] = field(default_factory=deque[Future[None]], init=False)

    @torch.inference_mode()
    def run(self) -> None:
        """Sample what waits for this base, until it is another's turn or nothing waits."""
        try:
            with (
                ThreadPoolExecutor(1, "packshot-prepare") as loader,
                ThreadPoolExecutor(1, "packshot-finish") as finisher,
            ):
                while self._go_on(loader):
                    self._admit()
                    for batch in self._batches():
                        self._step(batch)
                    self._part(finisher)
        except BaseException as error:
            for sample in self._running:
                sample.ticket.fail(error)
            raise
        finally:
            for sample in self._running:
                self.resident.leave(sample.place)
            with self.changed:
                for entry in self.turns.entries:  # what is prepared holds the base, which may go now
                    entry.prepared = None

    def _go_on(self, loader: ThreadPoolExecutor) -> bool:
        """Begin to prepare what comes next; waits where nothing can be done yet. False when there is nothing left."""
        with self.changed:
            while True:
                self.turns.drop_ended()
                mine = self.turns.base_digest == self.base_digest
                for entry in self.turns.unprepared(2 * self.max_batch) if mine else ():
                    entry.prepared = loader.submit(self.resident.prepare, entry.ticket, self.base)
                    entry.prepared.add_done_callback(lambda _: self._notify())
                if self._running or (mine and self.turns.next({})):
                    return True
                if not mine:
                    return False
                self.changed.wait()

    def _notify(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _admit(self) -> None:
        """Let pictures join, as many as there is room for. One that has no place yet keeps the others waiting too.

        Otherwise it could wait for ever.
        """
        while self._num_parts < self.max_batch:
            entry = self._next()
            if entry is None:
                return
            assert entry.prepared
            try:
                prepared = entry.prepared.result()
                if self._running and self._num_parts + len(prepared.fine_tunes) > self.max_batch:
                    return
                place = self.resident.place(prepared.fine_tunes, self.base)
            except Exception as error:  # noqa: BLE001 - whatever a request brings on itself ends it alone
                entry.ticket.fail(error)
                continue
            if place is None:
                return
            self._running.append(sample := self._joined(entry, prepared, place))
            if sample.step:
                sample.ticket.note(sample.step)  # those that it leaves out

    @property
    def _num_parts(self) -> int:
        return sum(len(sample.place.slots) for sample in self._running)

    def _next(self) -> Entry[Prepared] | None:
        running: dict[str, int] = {}
        for sample in self._running:
            caller = sample.ticket.request.caller
            running[caller] = running.get(caller, 0) + 1
        with self.changed:
            self.turns.drop_ended()
            return self.turns.next(running) if self.turns.base_digest == self.base_digest else None

    def _joined(self, entry: Entry[Prepared], prepared: Prepared, place: Place) -> Sample:
        with self.changed:
            number = self.turns.take(entry)
            self.changed.notify_all()  # there may be room for those who wait to be let in
        return prepared.sample(number, place)

    def _batches(self) -> list[list[Sample]]:
        """What runs, by what can pass through the denoiser at once: of one base or replica, and of one shape."""
        batches: dict[tuple[int, torch.Size], list[Sample]] = {}
        for sample in self._running:
            batches.setdefault((id(sample.place.base), sample.latents.shape), []).append(sample)
        return [sorted(batch, key=lambda each: each.place.slots) for batch in batches.values()]

    def _step(self, batch: Sequence[Sample]) -> None:
        began = time.perf_counter()
        try:
            predictions = predict(batch, self.resident.bank)
        except Exception as error:  # noqa: BLE001 - as in ``_admit``: find out whose fault it is
            tickets = list(dict.fromkeys(sample.ticket for sample in batch))
            if len(tickets) == 1:
                tickets[0].fail(error)
            else:
                for ticket in tickets:
                    self._step([sample for sample in batch if sample.ticket is ticket])
            return
        for sample, prediction in zip(batch, predictions, strict=True):
            sample.advance(prediction)
        num_parts = sum(len(sample.place.slots) for sample in batch)
        self.tally.step(time.perf_counter() - began, num_parts / self.max_batch)
        for ticket in dict.fromkeys(sample.ticket for sample in batch):
            ticket.note(sum(sample.ticket is ticket for sample in batch))

    def _part(self, finisher: ThreadPoolExecutor) -> None:
        """Let those leave that are finished, or for which nobody waits. No more are being finished than can run."""
        leaving = [each for each in self._running if each.finished or each.ticket.ended]
        self._running = [each for each in self._running if each not in leaving]
        for sample in leaving:
            self.resident.leave(sample.place)
            self._finishing.append(finisher.submit(_finish, sample))
        while len(self._finishing) > self.max_batch:
            self._finishing.popleft().result()


@torch.inference_mode()
def _finish(sample: Sample) -> None:
    if sample.ticket.ended:
        return
    try:
        sample.ticket.deliver(sample.number, sample.png())
    except Exception as error:  # noqa: BLE001 - as in ``_admit``
        sample.ticket.fail(error)
