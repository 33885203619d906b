"""What the executors must do: see to it that a worker gets the job's id."""

import re
import sys
import time
from pathlib import Path

import pytest
from fakes import InlineExecutor

from packshot.domain.errors import InvalidInput, WorkspaceUnusable
from packshot.domain.jobs import JobKind
from packshot.execution.local import LocalProcesses

WORKER = """
import os, sys
own_session = os.getsid(0) == os.getpid()
print("worked on", sys.argv[1:], "as", os.environ["WHO"], "in a session of its own:", own_session, flush=True)
print("trouble", file=sys.stderr, flush=True)
"""


def wait_for(log: Path, text: str) -> str:
    for _ in range(1000):
        if log.exists() and text in log.read_text():
            return log.read_text()
        time.sleep(0.02)
    raise AssertionError(f"{text!r} never came to {log}")


def test_inline_runs_the_job_at_once() -> None:
    ran: list[str] = []
    executor = InlineExecutor(ran.append)
    assert executor.start(JobKind.TRAINING, "job-1") == "this process"
    assert ran == ["job-1"]
    assert executor.started == [(JobKind.TRAINING, "job-1")]


def test_a_local_process_gets_job_environment_and_log(tmp_path: Path) -> None:
    executor = LocalProcesses([sys.executable, "-c", WORKER], tmp_path / "logs", {"WHO": "a test"})
    where = executor.start(JobKind.TRAINING, "job-1")
    log = tmp_path / "logs" / "training-job-1.log"
    assert re.fullmatch(rf"process \d+ \(log {re.escape(str(log))}\)", where)
    written = wait_for(log, "trouble")
    assert "worked on ['--job', 'job-1'] as a test in a session of its own: True" in written


def test_a_second_attempt_appends_to_the_log(tmp_path: Path) -> None:
    executor = LocalProcesses([sys.executable, "-c", WORKER], tmp_path, {"WHO": "a test"})
    log = tmp_path / "training-job-1.log"
    for count in (1, 2):
        executor.start(JobKind.TRAINING, "job-1")
        written = wait_for(log, "trouble\n" if count == 1 else "trouble\nworked")
    assert "worked" in written


@pytest.mark.parametrize("job_id", ["../job", "", "a/b", "a\0b", "-x\n"])
def test_a_strange_id_is_refused(tmp_path: Path, job_id: str) -> None:
    executor = LocalProcesses([sys.executable, "-c", WORKER], tmp_path / "logs", {})
    with pytest.raises(InvalidInput):
        executor.start(JobKind.TRAINING, job_id)
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_does_not_exist_is_reported(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceUnusable, match="packshot worker"):
        LocalProcesses([str(tmp_path / "nothing")], tmp_path, {}).start(JobKind.TRAINING, "job-1")
