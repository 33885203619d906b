"""Working on jobs: claim one, keep its lease, run its handler, record how it ended. Knows no kind of work."""

import os
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from packshot.domain.errors import Conflict, Interrupted, JobFailed, PackshotError, StaleAttempt
from packshot.domain.jobs import Job, JobKind, JobStatus, finish, heartbeat
from packshot.ports import Progress, Records
from packshot.services.catalog import now

DEFAULT_LEASE = timedelta(seconds=20)

ReportProgress = Callable[[Progress], None]
Stop = Callable[[], bool]
Handler = Callable[[Job, ReportProgress, Stop], None]
Tidy = Callable[[], None]


def worker_name() -> str:
    """A name for this process that people can find: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def no_report(_: Progress) -> None:
    """Report to nobody."""


def never_stop() -> bool:
    """Go on."""
    return False


def leave_as_it_is() -> None:
    """Tidy nothing."""


@dataclass
class _Lease:
    """What the heartbeat thread and the handler share."""

    progress: float = 0.0
    message: str = ""
    lost: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def note(self, progress: Progress) -> None:
        self.progress = progress.step / max(progress.num_steps, 1)
        self.message = f"{progress.phase} {progress.step}/{progress.num_steps}"


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
    job = records.claim(worker_name(), now(), lease, job_id=job_id)
    if job is not None:
        job = _run(records, handlers, job, lease, report, stop)
    tidy()
    return job


def _run(
    records: Records,
    handlers: Mapping[JobKind, Handler],
    job: Job,
    lease: timedelta,
    report: ReportProgress,
    stop: Stop,
) -> Job:
    with _kept_lease(records, job, lease) as state:

        def noted(progress: Progress) -> None:
            state.note(progress)
            report(progress)

        try:
            handlers[job.kind](job, noted, lambda: state.lost.is_set() or stop())
            status, message = JobStatus.SUCCEEDED, ""
        except Interrupted as interruption:
            status, message = JobStatus.QUEUED, str(interruption)
        except StaleAttempt:
            return records.get(Job, job.id)
        except PackshotError as error:
            status, message = JobStatus.FAILED, str(error)
        except Exception as error:  # noqa: BLE001 - the one broad except: a job records whatever ended it
            status, message = JobStatus.FAILED, f"{type(error).__name__}: {error}"
    return _end(records, job, status, message)


def _end(records: Records, job: Job, status: JobStatus, message: str) -> Job:
    try:
        with records.transaction(fence=(job.id, job.attempt)):
            ended = finish(records.get(Job, job.id), status, now(), message)
            records.replace(ended)
    except StaleAttempt:
        return records.get(Job, job.id)
    return ended


@contextmanager
def _kept_lease(records: Records, job: Job, lease: timedelta) -> Generator[_Lease, None, None]:
    state = _Lease()

    def beat() -> None:
        held_until = job.lease_expires_at or now()
        while not state.ended.wait(lease.total_seconds() / 4):
            try:
                with records.transaction(fence=(job.id, job.attempt)):
                    renewed = heartbeat(records.get(Job, job.id), now(), lease, state.progress, state.message)
                    records.replace(renewed)
                held_until = renewed.lease_expires_at or held_until
            except PackshotError as error:
                # A database that is busy or away for a moment is asked again at the next beat.
                if isinstance(error, StaleAttempt) or now() >= held_until:
                    state.lost.set()
                    return

    thread = threading.Thread(target=beat, name=f"lease of {job.id}", daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.ended.set()
        thread.join()


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
