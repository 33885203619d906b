"""Programs of processes that share one database, and a way to let several go at once."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

QUEUE_WORKER = """
import json, os, sys
from datetime import UTC, datetime, timedelta
from packshot.domain import jobs
from packshot.storage.records import SqlRecords

records = SqlRecords.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
done = []
while (job := records.claim(str(os.getpid()), datetime.now(UTC), timedelta(minutes=10))) is not None:
    done.append(job.id)
    with records.transaction(fence=(job.id, job.attempt)):
        records.replace(jobs.finish(job, jobs.JobStatus.SUCCEEDED, datetime.now(UTC)))
records.close()
print(json.dumps(done))
"""

CREATOR = """
import json, sys, threading
from datetime import UTC, datetime
from packshot.domain.catalog import Category
from packshot.domain.errors import PackshotError
from packshot.storage.records import SqlRecords

records = SqlRecords.open(sys.argv[1])
outcomes = []

def create(number, identifier):
    try:
        path = f"produce/kind-{number}"
        records.add(Category(id=f"category-{number}", namespace="sks", path=path, class_noun="apple",
                             identifier=identifier, created_at=datetime.now(UTC)))
        outcomes.append("won")
    except PackshotError as error:
        outcomes.append(type(error).__name__)

print("ready", flush=True)
wishes = json.loads(sys.stdin.readline())
threads = [threading.Thread(target=create, args=wish) for wish in wishes]
for thread in threads: thread.start()
for thread in threads: thread.join()
records.close()
print(json.dumps(outcomes))
"""

DOOMED_WORKER = """
import sys, time
from datetime import timedelta
from packshot.domain.jobs import JobKind
from packshot.services.jobs import work_on_one
from packshot.storage.records import SqlRecords

def hang(job, report, stop):
    print(job.attempt, flush=True)
    time.sleep(3600)

records = SqlRecords.open(sys.argv[1])
lease = timedelta(seconds=float(sys.argv[2]))
while work_on_one(records, {JobKind.TRAINING: hang}, lease=lease) is None:
    time.sleep(0.05)
"""

SPELLINGS = (
    "sks_oil_iron_apple",
    "SKS_Oil_Iron_Apple",
    "ｓｋｓ_oil_iron_apple",
    "sks_oil_iron_аpple",
    "sks_οil_iron_apple",
    "sks_0il_ir0n_app1e",
    "sks_oıl_írοn_apple",
    "sks_oil_iron_app|e",
)


def run_processes(program: str, database: str | Path, lines: Sequence[object]) -> list[list[str]]:
    """Start one process per line, let all go at once; gives the list that each printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", program, str(database)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for _ in lines
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", process.communicate()[1]
    for process, line in zip(processes, lines, strict=True):
        assert process.stdin is not None
        process.stdin.write(json.dumps(line) + "\n")
        process.stdin.flush()
    printed = [process.communicate() for process in processes]
    assert [(process.returncode, errors) for process, (_, errors) in zip(processes, printed, strict=True)] == [
        (0, "")
    ] * len(lines)
    return [json.loads(output) for output, _ in printed]
