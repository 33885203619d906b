"""A PostgreSQL server for tests: the one that PACKSHOT_TEST_POSTGRES names, or a throw-away one of this machine's programs.

The variable is a URL whose user may make databases. Without it, and without the server's programs, there is none.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import psycopg

VARIABLE = "PACKSHOT_TEST_POSTGRES"
MISSING = f"no PostgreSQL: install Debian's postgresql, or set {VARIABLE} to a URL"


@contextmanager
def server() -> Iterator[str | None]:
    """The URL of a server as long as the context lasts; None where there is none."""
    if url := os.environ.get(VARIABLE):
        yield url
        return
    programs = _programs()
    if programs is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as folder:  # a socket's path is 107 bytes long at most
        home = Path(folder)
        if os.geteuid() == 0:
            shutil.chown(home, "postgres")
        data = str(home / "data")
        _run(programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        options = f"-k {home} -c listen_addresses='' -c fsync=off -c max_connections=300 -c shared_buffers=32MB"
        start = ("-D", data, "-w", "-t", "60", "-l", str(home / "log"), "-o", options)
        _run(programs / "pg_ctl", *start, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={quote(str(home), safe='')}"
        finally:
            _run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")


@contextmanager
def database(server_url: str) -> Iterator[str]:
    """The URL of a new empty database, which is dropped afterwards."""
    name = f"packshot_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    try:
        yield with_name(server_url, name)
    finally:
        with psycopg.connect(server_url, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def with_name(server_url: str, name: str) -> str:
    """The URL of that server's database ``name``."""
    head, _, query = server_url.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


def name_in(url: str) -> str:
    """The name of the database that ``url`` leads to."""
    return url.partition("?")[0].rpartition("/")[2]


def _programs() -> Path | None:
    """The folder of the newest server that is installed; Debian does not put it on the path."""
    found = [Path(each).parent for each in [shutil.which("initdb")] if each]
    return max([*Path("/usr/lib/postgresql").glob("*/bin"), *found], default=None)


def _run(*command: object) -> None:
    # The server refuses to run as root.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*user, *map(str, command)],
        cwd="/",
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
