"""Files that are either whole or absent, whatever happens while they are written. Does not know what they hold."""

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path

from packshot.domain.errors import WorkspaceUnusable

TEMPORARY = ".writing-"


def write_file(path: Path, data: bytes) -> None:
    """Write ``path`` under a temporary name, and rename it when it is safely on the disk.

    Raises:
        WorkspaceUnusable: it cannot be written, for example because the disk is full; nothing is left behind.
    """
    temporary = path.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(temporary, data)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _unusable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; ``sync_file`` sees that it is on the disk.

    Raises:
        WorkspaceUnusable: it cannot be written.
    """
    try:
        with path.open("a") as file:
            file.write(line + "\n")
    except OSError as error:
        raise _unusable(path, error) from error


def sync_file(path: Path) -> None:
    """Wait until a file is on the disk.

    Raises:
        WorkspaceUnusable: it cannot be written.
    """
    try:
        with path.open("a") as file:
            os.fsync(file.fileno())
    except OSError as error:
        raise _unusable(path, error) from error


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``folder`` with ``files`` under a temporary name, and rename it when all of it is safely on the disk.

    A folder of that name which exists already, because another process was first, stays as it is.

    Raises:
        WorkspaceUnusable: it cannot be written, or reads back otherwise; nothing is left behind.
    """
    temporary = folder.parent / f"{TEMPORARY}{uuid.uuid4().hex}"
    try:
        temporary.mkdir(parents=True)
        for name, data in files.items():
            _write_synced(temporary / name, data)
            if (temporary / name).read_bytes() != data:
                raise OSError(f"{name} reads back otherwise than it was written")
        _sync_folder(temporary)
        if not folder.exists():
            _rename_unless_there(temporary, folder)
        _sync_folder(folder.parent)
    except OSError as error:
        raise _unusable(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename_unless_there(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        if not folder.exists():
            raise


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unusable(path: Path, error: OSError) -> WorkspaceUnusable:
    return WorkspaceUnusable(f"{path} could not be written ({error}); make room or mend the folder, then go on")
