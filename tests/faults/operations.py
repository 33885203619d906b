"""Kills a process at a chosen one of the operations that change files. Does not know what the files are for.

Counted are opening for writing, making, renaming and removing files and folders, and, before, in the middle and after,
writing and syncing.
"""

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

_WRITES = os.O_WRONLY | os.O_RDWR
_EVENTS = {"os.mkdir": "mkdir", "os.rename": "rename", "os.remove": "remove", "os.rmdir": "rmdir"}


class Operations:
    """Those between the reports of step ``since`` and of the next; the process dies before number ``deadly``.

    Without ``deadly`` they are only told.
    """

    def __init__(self, *, since: int, deadly: int | None = None) -> None:
        self._since = since
        self._deadly = deadly
        self._counts = False
        self._number = 0
        self._tell: Callable[[str], None] = lambda _: None

    def install(self, tell: Callable[[str], None]) -> None:
        """Watch this process from now on; it can never be undone."""
        self._tell = tell
        real_open, real_sync = io.open, os.fsync

        def open_file(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            opened = real_open(file, mode, *arguments, **options)
            return _Torn(opened, self, Path(file).name) if self._counts and "r" not in mode else opened

        def sync(handle: int) -> None:
            self.reach("before fsync")
            real_sync(handle)
            self.reach("after fsync")

        io.open, os.fsync = open_file, sync
        sys.addaudithook(self._audited)

    def at(self, step: int) -> None:
        """Count from the report of step ``since`` to the next."""
        self._counts = step == self._since

    def reach(self, what: str) -> bool:
        """Die here, or go on; True where the write that follows is to be torn first."""
        if not self._counts:
            return False
        number, self._number = self._number, self._number + 1
        self._tell(what)
        if number == self._deadly and not what.startswith("in the middle"):
            die()
        return number == self._deadly

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._counts:
            return
        if event in _EVENTS:
            self.reach(f"{_EVENTS[event]} {_name(arguments[0])}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            self.reach(f"open {_name(arguments[0])}")


class _Torn:
    """A file whose writes can be cut off."""

    def __init__(self, file: Any, operations: Operations, name: str) -> None:
        self._file, self._operations, self._name = file, operations, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "_Torn":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: Any) -> int:
        self._operations.reach(f"before write {self._name}")
        if self._operations.reach(f"in the middle of write {self._name}"):
            self._file.write(data[: len(data) // 2])
            self._file.flush()
            die()
        written = self._file.write(data)
        self._operations.reach(f"after write {self._name}")
        return written


def die() -> NoReturn:
    """End this process as a lost machine would."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("signal 9 was survived")


def _name(path: Any) -> str:
    return Path(os.fsdecode(path)).name if isinstance(path, (str, bytes, os.PathLike)) else str(path)
