"""New SQLite databases as copies of one that all migrations have run on once."""

import tempfile
from functools import cache
from pathlib import Path

from packshot.storage.records import SqlRecords


def new_database(file: Path) -> Path:
    """Write a database with an empty workspace to ``file``, unless there is one; its folder may not exist yet."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_migrated())
    return file


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "packshot.db"
        SqlRecords.create(file).close()
        return file.read_bytes()
