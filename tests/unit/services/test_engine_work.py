"""What an engine does is noted while its worker lives, also where the database is away for a moment."""

import threading
from collections.abc import Callable

import pytest
from fakes import InMemoryRecords

from packshot.domain.engine_work import EngineTotals
from packshot.domain.errors import WorkspaceUnusable
from packshot.services.engine_work import engine_noted, engine_totals

WAIT_S = 30


class Noticing(InMemoryRecords):
    """Tells when something was written, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.tried, self.written = threading.Event(), threading.Event()

    def add(self, *records):
        self._try()
        super().add(*records)
        self.written.set()

    def replace(self, record):
        self._try()
        super().replace(record)
        self.written.set()

    def _try(self) -> None:
        self.tried.set()
        if self.away:
            raise WorkspaceUnusable("the database does not answer")


@pytest.fixture
def records() -> Noticing:
    return Noticing()


def once(hits: int) -> Callable[[], EngineTotals]:
    """So many hits, and nothing after that."""
    left = [EngineTotals(slot_hits=hits)]
    return lambda: left.pop() if left else EngineTotals()


def test_what_several_workers_did_is_added_up_while_they_live(records: Noticing) -> None:
    with engine_noted(records, once(5), every_s=0.001):
        assert records.written.wait(WAIT_S)
        assert engine_totals(records).slot_hits == 5
        with engine_noted(records, once(3)):
            pass
        assert engine_totals(records).slot_hits == 8
    assert engine_totals(records) == EngineTotals(slot_hits=8)


def test_an_engine_that_did_nothing_writes_nothing(records: Noticing) -> None:
    with engine_noted(records, EngineTotals):
        pass
    assert not records.tried.is_set()
    assert engine_totals(records) == EngineTotals()


def test_a_database_that_was_away_has_it_all_with_the_next_note(records: Noticing) -> None:
    records.away = True
    with engine_noted(records, once(2), every_s=0.001):
        assert records.tried.wait(WAIT_S)
        assert engine_totals(records).slot_hits == 0
        records.away = False
    assert engine_totals(records).slot_hits == 2
