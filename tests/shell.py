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
from photos import save_photo

PATH = "produce/apple/fuji"
QUICK = ["batch_size=2", "rank=2", "num_class_images=2", "class_inference_steps=2", "checkpoint_every_steps=2"]
SETTINGS = [argument for value in QUICK for argument in ("--set", value)]
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


def prepare(shell, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir(exist_ok=True)
    for seed in range(8):
        save_photo(folder / f"{seed}.png", seed)
    shell("category", "add", PATH, "--class-noun", "apple")
    shell("references", "add", PATH, folder, "--source", "our studio", "--license", "CC0-1.0")
    shell("references", "freeze", PATH)


def train(shell, models: Path, *more: object, steps: int = 3, run: Callable | None = None):
    arguments = ["train", PATH, "--base", models / "base", "--steps", steps, *SETTINGS, *more]
    return (run or shell)(*arguments)


def weights_of(shell, version: int = 1) -> str:
    artifacts = shell("show", f"{PATH}@{version}", "--json").json["fine_tune"]["artifacts"]
    return next(each["sha256"] for each in artifacts if each["name"] == "weights.safetensors")
