"""Workspaces of their own for the command line."""

import re
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from databases import new_database
from shell import THREADS, Shell


@pytest.fixture
def new_shell(tmp_path: Path) -> Callable[..., Shell]:
    """A function that makes an initialised workspace."""

    def make(name: str = "workspace", **env: str) -> Shell:
        shell = Shell(tmp_path / name, {"PACKSHOT_HOME": str(tmp_path / name), **THREADS, **env})
        new_database(shell.home / "packshot.db")
        shell("init")
        return shell

    return make


@pytest.fixture
def shell(new_shell: Callable[..., Shell]) -> Shell:
    return new_shell()


class Server:
    """A started ``packshot serve`` and its address; what it says is read all the time, so that it never waits for a reader."""

    def __init__(self, shell: Shell, *arguments: str) -> None:
        self.process = shell.start("serve", "--port", "0", *arguments)
        self.said = ""
        assert self.process.stderr
        for line in self.process.stderr:
            self.said += line
            if found := re.match(r"listening on (\S+) with", line):
                self.url = found[1]
                break
        else:
            raise AssertionError(f"the server ended with {self.process.wait()}: {self.said}")
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def stop(self, number: signal.Signals) -> int:
        """Send it the signal and wait; its exit code."""
        with self.process:
            self.process.send_signal(number)
            self._reader.join()
        return self.process.returncode

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.said += line


@pytest.fixture
def serve(shell: Shell) -> Iterator[Callable[..., Server]]:
    """A function that starts a server."""
    started: list[Server] = []

    def start(*arguments: str) -> Server:
        started.append(Server(shell, *arguments))
        return started[-1]

    yield start
    for server in started:
        server.stop(signal.SIGKILL)
