"""Folders of reference photos that pass the curation, and databases of a PostgreSQL server."""

from collections.abc import Callable, Iterator
from pathlib import Path

import postgres
import psycopg
import pytest
from photos import RED, save_photo

from packshot.storage.records import SqlRecords
from packshot.storage.tables import metadata

PhotoFolder = Callable[..., Path]


@pytest.fixture
def photo_folder(tmp_path: Path) -> PhotoFolder:
    """A function that makes a folder of ``count`` good photos, the first with seed ``start``."""

    def make(
        count: int, *, name: str = "photos", colour: tuple[int, int, int] = RED, start: int = 0, suffix: str = ".png"
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        for seed in range(start, start + count):
            save_photo(folder / f"{seed:02}{suffix}", seed, colour)
        return folder

    return make


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a PostgreSQL server; the test is skipped where there is none."""
    with postgres.server() as url:
        if url is None:
            pytest.skip(postgres.MISSING)
        yield url


@pytest.fixture(scope="session")
def postgres_workspace(postgres_server: str) -> Iterator[str]:
    """The URL of a database with the tables of a workspace."""
    with postgres.database(postgres_server) as url:
        SqlRecords.create(url).close()
        yield url


@pytest.fixture
def postgres_database(postgres_workspace: str) -> Iterator[str]:
    """The URL of a database with an empty workspace, which is emptied again afterwards."""
    yield postgres_workspace
    with psycopg.connect(postgres_workspace) as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(f"DELETE FROM {table.name}")
