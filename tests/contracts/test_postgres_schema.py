"""What SqlRecords.create and open do with databases of a PostgreSQL server."""

from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import postgres
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from at_once import at_once
from contracts.examples import EVERYTHING

from packshot.domain.catalog import Category
from packshot.domain.errors import InvalidInput, WorkspaceMissing, WorkspaceUnusable
from packshot.storage import schema
from packshot.storage.engine import make_engine
from packshot.storage.records import SqlRecords
from packshot.storage.schema import create_schema
from packshot.storage.tables import metadata

FIRST_ROWS = (
    "INSERT INTO category (id, namespace, path, class_noun, identifier, identifier_fold, created_at) VALUES "
    "('c1', 'sks', 'produce/corn', 'corn', 'sks_corn', 'sks_com', '2026-03-01T12:30:15.123457+00:00')"
)


@pytest.fixture
def database(postgres_server: str) -> Iterator[str]:
    with postgres.database(postgres_server) as url:
        yield url


def execute(url: str, statement: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement)


def differences(url: str) -> list[object]:
    engine = make_engine(url)
    with engine.connect() as connection:
        found = compare_metadata(MigrationContext.configure(connection), metadata)
    engine.dispose()
    return found


def test_several_may_make_the_tables_at_once(database: str) -> None:
    assert at_once(*[lambda: SqlRecords.create(database).close()] * 3) == [None] * 3
    assert differences(database) == []
    with SqlRecords.open(database) as records:
        records.add(*EVERYTHING)


def test_a_database_of_the_first_schema_is_brought_up_to_date(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = copytree(schema.MIGRATIONS, tmp_path / "older")
    for step in (older / "versions").glob("*.py"):
        if step.name[:4] > "0001":
            step.unlink()
    with monkeypatch.context() as then:
        then.setattr(schema, "MIGRATIONS", older)
        create_schema(engine := make_engine(database))
        engine.dispose()
    execute(database, FIRST_ROWS)
    with SqlRecords.open(database) as records:
        assert [each.identifier for each in records.find(Category)] == ["sks_corn"]
        records.add(*EVERYTHING)
    assert differences(database) == []


def test_an_empty_database_is_no_workspace(database: str) -> None:
    with pytest.raises(WorkspaceMissing, match="packshot init"):
        SqlRecords.open(database)


def test_the_database_of_another_program_is_left_alone(database: str) -> None:
    execute(database, "CREATE TABLE recipes (id TEXT)")
    with pytest.raises(WorkspaceUnusable, match="recipes"):
        SqlRecords.create(database)


def test_a_server_that_does_not_answer_is_told_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceUnusable, match=r"user:\*\*\*@.*does not answer") as caught:
        SqlRecords.open(f"postgresql://user:secret@/shop?host={tmp_path}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://user@host/shop", "://", "postgresql://host:door/shop"])
def test_what_is_no_database_for_records_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="postgresql://user@host/name"):
        SqlRecords.open(url)
