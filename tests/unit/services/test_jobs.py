import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from fakes import InMemoryRecords

from packshot.domain.errors import BaseModelRefused, Conflict, Interrupted, JobFailed, StaleAttempt, WorkspaceUnusable
from packshot.domain.jobs import MAX_ATTEMPTS, Job, JobKind, JobStatus
from packshot.domain.usage import Usage
from packshot.ports import Progress
from packshot.services.catalog import now
from packshot.services.jobs import cancel, check_succeeded, never_stop, see_through, work_on_one

LEASE = timedelta(seconds=20)
SHORT = timedelta(seconds=0.2)
KIND = JobKind.TRAINING


def queued(records: InMemoryRecords, number: int = 1) -> Job:
    job = Job(id=f"job_{number}", kind=KIND, subject_id="run_1", created_at=datetime.now(UTC))
    records.add(job)
    return job


def lost_to_another(records: InMemoryRecords) -> Job:
    """Another worker takes the job over, as when this one's lease had run out."""
    taken = records.claim("other:1", now() + timedelta(days=1), timedelta(days=1), job_id="job_1")
    assert taken
    return taken


@pytest.fixture
def records() -> InMemoryRecords:
    return InMemoryRecords()


def unwatched(job: Job) -> None:
    raise AssertionError(f"nobody else holds {job}")


def test_without_a_job_there_is_nothing_to_do(records):
    assert work_on_one(records, {}) is None


def test_a_job_is_done_and_its_progress_reported(records):
    queued(records)
    seen: list[Progress] = []

    def handler(job, report, stop):
        assert records.get(Job, job.id).status is JobStatus.RUNNING
        assert not stop()
        report(Progress(phase="training", step=1, num_steps=2))

    job = work_on_one(records, {KIND: handler}, report=seen.append)
    assert job
    assert job == records.get(Job, "job_1")
    assert (job.status, job.progress, job.lease_expires_at) == (JobStatus.SUCCEEDED, 1.0, None)
    assert job.finished_at
    assert [progress.step for progress in seen] == [1]
    assert check_succeeded(job) is job


def test_the_oldest_job_is_first_unless_one_is_named(records):
    for number in (1, 2, 3):
        queued(records, number)
    done: list[str] = []

    def handler(job, report, stop):
        done.append(job.id)

    work_on_one(records, {KIND: handler}, job_id="job_2")
    work_on_one(records, {KIND: handler})
    work_on_one(records, {KIND: handler})
    assert done == ["job_2", "job_1", "job_3"]
    assert work_on_one(records, {KIND: handler}) is None


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (BaseModelRefused("the base has no UNet"), "the base has no UNet"),
        (ValueError("bad shape"), "ValueError: bad shape"),
        (MemoryError(), "MemoryError: "),
    ],
)
def test_whatever_ends_a_job_is_recorded_as_its_cause(records, error, cause):
    queued(records)

    def handler(job, report, stop):
        raise error

    job = work_on_one(records, {KIND: handler})
    assert job
    assert (job.status, job.message) == (JobStatus.FAILED, cause)
    with pytest.raises(JobFailed, match=f"job_1 failed: {cause}"):
        check_succeeded(job)
    assert work_on_one(records, {KIND: handler}) is None


def test_a_kind_that_nobody_handles_fails_the_job_and_not_the_worker(records):
    queued(records)
    job = work_on_one(records, {})
    assert job
    assert job.status is JobStatus.FAILED


def test_interrupted_work_waits_in_the_queue_again(records):
    queued(records)

    def handler(job, report, stop):
        assert stop()
        raise Interrupted("stopped after step 3")

    job = work_on_one(records, {KIND: handler}, stop=lambda: True)
    assert job
    assert (job.status, job.failures) == (JobStatus.QUEUED, 0)
    with pytest.raises(Interrupted, match="stopped after step 3"):
        check_succeeded(job)
    done = work_on_one(records, {KIND: lambda job, report, stop: None})
    assert done
    assert (done.status, done.attempt) == (JobStatus.SUCCEEDED, 2)


@pytest.mark.parametrize("ending", ["publish", "return", "fail"])
def test_a_lost_lease_ends_quietly_and_leaves_the_job_to_the_other_worker(records, ending):
    queued(records)

    def handler(job, report, stop):
        lost_to_another(records)
        if ending == "publish":
            with records.transaction(fence=(job.id, job.attempt)):
                raise AssertionError("a stale attempt wrote")
        if ending == "fail":
            raise ValueError("out of memory")

    job = work_on_one(records, {KIND: handler})
    assert job == records.get(Job, "job_1")
    assert job
    assert (job.status, job.worker, job.attempt, job.message) == (JobStatus.RUNNING, "other:1", 2, "")
    (usage,) = records.find(Usage)
    assert (usage.status, usage.job_id, usage.seconds > 0) == (JobStatus.CANCELED, "job_1", True)


def test_the_handler_is_told_to_stop_when_its_lease_is_lost(records):
    queued(records)
    told = threading.Event()

    def handler(job, report, stop):
        lost_to_another(records)
        while not stop():
            told.wait(0.01)
        told.set()
        raise Interrupted("lease lost")

    job = work_on_one(records, {KIND: handler}, lease=SHORT)
    assert told.is_set()
    assert job
    assert (job.status, job.worker) == (JobStatus.RUNNING, "other:1")


