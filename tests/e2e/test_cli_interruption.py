"""Trainings that are killed, interrupted or left to the background, in real processes."""

import signal
import sqlite3
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest
import torch
from fixtures_pipelines import save_pipeline
from shell import PATH, SETTINGS, THREADS, Shell, prepare, train, weights_of

from packshot.bootstrap import DATABASE, code_revision

STEPS = 80
CHECKPOINTS = ("--set", "checkpoint_every_steps=10")
LEASE = {"PACKSHOT_LEASE_S": "1"}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_pipeline(folder / "base")
    return folder


@pytest.fixture
def ready(new_shell, tmp_path):
    shell = new_shell(**LEASE)
    prepare(shell, tmp_path)
    return shell


@pytest.fixture(scope="module")
def uninterrupted(models: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the weights of the same training in another workspace, left in peace."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    other = Shell(folder / "workspace", {"PACKSHOT_HOME": str(folder / "workspace"), **THREADS, **LEASE})
    other("init")
    prepare(other, folder)
    train(other, models, *CHECKPOINTS, steps=STEPS)
    return weights_of(other)


def in_the_middle(shell, process: "subprocess.Popen[str]") -> None:
    """Wait until a checkpoint is there; fail when the process ends before."""
    pause = threading.Event()
    while not list((shell.home / "runs").rglob("step-*")):
        assert process.poll() is None, process.communicate()
        pause.wait(0.005)


def jobs(shell) -> list[tuple[str, int]]:
    from packshot.domain.jobs import Job
    from packshot.storage.records import SqlRecords

    with SqlRecords.open(shell.home / "packshot.db") as records:
        return [(job.status.value, job.attempt) for job in records.find(Job)]


def test_a_training_killed_in_the_middle_goes_on_to_the_same_weights(ready, models, uninterrupted):
    process = train(ready, models, *CHECKPOINTS, steps=STEPS, run=ready.start)
    in_the_middle(ready, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert jobs(ready) == [("running", 1)]
    again = train(ready, models, *CHECKPOINTS, steps=STEPS)
    assert "going on with run" in again.err
    assert jobs(ready) == [("succeeded", 2)]
    assert weights_of(ready) == uninterrupted


def test_a_run_that_goes_on_under_other_code_says_so(ready, models):
    process = train(ready, models, *CHECKPOINTS, steps=STEPS, run=ready.start)
    in_the_middle(ready, process)
    process.send_signal(signal.SIGINT)
    process.communicate()
    with closing(sqlite3.connect(ready.home / DATABASE)) as database, database:
        database.execute("UPDATE training_run SET code_revision = '0.0.9'")
    again = train(ready, models, *CHECKPOINTS, steps=STEPS)
    assert f"planned by code 0.0.9, under code {code_revision()}: its weights may differ" in again.err
    assert f"by code 0.0.9, finished by other code, {code_revision()}" in ready("show", PATH).out


def test_ctrl_c_leaves_a_run_that_any_worker_takes_on_to_the_same_weights(ready, models, uninterrupted):
    process = train(ready, models, *CHECKPOINTS, steps=STEPS, run=ready.start)
    in_the_middle(ready, process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "interrupted: " in err
    assert "Traceback" not in err
    assert jobs(ready) == [("queued", 1)]
    (done,) = ready("worker", "--json").json
    assert (done["status"], done["attempt"]) == ("succeeded", 2)
    assert weights_of(ready) == uninterrupted
    assert ready("worker").out == "no job waits\n"


def test_a_detached_training_runs_in_the_background(ready, models):
    started = train(ready, models, "--detach", "--json").json
    assert set(started) == {"job_id", "run_id"}
    pause = threading.Event()
    while jobs(ready)[0][0] in {"queued", "running"}:
        pause.wait(0.1)
    assert jobs(ready) == [("succeeded", 1)]
    assert ready("show", PATH, "--json").json["run"]["id"] == started["run_id"]


def test_a_base_that_changed_since_fails_the_job_with_its_cause(ready, tmp_path):
    base = save_pipeline(tmp_path / "base")
    process = ready.start("train", PATH, "--base", base, "--steps", STEPS, *SETTINGS, *CHECKPOINTS)
    in_the_middle(ready, process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert jobs(ready) == [("queued", 1)]
    (base / "scheduler" / "scheduler_config.json").write_text("{}")
    (failed,) = ready("worker", "--json", code=1).json
    assert failed["status"] == "failed"
    assert str(base) in failed["message"]
    assert list((ready.home / "runs").iterdir()) == []
