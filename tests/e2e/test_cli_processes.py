"""``packshot train`` in several processes, as accelerate's launcher and torchrun start them."""

import signal
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fixtures_pipelines import save_pipeline
from shell import PATH, SETTINGS, Shell, prepare, weights_of


@pytest.fixture
def ready(new_shell, tmp_path) -> Shell:
    save_pipeline(tmp_path / "base")
    shell = new_shell(PACKSHOT_LEASE_S="2")
    prepare(shell, tmp_path)
    return shell


def two(shell: Shell) -> list[Shell]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = {**shell.env, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [replace(shell, env={**launched, "RANK": rank, "LOCAL_RANK": rank}) for rank in ("0", "1")]


def test_a_launched_training_that_loses_a_process_goes_on_with_the_same_command(ready: Shell, tmp_path: Path) -> None:
    command = ["train", PATH, "--base", tmp_path / "base", *SETTINGS, "--steps", 40]
    leader, follower = (each.start(*command) for each in two(ready))
    pause = threading.Event()
    while not list((ready.home / "runs").rglob("step-*")):
        assert leader.poll() is None, leader.communicate()
        pause.wait(0.01)
    follower.send_signal(signal.SIGKILL)
    _, err = leader.communicate()
    follower.communicate()
    assert leader.returncode == 1
    assert "interrupted: another of the 2 processes of this training has ended" in err
    assert "Traceback" not in err
    (job,) = ready("job", "list", "--json").json
    assert job["status"] == "queued"

    assert "going on with run" in ready(*command).err
    assert weights_of(ready)


def test_launched_processes_end_when_the_training_is_done(ready: Shell, tmp_path: Path) -> None:
    command = ["train", PATH, "--base", tmp_path / "base", *SETTINGS, "--steps", 2, "--json"]
    leader, follower = (each.start(*command) for each in two(ready))
    out, err = leader.communicate()
    assert leader.returncode == 0, err
    assert '"version": 1' in out
    assert follower.communicate()[0] == ""
    assert follower.returncode == 0


def test_other_commands_are_refused_in_every_process(ready: Shell) -> None:
    for each in two(ready):
        assert "several processes were launched" in each("worker", code=2).err
