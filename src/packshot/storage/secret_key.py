"""The secret of a workspace: a file that only its owner reads. Does not know what is derived from it."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from packshot.domain.errors import WorkspaceUnusable

NUM_BYTES = 32


def read_secret_key(file: Path) -> bytes:
    """The bytes in ``file``; where it is missing, fresh random ones that are written to it, once for all processes.

    Raises:
        WorkspaceUnusable: it cannot be read or made, or has not NUM_BYTES.
    """
    try:
        if not file.exists():
            _make(file)
        key = file.read_bytes()
    except OSError as error:
        raise WorkspaceUnusable(f"{file} cannot be used ({error.strerror}); make it and its folder readable") from error
    if len(key) != NUM_BYTES:
        raise WorkspaceUnusable(f"{file} has {len(key)} bytes instead of {NUM_BYTES}; restore it from a backup")
    return key


def _make(file: Path) -> None:
    """Write another file and link it, so that nobody reads half a key, and the first of two processes wins."""
    mine = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(secrets.token_bytes(NUM_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
        with suppress(FileExistsError):
            os.link(mine, file)
    finally:
        mine.unlink()
