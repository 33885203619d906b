"""Servers as processes of their own. Breaks nothing."""

import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def server(home: Path, *, workers: int = 0, port: int = 0) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """``packshot serve`` on a workspace while the context lasts, and its address; its output goes to a file beside it."""
    command = [sys.executable, "-m", "packshot", "serve", "--port", str(port), "--workers", str(workers)]
    environment = {
        **os.environ,
        "PACKSHOT_HOME": str(home),
        "PACKSHOT_REQUESTS_PER_MINUTE": "1000000",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    reader: threading.Thread | None = None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if found := re.match(r"listening on (\S+) with", line):
                break
        else:
            raise AssertionError(f"the server ended with {process.wait()}: {said}")
        reader = threading.Thread(target=_keep, args=(process, home.parent / "servers.log"))
        reader.start()
        yield process, found[1]
    finally:
        process.terminate()
        process.wait()
        if reader:
            reader.join()


def _keep(process: "subprocess.Popen[str]", log: Path) -> None:
    """Read what it says, so that it never waits for a reader."""
    assert process.stderr
    with log.open("a") as file:
        file.writelines(process.stderr)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]
