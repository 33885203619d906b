"""Real processes that stay until the pool is left."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from packshot.domain.errors import WorkspaceUnusable
from packshot.execution import pool
from packshot.execution.pool import WorkerPool

OBEDIENT = "import os, signal, sys; open(os.environ['FOLDER'] + f'/{os.getpid()}', 'w').close(); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + OBEDIENT
PAUSE = threading.Event()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pids"
    folder.mkdir()
    return folder


def workers(folder: Path, num_workers: int, program: str = OBEDIENT) -> WorkerPool:
    command = [sys.executable, "-c", program]
    return WorkerPool(command, num_workers, folder.parent / "logs" / "workers.log", {"FOLDER": str(folder)})


def started(folder: Path, count: int) -> set[int]:
    """The ids of the workers once so many have started."""
    while len(list(folder.iterdir())) < count:
        PAUSE.wait(0.02)
    return {int(file.name) for file in folder.iterdir()}


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        PAUSE.wait(0.02)


def test_workers_live_as_long_as_the_pool(folder):
    with workers(folder, 2):
        processes = started(folder, 2)
        assert all(alive(process) for process in processes)
        assert all(os.getsid(process) == process for process in processes)  # Ctrl-C does not reach them
    assert not any(alive(process) for process in processes)
    assert len(list(folder.iterdir())) == 2


def test_a_worker_that_dies_is_replaced(folder, monkeypatch):
    monkeypatch.setattr(pool, "RESTART_PAUSE_S", 0.01)
    with workers(folder, 1):
        (first,) = started(folder, 1)
        os.kill(first, signal.SIGKILL)
        (second,) = started(folder, 2) - {first}
        assert alive(second)
    until(lambda: not alive(second))


def test_a_worker_that_does_not_stop_is_killed(folder, monkeypatch):
    monkeypatch.setattr(pool, "GRACE_S", 0.05)
    with workers(folder, 1, STUBBORN):
        (process,) = started(folder, 1)
    assert not alive(process)


def test_a_pool_without_workers_starts_none(folder):
    with workers(folder, 0):
        assert list(folder.iterdir()) == []


def test_a_worker_that_cannot_be_started_is_reported(tmp_path):
    with (
        pytest.raises(WorkspaceUnusable, match="cannot start a worker"),
        WorkerPool([str(tmp_path / "nothing")], 1, tmp_path / "log", {}),
    ):
        pass
