"""Workspaces of their own for the command line."""

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
