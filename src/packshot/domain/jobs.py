"""Job: the only status machine. Pure transitions; the queue that stores them checks lease and attempt again."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from packshot.domain.errors import Conflict, StaleAttempt

MAX_ATTEMPTS = 3
MAX_PRIORITY = 9


class JobKind(StrEnum):
    """What a worker is asked to do."""

    TRAINING = "training"
    GENERATION = "generation"
    FOREIGN_GENERATION = "foreign-generation"
    BATCH = "batch"
    EVALUATION = "evaluation"


class JobStatus(StrEnum):
    """queued → running → succeeded | failed | canceled; running → queued when interrupted or the worker dies.

    failed | canceled → queued when it is retried.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A unit of work. ``attempt`` fences: writes of an earlier attempt are refused.

    ``failures`` counts attempts that ended by a dead worker, not those that a person interrupted. ``namespace`` is
    whose turn at the queue it takes, empty for the operator's own; a higher ``priority`` comes first in that turn.
    """

    id: str
    kind: JobKind
    subject_id: str
    status: JobStatus = JobStatus.QUEUED
    attempt: int = 0
    failures: int = 0
    worker: str = ""
    lease_expires_at: datetime | None = None
    progress: float = 0.0
    message: str = ""
    namespace: str = ""
    priority: int = 0
    created_at: datetime
    finished_at: datetime | None = None

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in {JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED}


def whose_turn(waiting: Iterable[str], last_turns: Mapping[str, int]) -> str:
    """The namespace of those ``waiting`` whose last turn is the longest ago; one that had none yet comes first.

    So after at most one job of every other namespace a newcomer is served, however many jobs the others queued.
    """
    return min(waiting, key=lambda namespace: (last_turns.get(namespace, 0), namespace))


def claimable(job: Job, now: datetime) -> bool:
    """Whether a worker may take ``job``: it waits, or its worker let the lease run out."""
    if job.status is JobStatus.QUEUED:
        return True
    return job.status is JobStatus.RUNNING and job.lease_expires_at is not None and job.lease_expires_at <= now


def claim(job: Job, worker: str, now: datetime, lease: timedelta) -> Job:
    """``job`` as taken by ``worker``; failed instead when MAX_ATTEMPTS workers have died on it.

    Raises:
        Conflict: it is not claimable.
    """
    if not claimable(job, now):
        raise Conflict(f"job {job.id} is {job.status} and cannot be claimed by {worker}")
    failures = job.failures + (job.status is JobStatus.RUNNING)
    if failures >= MAX_ATTEMPTS:
        cause = f"{failures} workers died on it, the last was {job.worker}"
        return replace(job, status=JobStatus.FAILED, failures=failures, message=cause, finished_at=now)
    return replace(
        job,
        status=JobStatus.RUNNING,
        attempt=job.attempt + 1,
        failures=failures,
        worker=worker,
        lease_expires_at=now + lease,
    )


def check_attempt(job: Job, attempt: int) -> None:
    """Check that ``attempt`` still owns ``job``.

    Raises:
        StaleAttempt: another attempt took over, or the job has ended.
    """
    if job.status is not JobStatus.RUNNING or job.attempt != attempt:
        raise StaleAttempt(
            f"attempt {attempt} at job {job.id} lost its lease (the job is {job.status}, attempt {job.attempt}); "
            "nothing was written"
        )


def heartbeat(job: Job, now: datetime, lease: timedelta, progress: float, message: str) -> Job:
    """``job`` with its lease renewed and its progress (0 to 1) noted."""
    return replace(job, lease_expires_at=now + lease, progress=progress, message=message)


def finish(job: Job, status: JobStatus, now: datetime, message: str = "") -> Job:
    """``job`` ended in ``status``, or back in the queue when that is ``queued``.

    A canceled one keeps the lease of its worker, who learns of it at the next heartbeat.
    """
    assert status is not JobStatus.RUNNING
    finished_at = None if status is JobStatus.QUEUED else now
    progress = 1.0 if status is JobStatus.SUCCEEDED else job.progress
    return replace(
        job,
        status=status,
        message=message,
        finished_at=finished_at,
        lease_expires_at=job.lease_expires_at if status is JobStatus.CANCELED else None,
        progress=progress,
    )


def retry(job: Job, now: datetime) -> Job:
    """``job``, which failed or was canceled, in the queue again; MAX_ATTEMPTS workers may die on it anew.

    Raises:
        Conflict: it has not ended, has succeeded, or the worker that it was canceled under may still be at it.
    """
    if not job.finished:
        raise Conflict(f"job {job.id} is {job.status}; retry it when it has failed or was canceled")
    if job.status is JobStatus.SUCCEEDED:
        raise Conflict(f"job {job.id} has succeeded, so there is nothing to retry; ask for the same anew")
    if job.lease_expires_at is not None and job.lease_expires_at > now:
        seconds = math.ceil((job.lease_expires_at - now).total_seconds())
        raise Conflict(f"the worker of job {job.id} has not stopped yet; retry it in at most {seconds} seconds")
    return replace(
        job,
        status=JobStatus.QUEUED,
        failures=0,
        worker="",
        lease_expires_at=None,
        progress=0.0,
        message="",
        finished_at=None,
    )
