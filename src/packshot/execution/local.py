"""Implements Executor with processes on this machine. Does not know what a worker does with its job.

The job is in the database, so a process that cannot start or dies loses nothing: another worker takes the job.
"""

import os
import re
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from packshot.domain.errors import InvalidInput, WorkspaceUnusable
from packshot.domain.jobs import JobKind

_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+")


class LocalProcesses:
    """Starts one process per job: ``command --job ID``, with ``env`` added to this process's environment."""

    def __init__(self, command: Sequence[str], logdir: Path, env: Mapping[str, str]) -> None:
        self._command = tuple(command)
        self._logdir = logdir
        self._env = dict(env)

    def start(self, kind: JobKind, job_id: str) -> str:
        """Start a worker that outlives this process; its output goes to a log file that is appended to.

        Raises:
            InvalidInput: the id cannot be part of a file name.
            WorkspaceUnusable: the log file or the process cannot be made.
        """
        if not _FILE_NAME.fullmatch(job_id):
            raise InvalidInput(f"{job_id!r} is not a job id; ids consist of letters, digits, '_' and '-'")
        log = self._logdir / f"{kind.value}-{job_id}.log"
        try:
            self._logdir.mkdir(parents=True, exist_ok=True)
            with log.open("ab") as output:
                process = subprocess.Popen(
                    [*self._command, "--job", job_id],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **self._env},
                    start_new_session=True,
                )
        except OSError as error:
            raise WorkspaceUnusable(
                f"cannot start a worker for job {job_id} ({error}); the job waits, start one with: packshot worker"
            ) from error
        # Somebody must wait for a child, or it stays a zombie as long as a server runs.
        threading.Thread(target=process.wait, name=f"wait-{process.pid}", daemon=True).start()
        return f"process {process.pid} (log {log})"
