"""A worker that makes pictures for several jobs at once."""

import threading
from collections.abc import Callable

import pytest
from fakes import InMemoryRecords

from packshot.domain.errors import Interrupted
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.ports import Progress
from packshot.services.catalog import now
from packshot.services.clocks import SharedClock
from packshot.services.jobs import Handler, cancel
from packshot.services.workers import Worker

WAIT_S = 30


@pytest.fixture
def records() -> InMemoryRecords:
    return InMemoryRecords()


def queued(records: InMemoryRecords, *kinds: JobKind) -> list[Job]:
    first = len(records.find(Job))
    jobs = [
        Job(id=f"job_{number}", kind=kind, subject_id=f"thing_{number}", created_at=now())
        for number, kind in enumerate(kinds, first)
    ]
    records.add(*jobs)
    return jobs


def worker(records: InMemoryRecords, handler: Handler, num_at_once: int = 2, **options) -> Worker:
    def alone(job: Job) -> list[Job]:
        raise AssertionError(f"{job.kind} was not to be carried out")

    return Worker(
        records=records,
        handlers={JobKind.GENERATION: handler, JobKind.BATCH: handler},
        otherwise=options.pop("otherwise", alone),
        num_at_once=num_at_once,
        **options,
    )


def drained(records: InMemoryRecords, handler: Handler, **options) -> list[Job]:
    done: list[Job] = []
    with worker(records, handler, **options) as at_work:
        while (some := at_work.work()) is not None:
            done += some
    return done


def meeting(parties: int) -> Callable[..., None]:
    barrier = threading.Barrier(parties)
    return lambda *_: barrier.wait(WAIT_S) and None


def test_jobs_that_make_pictures_are_under_way_at_the_same_time(records):
    queued(records, JobKind.GENERATION, JobKind.BATCH)
    done = drained(records, meeting(2))
    assert {job.id: job.status for job in done} == dict.fromkeys(["job_0", "job_1"], JobStatus.SUCCEEDED)


def test_no_more_than_so_many_are(records):
    queued(records, *[JobKind.GENERATION] * 5)
    under_way, most = set(), []

    def handler(job, report, stop):
        under_way.add(job.id)
        most.append(len(under_way))
        under_way.remove(job.id)

    assert len(drained(records, handler, num_at_once=1)) == 5
    assert max(most) == 1


def test_one_that_fails_does_not_touch_the_others(records):
    queued(records, *[JobKind.GENERATION] * 3)

    def handler(job, report, stop):
        if job.id == "job_1":
            raise RuntimeError("no memory")

    done = drained(records, handler, num_at_once=3)
    assert {job.id for job in done if job.status is JobStatus.FAILED} == {"job_1"}
    assert len(done) == 3


def test_a_job_that_comes_later_joins_those_under_way(records):
    queued(records, JobKind.GENERATION)
    together = meeting(2)

    def handler(job, report, stop):
        if job.id == "job_0":
            queued(records, JobKind.GENERATION)
        together()

    assert len(drained(records, handler, poll_s=0.01)) == 2


def test_other_work_is_done_alone_and_nothing_is_taken_on_meanwhile(records):
    queued(records, JobKind.GENERATION, JobKind.TRAINING, JobKind.GENERATION)
    trained, begun = threading.Event(), []

    def handler(job, report, stop):
        begun.append(job.id)
        if job.id == "job_0":
            assert trained.wait(WAIT_S)

    def train(job: Job) -> list[Job]:
        assert begun in ([], ["job_0"])
        trained.set()
        return [job]

    done = drained(records, handler, otherwise=train)
    assert sorted(job.id for job in done) == ["job_0", "job_1", "job_2"]


def test_a_canceled_job_ends_and_the_others_go_on(records):
    queued(records, JobKind.GENERATION, JobKind.GENERATION)
    together = meeting(2)

    def handler(job, report, stop):
        together()
        if job.id == "job_0":
            cancel(records, job.id)

    done = drained(records, handler)
    assert {job.id: job.status for job in done} == {"job_0": JobStatus.CANCELED, "job_1": JobStatus.SUCCEEDED}


def test_a_worker_that_is_stopped_puts_back_what_it_has_not_done(records):
    queued(records, *[JobKind.GENERATION] * 3)
    stopped, together = threading.Event(), meeting(2)

    def handler(job, report, stop):
        together()
        stopped.set()
        if stop():
            raise Interrupted("stopped")

    done = drained(records, handler, stop=stopped.is_set)
    assert len(done) == 2
    assert {job.status for job in records.find(Job)} == {JobStatus.QUEUED}


def test_jobs_share_the_seconds_that_they_are_under_way_together(monkeypatch):
    at = [0.0]
    monkeypatch.setattr("packshot.services.clocks.time.monotonic", lambda: at[0])
    clock = SharedClock()
    clock.join("first")
    at[0] += 4
    clock.join("second")
    at[0] += 6
    assert clock.leave("first") == 4 + 3
    at[0] += 5
    assert [clock.leave("second"), clock.leave("first")] == [3 + 5, 7]
    clock.join("first")
    at[0] += 2
    assert clock.leave("first") == 2


def test_progress_names_its_job(records):
    queued(records, JobKind.GENERATION, JobKind.GENERATION)
    seen: list[tuple[str, int]] = []

    def handler(job, report, stop):
        report(Progress(phase="pictures", step=int(job.id[-1]), num_steps=9))

    drained(records, handler, report=lambda job, progress: seen.append((job.id, progress.step)))
    assert sorted(seen) == [("job_0", 0), ("job_1", 1)]
