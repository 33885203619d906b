"""Workspaces of their own for the command line."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from shell import THREADS, Shell


@pytest.fixture
def new_shell(tmp_path: Path) -> Callable[..., Shell]:
    """A function that makes an initialised workspace."""

    def make(name: str = "workspace", **env: str) -> Shell:
        shell = Shell(tmp_path / name, {"PACKSHOT_HOME": str(tmp_path / name), **THREADS, **env})
        shell("init")
        return shell

    return make


@pytest.fixture
def shell(new_shell: Callable[..., Shell]) -> Shell:
    return new_shell()


@pytest.fixture
def serve(shell):
    """A function that starts a server and gives its process and address."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple["subprocess.Popen[str]", str]:
        process = shell.start("serve", "--port", "0", *arguments)
        started.append(process)
        assert process.stderr
        for line in process.stderr:
            if found := re.match(r"listening on (\S+) with", line):
                return process, found[1]
        raise AssertionError(f"the server ended with {process.wait()}")

    yield start
    for process in started:
        process.kill()
        process.communicate()
