"""Pages whose console blocks are real: every ``$ packshot …`` line is run, and what it prints is put below it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]

_DIGEST = re.compile(r"\b[0-9a-f]{12,64}\b")


def transcribed(page: str) -> str:
    """``page`` with the output of its commands as it is now; they run in order, in one new workspace, from the root."""
    lines: list[str] = []
    inside = False
    with TemporaryDirectory() as folder:
        _run("packshot init", Path(folder))
        for line in page.splitlines():
            if line.startswith("```"):
                inside = line == "```console"
            if not inside or line.startswith(("```", "$ ")):
                lines.append(line)
            if inside and line.startswith("$ "):
                lines += _run(line.removeprefix("$ "), Path(folder))
    return "\n".join([*lines, ""])


def same(page: str, other: str) -> bool:
    """Whether two pages are equal but for digests, which depend on the version of the PNG library."""
    return _DIGEST.sub("", page) == _DIGEST.sub("", other)


def _run(command: str, home: Path) -> list[str]:
    program, *arguments = shlex.split(command)
    assert program == "packshot", f"a page may run packshot alone, not {command!r}"
    done = subprocess.run(
        [sys.executable, "-m", "packshot", *arguments],
        cwd=ROOT,
        env={**os.environ, "PACKSHOT_HOME": str(home / "workspace")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stdout, done.stdout
    return [line.rstrip() for line in done.stdout.splitlines()]