def test_the_lease_is_renewed_while_the_handler_works(records):
    queued(records)
    renewed = threading.Event()

    def handler(job, report, stop):
        report(Progress(phase="training", step=1, num_steps=4))
        while not renewed.wait(0.01):
            current = records.get(Job, job.id)
            if current.lease_expires_at > job.lease_expires_at and current.progress:
                assert (current.progress, current.message) == (0.25, "training 1/4")
                renewed.set()

    job = work_on_one(records, {KIND: handler}, lease=SHORT)
    assert renewed.is_set()
    assert job
    assert job.status is JobStatus.SUCCEEDED


class Unreliable(InMemoryRecords):
    """A database that is busy for the first ``busy`` renewals of a lease."""

    def __init__(self, busy: int) -> None:
        super().__init__()
        self.busy = busy
        self.failed = 0

    @contextmanager
    def transaction(self, fence=None):
        if fence and threading.current_thread().name.startswith("lease of") and self.failed < self.busy:
            self.failed += 1
            raise WorkspaceUnusable("the database is locked")
        with super().transaction(fence):
            yield


def test_a_database_that_is_busy_for_a_moment_does_not_cost_the_lease():
    records = Unreliable(busy=1)
    queued(records)
    renewed = threading.Event()

    def handler(job, report, stop):
        while not renewed.wait(0.01):
            assert not stop()
            if records.get(Job, job.id).lease_expires_at > job.lease_expires_at:
                renewed.set()

    job = work_on_one(records, {KIND: handler}, lease=timedelta(seconds=2))
    assert records.failed == 1
    assert job
    assert job.status is JobStatus.SUCCEEDED


def test_a_database_that_stays_away_costs_the_lease_and_stops_the_handler():
    records = Unreliable(busy=10**9)
    queued(records)

    def handler(job, report, stop):
        while not stop():
            threading.Event().wait(0.01)
        raise Interrupted("lease lost")

    job = work_on_one(records, {KIND: handler}, lease=SHORT)
    assert job
    assert job.status is JobStatus.QUEUED


def test_see_through_runs_the_job_here_when_nobody_holds_it(records):
    queued(records)
    job = see_through(records, {KIND: lambda job, report, stop: None}, "job_1", watch=unwatched)
    assert job.status is JobStatus.SUCCEEDED


def test_see_through_leaves_other_jobs_alone(records):
    queued(records, 1)
    queued(records, 2)
    see_through(records, {KIND: lambda job, report, stop: None}, "job_2", watch=unwatched)
    assert records.get(Job, "job_1").status is JobStatus.QUEUED


def test_see_through_watches_the_holder_and_takes_over_when_its_lease_runs_out(records):
    queued(records)
    records.claim("dead:1", now(), timedelta(seconds=0.3), job_id="job_1")
    watched: list[str] = []
    job = see_through(
        records,
        {KIND: lambda job, report, stop: None},
        "job_1",
        watch=lambda job: watched.append(job.worker),
        poll_s=0.05,
    )
    assert set(watched) == {"dead:1"}
    assert (job.status, job.attempt, job.failures) == (JobStatus.SUCCEEDED, 2, 1)


def test_see_through_returns_what_another_worker_made_of_the_job(records):
    queued(records)
    records.claim("other:1", now(), LEASE, job_id="job_1")

    def watch(job):
        with records.transaction(fence=(job.id, job.attempt)):
            records.replace(Job(**{**vars(job), "status": JobStatus.FAILED, "message": "out of memory"}))

    job = see_through(records, {}, "job_1", watch=watch, poll_s=0)
    assert (job.status, job.message) == (JobStatus.FAILED, "out of memory")


def test_a_watcher_may_stop_and_the_job_goes_on(records):
    queued(records)
    records.claim("other:1", now(), LEASE, job_id="job_1")
    watched: list[Job] = []
    job = see_through(records, {}, "job_1", watch=watched.append, stop=lambda: bool(watched), poll_s=0)
    assert (job.status, job.worker) == (JobStatus.RUNNING, "other:1")
    with pytest.raises(Interrupted):
        check_succeeded(job)


def test_a_job_on_which_too_many_workers_died_is_failed(records):
    queued(records)
    for number in range(MAX_ATTEMPTS):
        records.claim(f"dead:{number}", now() - timedelta(days=9 - number), SHORT, job_id="job_1")
    job = see_through(records, {}, "job_1", watch=unwatched, stop=never_stop)
    assert job.status is JobStatus.FAILED
    with pytest.raises(JobFailed, match="workers died"):
        check_succeeded(job)


def test_a_stale_attempt_is_a_conflict_for_the_caller_who_asks_with_a_fence(records):
    queued(records)
    records.claim("a:1", now(), LEASE)
    with pytest.raises(StaleAttempt), records.transaction(fence=("job_1", 2)):
        pass


def test_a_waiting_job_that_is_canceled_is_never_taken(records):
    queued(records)
    canceled = cancel(records, "job_1")
    assert (canceled.status, canceled.finished_at is None) == (JobStatus.CANCELED, False)
    assert work_on_one(records, {}) is None
    assert cancel(records, "job_1") == canceled
    with pytest.raises(JobFailed, match="canceled on request"):
        check_succeeded(canceled)


def test_a_running_job_that_is_canceled_is_told_to_stop(records):
    queued(records)
    pause = threading.Event()

    def handler(job, report, stop):
        cancel(records, job.id)
        while not stop():
            pause.wait(0.01)
        raise Interrupted("stopped")

    job = work_on_one(records, {KIND: handler}, lease=SHORT)
    assert job
    assert job.status is JobStatus.CANCELED


def test_an_ended_job_cannot_be_canceled(records):
    queued(records)
    work_on_one(records, {KIND: lambda job, report, stop: None})
    with pytest.raises(Conflict, match="has succeeded and cannot be canceled"):
        cancel(records, "job_1")
