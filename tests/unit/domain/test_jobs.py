from datetime import UTC, datetime, timedelta

import pytest

from packshot.domain.errors import Conflict, StaleAttempt
from packshot.domain.jobs import (
    MAX_ATTEMPTS,
    Job,
    JobKind,
    JobStatus,
    check_attempt,
    claim,
    claimable,
    finish,
    heartbeat,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LEASE = timedelta(seconds=20)
QUEUED = Job(id="job_1", kind=JobKind.TRAINING, subject_id="run_1", created_at=NOW)


def test_a_claimed_job_runs_with_a_lease_and_a_new_attempt():
    job = claim(QUEUED, "host:1", NOW, LEASE)
    assert (job.status, job.attempt, job.worker, job.lease_expires_at) == (JobStatus.RUNNING, 1, "host:1", NOW + LEASE)


@pytest.mark.parametrize("status", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED])
def test_what_has_ended_cannot_be_claimed(status):
    ended = finish(claim(QUEUED, "host:1", NOW, LEASE), status, NOW)
    assert ended.finished
    assert not claimable(ended, NOW + 100 * LEASE)
    with pytest.raises(Conflict, match=f"job_1 is {status}"):
        claim(ended, "host:2", NOW, LEASE)


def test_a_running_job_is_claimable_from_the_moment_its_lease_ends():
    job = claim(QUEUED, "host:1", NOW, LEASE)
    assert not claimable(job, NOW + LEASE - timedelta(microseconds=1))
    assert claimable(job, NOW + LEASE)
    taken = claim(job, "host:2", NOW + LEASE, LEASE)
    assert (taken.attempt, taken.failures, taken.worker) == (2, 1, "host:2")


def test_a_heartbeat_renews_the_lease_and_notes_progress():
    job = heartbeat(claim(QUEUED, "host:1", NOW, LEASE), NOW + LEASE / 2, LEASE, 0.25, "training 5/20")
    assert (job.lease_expires_at, job.progress, job.message) == (NOW + 1.5 * LEASE, 0.25, "training 5/20")
    assert not claimable(job, NOW + LEASE)


def test_too_many_dead_workers_fail_the_job_and_the_last_is_named():
    job = QUEUED
    for number in range(MAX_ATTEMPTS):
        job = claim(job, f"host:{number}", NOW + number * LEASE, LEASE)
        assert job.status is JobStatus.RUNNING
    job = claim(job, "host:9", NOW + 9 * LEASE, LEASE)
    assert job.status is JobStatus.FAILED
    assert job.finished_at == NOW + 9 * LEASE
    assert f"host:{MAX_ATTEMPTS - 1}" in job.message


def test_interruptions_do_not_count_as_failures():
    job = QUEUED
    for number in range(5 * MAX_ATTEMPTS):
        job = finish(claim(job, f"host:{number}", NOW, LEASE), JobStatus.QUEUED, NOW, "interrupted")
    assert (job.status, job.failures, job.finished_at, job.lease_expires_at) == (JobStatus.QUEUED, 0, None, None)
    assert claim(job, "host:x", NOW, LEASE).attempt == 5 * MAX_ATTEMPTS + 1


def test_success_completes_the_progress_and_failure_keeps_it():
    job = heartbeat(claim(QUEUED, "host:1", NOW, LEASE), NOW, LEASE, 0.5, "half")
    assert finish(job, JobStatus.SUCCEEDED, NOW).progress == 1.0
    failed = finish(job, JobStatus.FAILED, NOW + LEASE, "out of memory")
    assert (failed.progress, failed.message, failed.finished_at) == (0.5, "out of memory", NOW + LEASE)


def test_only_the_newest_attempt_at_a_running_job_may_write():
    job = claim(claim(QUEUED, "host:1", NOW, LEASE), "host:2", NOW + LEASE, LEASE)
    check_attempt(job, 2)
    with pytest.raises(StaleAttempt, match="attempt 1 at job job_1 lost its lease"):
        check_attempt(job, 1)
    with pytest.raises(StaleAttempt):
        check_attempt(finish(job, JobStatus.SUCCEEDED, NOW), 2)
