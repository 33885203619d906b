"""The sha256 of files, remembered while nothing about a file has changed. Does not know what the files hold."""

import hashlib
import json
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from packshot.domain.errors import WorkspaceUnusable

# A file that changed so shortly before it was hashed could change again and bear the same times: it is not remembered.
_SETTLED_NS = 2_000_000_000

_State = list[int]  # size, time of change of the content, time of change of the inode, inode


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class FileDigests:
    """Hashes a file again only when its size, times or inode are no longer those that were seen.

    ``memory`` is a JSON file that processes share; without it, this object alone remembers. Nothing but a disk that
    alters bytes by itself changes a file and keeps all four. ``now_ns`` is the clock of the file system.
    """

    def __init__(self, memory: Path | None = None, now_ns: Callable[[], int] = time.time_ns) -> None:
        self._memory = memory
        self._now_ns = now_ns
        self._known = self._read()

    def sha256(self, path: Path) -> str:
        """The sha256 of ``path``, in hexadecimal.

        Raises:
            WorkspaceUnusable: the memory cannot be written.
        """
        name, before = str(path.absolute()), _state(path)
        if name in self._known and self._known[name][0] == before:
            return self._known[name][1]
        settled = self._now_ns() - max(before[1], before[2]) > _SETTLED_NS
        digest = sha256_of(path)
        if settled and _state(path) == before:
            self._known[name] = before, digest
            self._write()
        return digest

    def _read(self) -> dict[str, tuple[_State, str]]:
        """What is remembered; nothing where the memory is damaged, since all of it can be had anew."""
        try:
            entries = json.loads(self._memory.read_bytes()) if self._memory else {}
            return {str(name): (list(map(int, state)), str(digest)) for name, (state, digest) in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _write(self) -> None:
        if self._memory is None:
            return
        entries = {name: entry for name, entry in {**self._read(), **self._known}.items() if Path(name).exists()}
        temporary = self._memory.parent / f".{self._memory.name}-{uuid.uuid4().hex}"
        try:
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(entries, indent=0))
            temporary.replace(self._memory)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise WorkspaceUnusable(f"{self._memory} could not be written ({error}); make room, then go on") from error


def _state(path: Path) -> _State:
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
