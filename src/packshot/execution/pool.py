"""A fixed number of worker processes for as long as a server runs. Does not know what a worker does.

Jobs are in the database, so a worker that dies loses nothing: another one is started, and takes the job when its lease
has run out.
"""

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from packshot.domain.errors import WorkspaceUnusable

RESTART_PAUSE_S = 1.0
GRACE_S = 60.0


class WorkerPool:
    """Keeps ``num_workers`` processes of ``command`` alive while the context lasts; their output goes to ``log``."""

    def __init__(self, command: Sequence[str], num_workers: int, log: Path, env: Mapping[str, str]) -> None:
        self._command = tuple(command)
        self._log = log
        self._env = {**os.environ, **env}
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._keepers = [threading.Thread(target=self._keep, args=(number,)) for number in range(num_workers)]

    def __enter__(self) -> Self:
        """Start the workers.

        Raises:
            WorkspaceUnusable: the log file or a process cannot be made.
        """
        try:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            for number in range(len(self._keepers)):
                self._start(number)
        except OSError as error:
            self._stop()
            raise WorkspaceUnusable(f"cannot start a worker ({error})") from error
        for keeper in self._keepers:
            keeper.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Ask the workers to stop after their step, and wait; after GRACE_S they are killed, and lose that step."""
        self._ended.set()
        self._stop()
        for keeper in self._keepers:
            keeper.join()

    def _start(self, number: int) -> None:
        with self._lock, self._log.open("ab") as output:
            if self._ended.is_set():
                return
            # A session of its own: Ctrl-C at the terminal reaches the server alone, which then asks its workers once.
            self._processes[number] = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )

    def _keep(self, number: int) -> None:
        while not self._ended.is_set():
            self._processes[number].wait()
            if not self._ended.wait(RESTART_PAUSE_S):
                with suppress(OSError):  # no process or file to be had just now: try again after the next pause
                    self._start(number)

    def _stop(self) -> None:
        with self._lock:
            running = list(self._processes.values())
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
