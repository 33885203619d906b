"""Folders of reference photos that pass the curation, databases of a PostgreSQL server, and what spares all tests time."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import postgres
import psycopg
import pytest
from hypothesis import settings
from photos import RED, save_photo

from packshot.imaging.plots import loss_plot
from packshot.storage.records import SqlRecords
from packshot.storage.tables import metadata

PhotoFolder = Callable[..., Path]
MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 4 * 2**30


def pytest_configure() -> None:
    """Keep temporary files in memory where there is room, for every commit and every blob waits for a disk; time no test."""
    settings.register_profile("untimed", deadline=None)
    settings.load_profile("untimed")
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= ENOUGH_BYTES:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # it is asked for anew


@pytest.fixture(autouse=True, scope="session")
def equal_curves_are_drawn_once() -> Iterator[None]:
    """Most trainings here have the same losses, and a plot takes a third of a second."""
    drawn: dict[str, bytes] = {}

    def plot(metrics: Sequence[Mapping[str, float]], title: str = "") -> bytes:
        key = json.dumps([[dict(row) for row in metrics], title])
        if key not in drawn:
            drawn[key] = loss_plot(metrics, title)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("packshot.services.training.loss_plot", plot)
        yield


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
