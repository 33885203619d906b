"""Processes that share one SQLite file: quick versions of faults 6 (queue) and 7 (one identifier, many creators)."""

from datetime import UTC, datetime
from pathlib import Path

from queue_processes import CREATOR, QUEUE_WORKER, SPELLINGS, run_processes

from packshot.domain.catalog import Category
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.storage.records import SqlRecords

NUM_JOBS = 200
NUM_PROCESSES = 4
NUM_THREADS = 8
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_each_job_runs_once(tmp_path: Path) -> None:
    database = tmp_path / "packshot.db"
    names = [f"job-{number}" for number in range(NUM_JOBS)]
    with SqlRecords.create(database) as records:
        records.add(*(Job(id=name, kind=JobKind.TRAINING, subject_id="run", created_at=NOW) for name in names))
        done = run_processes(QUEUE_WORKER, database, ["go"] * NUM_PROCESSES)
        assert sorted(name for each in done for name in each) == sorted(names)
        finished = records.find(Job)
    assert {(job.status, job.attempt, job.failures) for job in finished} == {(JobStatus.SUCCEEDED, 1, 0)}


def test_one_creator_of_an_identifier_wins(tmp_path: Path) -> None:
    database = tmp_path / "packshot.db"
    wishes = [(number, SPELLINGS[number % len(SPELLINGS)]) for number in range(NUM_PROCESSES * NUM_THREADS)]
    with SqlRecords.create(database) as records:
        shares = [wishes[start::NUM_PROCESSES] for start in range(NUM_PROCESSES)]
        outcomes = [outcome for each in run_processes(CREATOR, database, shares) for outcome in each]
        assert sorted(outcomes) == ["IdentifierTaken"] * (len(wishes) - 1) + ["won"]
        assert len(records.find(Category)) == 1
