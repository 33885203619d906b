"""The command line on a workspace of its own: in this process where torch is needed (it loads once), or in another."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

THREADS = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """Commands in one workspace. A command that ends otherwise than expected fails the test with its output."""

    home: Path
    env: dict[str, str]

    def __call__(self, *arguments: object, code: int = 0) -> Result:
        """Run in this process."""
        from packshot.cli import main

        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            for name, value in self.env.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["packshot", *map(str, arguments)])
            patch.chdir(self.home.parent)
            try:
                main()
                ended: object = 0
            except SystemExit as exit_:
                ended = exit_.code or 0
        assert ended == code, f"packshot {arguments} ended with {ended}\n{out.getvalue()}\n{err.getvalue()}"
        return Result(code, out.getvalue(), err.getvalue())

    def start(self, *arguments: object) -> "subprocess.Popen[str]":
        """Run in another process, without waiting for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "packshot", *map(str, arguments)],
            env={**os.environ, **self.env},
            cwd=self.home.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stored(self) -> dict[str, Any]:
        """Every row of every table, and the name of every blob."""
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(self.home / "packshot.db")) as database:
            names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
            rows = {name: database.execute(f"select * from {name}").fetchall() for name in sorted(names)}
        blobs = sorted(path.name for path in (self.home / "blobs").rglob("*") if path.is_file())
        return {**rows, "blobs": blobs}


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
