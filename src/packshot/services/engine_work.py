"""Use case of what an engine does: add it to the workspace's numbers while a worker lives, for every server to tell."""

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace

from packshot.domain.engine_work import EngineTotals, EngineWork
from packshot.domain.errors import PackshotError
from packshot.ports import Records
from packshot.services.catalog import now

NOTE_EVERY_S = 5.0


@contextmanager
def engine_noted(
    records: Records, take: Callable[[], EngineTotals], *, every_s: float = NOTE_EVERY_S
) -> Generator[None, None, None]:
    """Write down what ``take`` gives, which is what was done since it was last called, every few seconds and at the end.

    A worker that is killed loses what came after its last note.
    """
    pending = EngineTotals()

    def note() -> None:
        nonlocal pending
        pending += take()
        if pending == EngineTotals():
            return
        with suppress(PackshotError):  # the database is away for a moment: the next note has it all
            _add(records, pending)
            pending = EngineTotals()

    ended = threading.Event()

    def go_on() -> None:
        while not ended.wait(every_s):
            note()

    thread = threading.Thread(target=go_on, name="engine notes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        note()


def engine_totals(records: Records) -> EngineTotals:
    """What all engines have done."""
    return next((each.totals for each in records.find(EngineWork)), EngineTotals())


def _add(records: Records, more: EngineTotals) -> None:
    with records.transaction():
        known = records.find(EngineWork)
        if known:
            records.replace(replace(known[0], totals=known[0].totals + more))
        else:
            records.add(EngineWork(totals=more, created_at=now()))
