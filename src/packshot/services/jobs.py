"""Working on jobs: claim one, run its handler, record how it ended and what it took.

Knows no kind of work.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

from packshot.domain.errors import Conflict, Interrupted, JobFailed, PackshotError, StaleAttempt
from packshot.domain.jobs import Job, JobKind, JobStatus, finish
from packshot.ports import Progress, Records
from packshot.services.catalog import now
from packshot.services.clocks import SharedClock
from packshot.services.leases import Lease, kept_lease
from packshot.services.usage import usage_of
from packshot.services.webhooks import announce

DEFAULT_LEASE = timedelta(seconds=20)

ReportProgress = Callable[[Progress], None]
ReportProgressOf = Callable[[Job, Progress], None]
Stop = Callable[[], bool]
Handler = Callable[[Job, ReportProgress, Stop], None]
Tidy = Callable[[], None]

_log = logging.getLogger("packshot.jobs")


def worker_name() -> str:
    """A name for this process that people can find: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def no_report(_: Progress) -> None:
    """Report to nobody."""


def no_report_of(_job: Job, _: Progress) -> None:
    """Report to nobody."""


def never_stop() -> bool:
    """Go on."""
    return False


def leave_as_it_is() -> None:
    """Tidy nothing."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A claimed job in a handler's hands. ``end`` records that it succeeded, or what it ended with; ``ended`` tells.

    What comes after the first end is not recorded.
    """

    job: Job
    report: ReportProgress
    stop: Stop
    end: Callable[[Exception | None], None]
    ended: Callable[[], bool]

    @contextmanager
    def own(self) -> Generator[None, None, None]:
        """Whatever is raised within ends this job alone, and goes no further."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - as in ``work_together``
            self.end(error)


GroupHandler = Callable[[Sequence[Held]], None]


def take(records: Records, lease: timedelta, *, job_id: str | None = None) -> Job | None:
    """Claim the job whose turn it is (or just ``job_id``) for this process; None when there is nothing to claim.

    The ends of jobs which too many workers died on are announced.
    """
    return records.claim(worker_name(), now(), lease, job_id=job_id, given_up=lambda job: announce(records, job))


def work_on_one(
    records: Records,
    handlers: Mapping[JobKind, Handler],
    *,
    job_id: str | None = None,
    lease: timedelta = DEFAULT_LEASE,
    report: ReportProgress = no_report,
    tidy: Tidy = leave_as_it_is,
    stop: Stop = never_stop,
) -> Job | None:
    """Claim a job and run it to its end; None when there is nothing to claim.

    Interrupted work goes back into the queue; any other error fails the job with its cause. Neither is raised:
    the returned job tells. ``tidy`` is called when its end, and that of jobs which workers died on, is recorded.
    """
    job = take(records, lease, job_id=job_id)
    if job is not None:
        job = work_on_claimed(records, handlers, job, lease=lease, report=report, stop=stop)
    tidy()
    return job


def work_on_claimed(
    records: Records,
    handlers: Mapping[JobKind, Handler],
    job: Job,
    *,
    lease: timedelta = DEFAULT_LEASE,
    report: ReportProgress = no_report,
    stop: Stop = never_stop,
    clock: SharedClock | None = None,
) -> Job:
    """Run a job that this process has claimed to its end; the returned job tells how it went.

    ``clock`` is that of the jobs which are under way at the same time.
    """

    def alone(held: Sequence[Held]) -> None:
        (one,) = held
        handlers[job.kind](one.job, one.report, one.stop)
        one.end(None)

    def report_of(_: Job, progress: Progress) -> None:
        report(progress)

    return work_together(records, alone, [job], lease=lease, report=report_of, stop=stop, clock=clock)[0]


def work_together(
    records: Records,
    handler: GroupHandler,
    claimed: Sequence[Job],
    *,
    lease: timedelta = DEFAULT_LEASE,
    report: ReportProgressOf = no_report_of,
    stop: Stop = never_stop,
    clock: SharedClock | None = None,
) -> list[Job]:
    """Run jobs that this process has claimed with one handler, each to its own end; the returned jobs tell.

    What ``handler`` itself raises ends those that have not ended before. The seconds that a job is said to have taken
    are its share of the group's, or of all that ``clock`` is shared with: at every moment those that have not ended share
    it equally, so that all shares together are the time that passed, and one that leaves early pays for no more.
    """
    clock = clock or SharedClock()
    for job in claimed:
        clock.join(job.id)
    with ExitStack() as leases:
        held = [
            _hold(records, job, leases.enter_context(kept_lease(records, job, lease)), clock, report, stop)
            for job in claimed
        ]
        failure: Exception | None = None
        try:
            handler(held)
        except Exception as error:  # noqa: BLE001 - the one broad except: a job records whatever ended it
            failure = error
        for each in held:
            if not each.ended():
                assert failure, f"the handler left {each.job.id} without an end"
                each.end(failure)
    return [records.get(Job, job.id) for job in claimed]


def _hold(records: Records, job: Job, state: Lease, clock: SharedClock, report: ReportProgressOf, stop: Stop) -> Held:
    def noted(progress: Progress) -> None:
        state.note(progress)
        report(job, progress)

    recorded = threading.Event()

    def end(error: Exception | None) -> None:
        if recorded.is_set():
            return
        state.ended.set()
        status, message = _outcome(job, error)
        seconds = clock.leave(job.id)
        left = _end(records, job, status, message, state.num_training_steps, seconds)
        recorded.set()
        facts = {"job_id": job.id, "kind": job.kind.value, "namespace": job.namespace, "attempt": job.attempt}
        _log.info("job left", extra={**facts, "status": left.status.value, "seconds": round(seconds, 3)})

    return Held(job=job, report=noted, stop=lambda: state.lost.is_set() or stop(), end=end, ended=recorded.is_set)


def _outcome(job: Job, error: Exception | None) -> tuple[JobStatus, str]:
    """How an attempt that ended with ``error`` leaves its job; canceled where the job is another attempt's by now."""
    if error is None:
        return JobStatus.SUCCEEDED, ""
    if isinstance(error, Interrupted):
        return JobStatus.QUEUED, str(error)
    if isinstance(error, StaleAttempt):
        return JobStatus.CANCELED, str(error)
    if isinstance(error, PackshotError):
        return JobStatus.FAILED, str(error)
    _log.error("job %s failed by surprise", job.id, exc_info=error)
    return JobStatus.FAILED, f"{type(error).__name__}: {error}"


