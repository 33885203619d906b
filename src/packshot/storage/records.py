"""Implements Records with SQLAlchemy Core. Does not know what the records mean, nor which database it talks to.

Transactions that may write take the database's one write lock when they begin, so that whatever a transaction read
still holds when it writes: the fence of a job, the oldest claimable job, the newest version of a category. Inside a
transaction every further one is a savepoint, so that a refused call leaves nothing of itself behind.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, Insert, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from packshot.domain import jobs
from packshot.domain.access import ApiKey
from packshot.domain.batches import ItemFailure
from packshot.domain.catalog import Category
from packshot.domain.engine_work import EngineWork
from packshot.domain.errors import Conflict, NotFound
from packshot.domain.jobs import Job, JobStatus
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.webhooks import Delivery, Webhook
from packshot.ports import Fence, R, Record, Search, Tally, Wanted
from packshot.storage import tables
from packshot.storage.engine import make_engine, mapped_failures, reader, values_checked
from packshot.storage.queries import Parameters, asked, place, rows, tallied
from packshot.storage.queue import next_claimable
from packshot.storage.refusals import refusal, removal_refusal
from packshot.storage.rows import SHAPES, Shape
from packshot.storage.rows.inputs import members_to_rows
from packshot.storage.rows.values import Row
from packshot.storage.schema import create_schema, open_schema

_ORDER = {kind: place for place, kind in enumerate(SHAPES)}


class SqlRecords:
    """Records in a database. Threads may share one object; each has its own connection and transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = reader(engine)
        self._local = threading.local()
        # Threads of one process wait here for the write lock: SQLite would have them sleep and look again.
        self._turn = threading.Lock()

    @classmethod
    def create(cls, database: str | Path) -> Self:
        """Records in a new database (a URL, or the path of an SQLite file); an existing one is opened.

        Raises:
            WorkspaceUnusable: the database belongs to something else, is newer than this program, or does not answer.
        """
        return cls._prepared(database, create_schema)

    @classmethod
    def open(cls, database: str | Path) -> Self:
        """Records in an existing database, which is upgraded to the newest schema.

        Raises:
            WorkspaceMissing: there is none.
            WorkspaceUnusable: as ``create``.
        """
        return cls._prepared(database, open_schema)

    @classmethod
    def _prepared(cls, database: str | Path, prepare: Callable[[Engine], None]) -> Self:
        engine = make_engine(database)
        try:
            prepare(engine)
        except BaseException:
            engine.dispose()
            raise
        return cls(engine)

    def close(self) -> None:
        """Close all idle connections; the object opens new ones when it is used again."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @contextmanager
    def transaction(self, fence: Fence | None = None) -> Iterator[None]:
        """All or nothing; see the port."""
        with self._writing() as connection:
            if fence is not None:
                _check_fence(connection, fence)
            yield

    def add(self, *records: Record) -> None:
        """Append records, parents before children; see the port."""
        with self._writing() as connection:
            for record in sorted(records, key=lambda record: _ORDER[type(record)]):
                with _refusals_of(record):
                    connection.execute(_insertion(type(record)), [_shape(type(record)).to_row(record)])
                    if isinstance(record, ReferenceSet) and (members := members_to_rows(record)):
                        connection.execute(insert(tables.reference_set_member), members)

    def replace(self, record: Record) -> None:
        """Write a record of a kind that may change anew; see the port. Raises Conflict for any other kind."""
        if not isinstance(record, Category | ReferenceImage | Job | ApiKey | Webhook | Delivery | EngineWork):
            raise Conflict(f"a {type(record).__name__} never changes once it is written ({record.id}); add a new one")
        shape = _shape(type(record))
        with self._writing() as connection, _refusals_of(record):
            where = shape.table.c.id == record.id
            if not connection.execute(update(shape.table).where(where).values(**shape.to_row(record))).rowcount:
                raise _not_found(type(record), record.id)

    def remove(self, record: ReferenceImage | ItemFailure) -> None:
        """Forget a record that nothing else points at; see the port. Raises NotFound where it is gone."""
        table = _shape(type(record)).table
        with self._writing() as connection:
            try:
                found = connection.execute(delete(table).where(table.c.id == record.id)).rowcount
            except IntegrityError as error:
                assert isinstance(record, ReferenceImage), "nothing points at other kinds"
                raise removal_refusal(record) from error
            if not found:
                raise _not_found(type(record), record.id)

    def get(self, kind: type[R], id_: str) -> R:
        """The record with this id; see the port."""
        with self._reading() as connection:
            return _get(connection, kind, id_)

    def find(
        self,
        kind: type[R],
        /,
        *,
        order: Sequence[str] = (),
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        since: datetime | None = None,
        search: Search | None = None,
        **equal: Wanted,
    ) -> list[R]:
        """The records that are like that, in order; see the port."""
        question, parameters = asked(_shape(kind).table, equal, since=since, search=search)
        question = replace(
            question,
            order=tuple(order),
            newest_first=newest_first,
            behind=after is not None,
            limited=limit is not None,
        )
        if limit is not None:
            parameters["limit"] = limit
        with self._reading() as connection, values_checked():
            if after is not None:
                found = connection.execute(place(question), {**parameters, "after": after}).first()
                if found is None:
                    raise NotFound(f"there is no {kind.__name__} with the id {after!r} in this list")
                parameters |= {f"key_{number}": value for number, value in enumerate(found)}
            return _records(connection, kind, rows(question), parameters)

    def tally(
        self,
        kind: type[R],
        by: Sequence[str],
        sums: Sequence[str] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        **equal: Wanted,
    ) -> list[Tally]:
        """Counts and sums per group; see the port."""
        question, parameters = asked(_shape(kind).table, equal, since=since, until=until)
        statement = tallied(question, tuple(by), tuple(sums))
        with self._reading() as connection:
            found = [tuple(row) for row in connection.execute(statement, parameters)]
        split = len(by)
        return [
            Tally(key=row[:split], count=row[split], sums=tuple(map(float, row[split + 1 :])))
            for row in found
            if row[split]
        ]

    def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        *,
        job_id: str | None = None,
        given_up: Callable[[Job], None] = lambda _: None,
    ) -> Job | None:
        """Take the claimable job whose turn it is, and fail those on which too many workers died; see the port.

        Raises NotFound where ``job_id`` names no job.
        """
        with self._writing() as connection:
            if job_id is not None:
                _get(connection, Job, job_id)
            while (job := next_claimable(connection, now, job_id)) is not None:
                claimed = jobs.claim(job, worker, now, lease)
                self.replace(claimed)
                if claimed.status is JobStatus.RUNNING:
                    return claimed
                given_up(claimed)
        return None

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """A connection in a transaction of this thread: a new one, or a savepoint in the one that is open."""
        outer: Connection | None = getattr(self._local, "connection", None)
        with mapped_failures(self._engine):
            if outer is not None:
                with outer.begin_nested():
                    yield outer
                return
            with self._turn, self._engine.begin() as connection:
                self._local.connection = connection
                try:
                    yield connection
                finally:
                    self._local.connection = None

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """A connection to read with: that of this thread's transaction, or one without."""
        outer: Connection | None = getattr(self._local, "connection", None)
        with mapped_failures(self._engine):
            if outer is not None:
                yield outer
                return
            with self._reader.connect() as connection:
                yield connection


