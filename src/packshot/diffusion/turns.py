"""Whose picture joins the batch next. Callers take turns; knows no model. Not for several threads at once."""

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from packshot.diffusion.tickets import Ticket

P = TypeVar("P")


@dataclass(kw_only=True, eq=False)
class Entry(Generic[P]):
    """A request of which pictures wait. ``prepared`` is what it takes to sample them, once it is under way."""

    ticket: Ticket
    arrival: int
    prepared: "Future[P] | None" = None
    num_taken: int = 0

    @property
    def caller(self) -> str:
        """Who takes turns."""
        return self.ticket.request.caller

    @property
    def base_digest(self) -> str:
        """The base that it needs."""
        return self.ticket.request.base.digest

    @property
    def num_waiting(self) -> int:
        """Pictures that have not joined."""
        return self.ticket.request.num_pictures - self.num_taken


@dataclass(kw_only=True)
class Turns(Generic[P]):
    """The requests that wait, in order of arrival."""

    entries: list[Entry[P]] = field(default_factory=list)
    _arrivals: "count[int]" = field(default_factory=count)
    _served: dict[str, int] = field(default_factory=dict)
    _rounds: "count[int]" = field(default_factory=count)

    @property
    def num_waiting(self) -> int:
        """Pictures that wait."""
        return sum(entry.num_waiting for entry in self.entries)

    @property
    def base_digest(self) -> str | None:
        """The base whose turn it is, that of the oldest request; None when none waits."""
        return self.entries[0].base_digest if self.entries else None

    def add(self, ticket: Ticket) -> None:
        """Let the pictures of ``ticket`` wait."""
        self.entries.append(Entry(ticket=ticket, arrival=next(self._arrivals)))

    def drop_ended(self) -> None:
        """Forget what nobody waits for any more, and what has joined as a whole."""
        self.entries = [entry for entry in self.entries if entry.num_waiting and not entry.ticket.ended]
        callers = {entry.caller for entry in self.entries}
        self._served = {caller: at for caller, at in self._served.items() if caller in callers}

    def unprepared(self, lookahead: int) -> list[Entry[P]]:
        """Which requests to prepare, so that ``lookahead`` of this base's are: every caller's first before the second."""
        mine = [entry for entry in self.entries if entry.base_digest == self.base_digest]
        depth: dict[str, int] = {}
        ranked: list[tuple[int, int, Entry[P]]] = []
        for entry in mine:
            depth[entry.caller] = depth.get(entry.caller, -1) + 1
            ranked.append((depth[entry.caller], entry.arrival, entry))
        first = [entry for *_, entry in sorted(ranked, key=lambda each: each[:2])]
        room = lookahead - sum(entry.prepared is not None for entry in mine)
        return [entry for entry in first if entry.prepared is None][: max(room, 0)]

    def next(self, num_running: Mapping[str, int]) -> Entry[P] | None:
        """The request whose picture joins next, if it is prepared: of the caller with the fewest in the batch.

        Of equals the one whose turn was longest ago; of a caller's requests the oldest. Only the base whose turn it is.
        """
        firsts: dict[str, Entry[P]] = {}
        for entry in self.entries:
            if entry.base_digest == self.base_digest:
                firsts.setdefault(entry.caller, entry)
        ready = [entry for entry in firsts.values() if entry.prepared and entry.prepared.done()]
        if not ready:
            return None
        return min(
            ready, key=lambda each: (num_running.get(each.caller, 0), self._served.get(each.caller, -1), each.arrival)
        )

    def take(self, entry: Entry[P]) -> int:
        """The number of the picture of ``entry`` that joins."""
        self._served[entry.caller] = next(self._rounds)
        entry.num_taken += 1
        return entry.num_taken - 1
