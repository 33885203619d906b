"""Which job a worker takes next: look-ups that follow an index however long the queue is. Does not change a job."""

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, update

from packshot.domain.jobs import Job, JobStatus, whose_turn
from packshot.storage.rows.inputs import job_from_row
from packshot.storage.rows.values import time_to_text
from packshot.storage.tables import job, turn

_WAITS = job.c.status == JobStatus.QUEUED.value


def next_claimable(connection: Connection, now: datetime, job_id: str | None) -> Job | None:
    """The job to claim (or ``job_id``, where it is claimable); whose turn it was is noted."""
    deserted = and_(job.c.status == JobStatus.RUNNING.value, job.c.lease_expires_at <= time_to_text(now))
    if job_id is not None:
        wanted = job.c.id == job_id
        return _first(connection, and_(deserted, wanted)) or _first(connection, and_(_WAITS, wanted))
    return _first(connection, deserted) or _next_in_turn(connection)


def _next_in_turn(connection: Connection) -> Job | None:
    waiting = list(connection.scalars(select(job.c.namespace).where(_WAITS).distinct()))
    if not waiting:
        return None
    turns = {row.namespace: row.number for row in connection.execute(select(turn.c.namespace, turn.c.number))}
    namespace = whose_turn(waiting, turns)
    number = max(turns.values(), default=0) + 1
    if namespace in turns:
        connection.execute(update(turn).where(turn.c.namespace == namespace).values(number=number))
    else:
        connection.execute(insert(turn).values(namespace=namespace, number=number))
    best = select(func.max(job.c.priority)).where(_WAITS, job.c.namespace == namespace).scalar_subquery()
    return _first(connection, and_(_WAITS, job.c.namespace == namespace, job.c.priority == best))


def _first(connection: Connection, where: ColumnElement[bool]) -> Job | None:
    statement = select(job).where(where).order_by(job.c.seq).limit(1)
    row = connection.execute(statement).mappings().first()
    return None if row is None else job_from_row(dict(row))