def _end(records: Records, job: Job, status: JobStatus, message: str, num_steps: int, seconds: float) -> Job:
    """``job`` after this attempt; what that took is recorded also where the attempt has lost its lease."""
    usage = usage_of(records, job, status, num_steps=num_steps, seconds=seconds)
    try:
        with records.transaction(fence=(job.id, job.attempt)):
            ended = finish(records.get(Job, job.id), status, now(), message)
            records.add(usage)
            records.replace(ended)
            announce(records, ended)
    except StaleAttempt:
        with records.transaction():
            records.add(replace(usage, status=JobStatus.CANCELED))
            ended = records.get(Job, job.id)
            if ended.status is JobStatus.CANCELED and ended.attempt == job.attempt:
                ended = replace(ended, lease_expires_at=None)  # it may be retried now
                records.replace(ended)
    return ended


def see_through(
    records: Records,
    handlers: Mapping[JobKind, Handler],
    job_id: str,
    *,
    lease: timedelta = DEFAULT_LEASE,
    report: ReportProgress = no_report,
    watch: Callable[[Job], None],
    tidy: Tidy = leave_as_it_is,
    stop: Stop = never_stop,
    poll_s: float = 0.5,
) -> Job:
    """Run a job here, or ``watch`` it while another worker holds its lease, until it ends or ``stop()``."""
    while True:
        job = work_on_one(records, handlers, job_id=job_id, lease=lease, report=report, tidy=tidy, stop=stop)
        job = job or records.get(Job, job_id)
        if job.finished or stop():
            return job
        watch(job)
        time.sleep(poll_s)


def cancel(records: Records, job_id: str) -> Job:
    """End a job that waits or runs; its worker stops at the next heartbeat, and nothing it writes is kept.

    Raises:
        Conflict: it has succeeded or failed. One that was canceled before is returned as it is.
    """
    with records.transaction():
        job = records.get(Job, job_id)
        if job.status is JobStatus.CANCELED:
            return job
        if job.finished:
            raise Conflict(f"job {job_id} has {job.status} and cannot be canceled any more")
        canceled = finish(job, JobStatus.CANCELED, now(), "canceled on request")
        records.replace(canceled)
        announce(records, canceled)
    return canceled


def check_succeeded(job: Job) -> Job:
    """Return ``job`` if it succeeded.

    Raises:
        JobFailed: it failed; the message is its cause.
        Interrupted: it waits in the queue again.
    """
    if job.status is JobStatus.SUCCEEDED:
        return job
    if job.status in {JobStatus.QUEUED, JobStatus.RUNNING}:
        raise Interrupted(job.message or f"job {job.id} is {job.status}")
    raise JobFailed(f"job {job.id} {job.status}: {job.message}")
