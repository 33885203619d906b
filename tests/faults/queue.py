"""Fault tests 5, 6, 7 and 25: dead workers, many processes at one queue and at one identifier, a flood of one team."""

import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import postgres
from api import platform_in
from queue_processes import CREATOR, DOOMED_WORKER, QUEUE_WORKER, SPELLINGS, run_processes

from faults.registry import Check, Setting, fault
from packshot.domain.catalog import Category
from packshot.domain.jobs import MAX_ATTEMPTS, Job, JobKind, JobStatus
from packshot.services.jobs import work_on_one
from packshot.services.limits import set_quota
from packshot.services.models import register_base
from packshot.storage.records import SqlRecords

LEASE_S = 1.0
MOST_S = LEASE_S + 5


@fault(5, "dead workers", passes="reclaimed within lease + 5 s; after 3 attempts failed, with its cause")
def dead_workers(setting: Setting) -> list[Check]:
    """Workers that are killed while they hold a job, until it is given up."""
    waits: list[float] = []
    given_up: list[Job] = []
    num_jobs = 1 if setting.quick else 30
    for number in range(num_jobs):
        database = setting.workdir / f"{number}.db"
        with SqlRecords.create(database) as records:
            records.add(_job(f"job-{number}"))
            waits += _kill_each(database)
            given_up.append(_end_of(records, f"job-{number}"))
    causes = [job for job in given_up if job.status is JobStatus.FAILED and "3 workers died on it" in job.message]
    return [
        Check(
            label=f"taken over within {MOST_S:g} s of the kill",
            cases=len(waits),
            passed=sum(wait <= MOST_S for wait in waits),
            note=f"at most {max(waits):.1f} s with a lease of {LEASE_S:g} s",
        ),
        Check(label="failed after 3 attempts, with the cause", cases=num_jobs, passed=len(causes)),
    ]


def _kill_each(database: Path) -> list[float]:
    """Kill whichever worker has the job, until none is left; seconds from each kill to the next attempt."""
    waits: list[float] = []
    killed: float | None = None
    with ExitStack() as all_workers:
        workers = [all_workers.enter_context(_doomed(database)) for _ in range(MAX_ATTEMPTS)]
        for attempt in range(1, MAX_ATTEMPTS + 1):
            (told, *_), _, _ = select.select([worker.stdout for worker in workers], [], [], 60)
            assert int(told.readline()) == attempt
            if killed is not None:
                waits.append(time.monotonic() - killed)
            (holder,) = (worker for worker in workers if worker.stdout is told)
            holder.kill()
            killed = time.monotonic()
            workers.remove(holder)
    return waits


@contextmanager
def _doomed(database: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", DOOMED_WORKER, str(database), str(LEASE_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process
        finally:
            process.kill()


def _end_of(records: SqlRecords, job_id: str) -> Job:
    deadline = time.monotonic() + MOST_S
    while not (job := records.get(Job, job_id)).finished and time.monotonic() < deadline:
        work_on_one(records, {})
        time.sleep(0.05)
    return job


def _job(name: str) -> Job:
    return Job(id=name, kind=JobKind.TRAINING, subject_id="run", created_at=datetime.now(UTC))


@fault(6, "queue", passes="each job runs once; no locked error")
def queue(setting: Setting) -> list[Check]:
    """Processes that claim and finish jobs of one database as fast as they can; their errors fail the test."""
    num_jobs, num_processes = (300, 4) if setting.quick else (10_000, 16)
    with _databases(setting.workdir) as databases:
        return [
            check for name, where in databases.items() for check in _run_each_once(name, where, num_jobs, num_processes)
        ]


@contextmanager
def _databases(workdir: Path) -> Iterator[dict[str, str]]:
    """A new SQLite file, and a new PostgreSQL database where there is a server."""
    found = {"SQLite": str(workdir / "queue.db")}
    with postgres.server() as server:
        if server is None:
            yield found
            return
        with postgres.database(server) as url:
            yield found | {"PostgreSQL": url}


def _run_each_once(name: str, database: str, num_jobs: int, num_processes: int) -> list[Check]:
    names = [f"job-{number}" for number in range(num_jobs)]
    with SqlRecords.create(database) as records:
        records.add(*map(_job, names))
        done = run_processes(QUEUE_WORKER, database, ["go"] * num_processes)
        jobs = records.find(Job)
    runs = Counter(job for each in done for job in each)
    ended = [job for job in jobs if (job.status, job.attempt, job.failures) == (JobStatus.SUCCEEDED, 1, 0)]
    return [
        Check(
            label=f"run once by {num_processes} processes, {name}",
            cases=num_jobs,
            passed=sum(runs[job] == 1 for job in names),
            failures=[f"{job} ran {count} times" for job, count in runs.items() if count != 1],
            note=f"{min(map(len, done))} to {max(map(len, done))} each",
        ),
        Check(label=f"recorded as succeeded at the first attempt, {name}", cases=num_jobs, passed=len(ended)),
    ]


@fault(7, "one identifier", passes="of 64 creators of look-alikes exactly one wins, the others get a conflict")
def one_identifier(setting: Setting) -> list[Check]:
    """Threads of several processes that create look-alikes at the same moment."""
    num_rounds, num_processes = (1, 4) if setting.quick else (20, 8)
    wishes = [(number, SPELLINGS[number % len(SPELLINGS)]) for number in range(64)]
    failures: list[str] = []
    for number in range(num_rounds):
        database = setting.workdir / f"identifiers-{number}.db"
        with SqlRecords.create(database) as records:
            shares = [wishes[start::num_processes] for start in range(num_processes)]
            outcomes = Counter(each for told in run_processes(CREATOR, database, shares) for each in told)
            if outcomes != {"won": 1, "IdentifierTaken": 63} or len(records.find(Category)) != 1:
                failures.append(str(outcomes))
    return [
        Check(
            label=f"one winner of 64 in {num_processes} processes",
            cases=num_rounds,
            passed=num_rounds - len(failures),
            failures=failures,
        )
    ]


@fault(25, "flood", passes="another team's job starts within one round; 429 with Retry-After at the quota")
def flood(setting: Setting) -> list[Check]:
    """One team queues as many generations as it may and goes on asking; then another asks for one."""
    num_jobs, num_more = (50 if setting.quick else 10_000), 20
    for platform in platform_in(setting.workdir, requests_per_minute=1_000_000):
        records = platform.space.records
        register_base(records, platform.space.bases.describe("embedded"))
        set_quota(records, "acme", requests_per_minute=None, max_unfinished_jobs=num_jobs)

        def ask(team: str, seed: int, platform=platform):  # type: ignore[no-untyped-def]
            headers = platform.key("generate", team=team)
            return platform.client.post("/v1/generations", json={"prompt": "plain", "seed": seed}, headers=headers)

        accepted = [ask("acme", seed).status_code for seed in range(num_jobs)]
        refused = [ask("acme", seed) for seed in range(num_more)]
        assert work_on_one(records, platform.space.handlers)
        mine = ask("rival", 0).json()["id"]
        round_ = [work_on_one(records, platform.space.handlers) for _ in range(2)]
    return [
        Check(label="accepted up to the quota", cases=num_jobs, passed=accepted.count(202)),
        Check(
            label="429 with Retry-After beyond it",
            cases=num_more,
            passed=sum(each.status_code == 429 and int(each.headers["retry-after"]) > 0 for each in refused),
        ),
        Check(
            label="the other team's job is among the next two",
            cases=1,
            passed=sum(job is not None and job.subject_id == mine for job in round_),
        ),
    ]