@cache
def _insertion(kind: type[Record]) -> Insert:
    return insert(_shape(kind).table)


def _shape(kind: type[R]) -> Shape[R]:
    return SHAPES[kind]


def _not_found(kind: type[Record], id_: str) -> NotFound:
    return NotFound(f"there is no {kind.__name__} with the id {id_!r}")


@contextmanager
def _refusals_of(record: Record) -> Iterator[None]:
    try:
        with values_checked():
            yield
    except IntegrityError as error:
        raise refusal(record, _shape(type(record)), error) from error


def _check_fence(connection: Connection, fence: Fence) -> None:
    job_id, attempt = fence
    jobs.check_attempt(_get(connection, Job, job_id), attempt)


def _get(connection: Connection, kind: type[R], id_: str) -> R:
    question, parameters = asked(_shape(kind).table, {"id": id_})
    found = _records(connection, kind, rows(question), parameters)
    if not found:
        raise _not_found(kind, id_)
    return found[0]


def _records(connection: Connection, kind: type[R], statement: Select[Any], parameters: Parameters) -> list[R]:
    with values_checked():
        found: list[Row] = [dict(row) for row in connection.execute(statement, parameters).mappings()]
    if kind is ReferenceSet:
        members = _members(connection, [row["id"] for row in found])
        found = [{**row, "members": members.get(row["id"], [])} for row in found]
    return [_shape(kind).from_row(row) for row in found]


def _members(connection: Connection, set_ids: Sequence[str]) -> dict[str, list[Row]]:
    member = tables.reference_set_member
    statement = select(member).where(member.c.reference_set_id.in_(set_ids)).order_by(member.c.position)
    found: dict[str, list[Row]] = {}
    for row in connection.execute(statement).mappings():
        found.setdefault(row["reference_set_id"], []).append(dict(row))
    return found
