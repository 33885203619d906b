"""What SqlRecords.create and open do with databases of every age, and with files that are none."""

import shutil
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from contracts.examples import (
    BARE_GENERATION,
    CATEGORY,
    COMPOSED_GENERATION,
    COMPRESSED,
    EVENT,
    EVERYTHING,
    FINE_TUNE,
    FOREIGN_GENERATION,
    FOREIGN_IMAGE,
    GENERATION,
    IMPORTED,
    JOB,
    RUN,
)

from packshot.domain.access import AuditEntry, Quota
from packshot.domain.batches import Batch, BatchItem, ItemFailure
from packshot.domain.catalog import Category
from packshot.domain.engine_work import EngineWork
from packshot.domain.errors import IdentifierTaken, NotFound, WorkspaceMissing, WorkspaceUnusable
from packshot.domain.evaluation import EvaluationRun
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job
from packshot.domain.models import FineTune
from packshot.domain.templates import Template
from packshot.domain.usage import Usage
from packshot.domain.webhooks import Delivery, Webhook
from packshot.ports import Record
from packshot.storage import schema
from packshot.storage.engine import make_engine
from packshot.storage.records import SqlRecords
from packshot.storage.schema import create_schema
from packshot.storage.tables import metadata

NEXT_STEP = """
from alembic import op
import sqlalchemy as sa
revision = "9001"
down_revision = "{before}"

def upgrade():
    op.add_column("category", sa.Column("note", sa.Text()))
    op.execute("{statement}")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "packshot.db"


def execute(file: Path, statement: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(file)) as connection, connection:
        return connection.execute(statement).fetchall()


def next_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str) -> None:
    """Make the program one schema newer, with a step that also runs ``statement``."""
    newer = tmp_path / "100% newer"
    shutil.copytree(schema.MIGRATIONS, newer, ignore=shutil.ignore_patterns("__pycache__"))
    (newer / "versions" / "9001_next.py").write_text(
        NEXT_STEP.format(before=schema.SCHEMA_REVISION, statement=statement)
    )
    monkeypatch.setattr(schema, "MIGRATIONS", newer)
    monkeypatch.setattr(schema, "SCHEMA_REVISION", "9001")


def test_the_migrations_make_the_tables(file: Path) -> None:
    engine = make_engine(file)
    create_schema(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()
    assert execute(file, "SELECT version_num FROM alembic_version") == [(schema.SCHEMA_REVISION,)]


def test_the_database_is_set_up_for_many_processes(file: Path) -> None:
    engine = make_engine(file)
    create_schema(engine)
    with engine.connect() as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas]
    engine.dispose()
    assert values == ["wal", 2, 1, 30_000]


def test_creating_twice_keeps_everything(file: Path) -> None:
    for _ in range(2):
        with SqlRecords.create(file) as records:
            if not records.find(Category):
                records.add(*EVERYTHING)
            assert records.find(Category) == [CATEGORY]


def test_two_may_create_at_once(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "packshot.db"
    barrier = threading.Barrier(4)
    raised: list[Exception] = []

    def create() -> None:
        barrier.wait()
        try:
            SqlRecords.create(file).close()
        except Exception as error:  # noqa: BLE001 reported below
            raised.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert raised == []
    SqlRecords.open(file).close()


def test_opening_makes_nothing(file: Path) -> None:
    with pytest.raises(WorkspaceMissing, match="packshot init"):
        SqlRecords.open(file)
    assert not file.exists()
    file.touch()
    with pytest.raises(WorkspaceMissing, match="packshot init"):
        SqlRecords.open(file)


def create_as_of(revision: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the database that the program made when ``revision`` was its newest schema."""
    older = tmp_path / "older"
    shutil.copytree(schema.MIGRATIONS, older, ignore=shutil.ignore_patterns("__pycache__"))
    for step in (older / "versions").glob("*.py"):
        if step.name[:4] > revision:
            step.unlink()
    with monkeypatch.context() as then:
        then.setattr(schema, "MIGRATIONS", older)
        then.setattr(schema, "SCHEMA_REVISION", revision)
        create_schema(engine := make_engine(file))
        engine.dispose()


def test_identifiers_of_the_first_schema_are_folded_anew(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_as_of("0001", file, tmp_path, monkeypatch)
    execute(
        file,
        "INSERT INTO category (id, namespace, path, class_noun, identifier, identifier_fold, created_at) VALUES "
        "('c1', 'sks', 'produce/corn', 'corn', 'sks_corn', 'sks_com', '2026-03-01T12:30:15.123457+00:00')",
    )
    newcomer = replace(CATEGORY, path="dot/com", identifier="sks_com")
    with SqlRecords.open(file) as records:
        records.add(newcomer)
        assert [category.identifier for category in records.find(Category)] == ["sks_corn", "sks_com"]
        with pytest.raises(IdentifierTaken):
            records.add(replace(newcomer, id="twin", path="grain", identifier="sks_cοrn"))


def fill_older(file: Path, tmp_path: Path, tables: tuple[str, ...], records: tuple[Record, ...]) -> None:
    """Put ``records`` into the older database in ``file``, as far as its columns go."""
    newer = tmp_path / "new.db"
    with SqlRecords.create(newer) as new:
        new.add(*records)
    for table in tables:
        names = ", ".join(str(name) for (name,) in execute(file, f"SELECT name FROM pragma_table_info('{table}')"))
        with closing(sqlite3.connect(file)) as connection:
            connection.executescript(
                f"ATTACH '{newer}' AS new; INSERT INTO {table} ({names}) SELECT {names} FROM new.{table}"
            )


LATER = (
    Usage,
    AuditEntry,
    Quota,
    Webhook,
    Delivery,
    Template,
    Batch,
    BatchItem,
    ItemFailure,
    EvaluationRun,
    EngineWork,
)
OLDER_GENERATION = replace(GENERATION, template_id=None)
TRAINED = tuple(
    OLDER_GENERATION if record is GENERATION else record
    for record in EVERYTHING
    if not isinstance(record, LATER)
    and record not in (IMPORTED, COMPRESSED, COMPOSED_GENERATION, FOREIGN_GENERATION, FOREIGN_IMAGE)
)
TO_FINE_TUNES = ("category", "base_model", "job", "reference_image", "reference_set", "training_run", "fine_tune")


def test_older_fine_tunes_take_the_code_of_their_run(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_as_of("0002", file, tmp_path, monkeypatch)
    fill_older(file, tmp_path, TO_FINE_TUNES, TRAINED)
    with SqlRecords.open(file) as records:
        assert records.find(FineTune) == [replace(FINE_TUNE, code_revision=RUN.code_revision)]


def test_older_workspaces_keep_their_fine_tunes_and_all_that_points_at_them(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_as_of("0004", file, tmp_path, monkeypatch)
    later = ("reference_set_member", "alias_event", "evaluation", "generation", "generated_image", "api_key", "reply")
    fill_older(file, tmp_path, TO_FINE_TUNES + later, TRAINED)
    with SqlRecords.open(file) as records:
        was = [record if record is not JOB else replace(JOB, namespace="sks", priority=0) for record in TRAINED]
        assert [records.get(type(record), record.id) for record in TRAINED] == was
        records.add(IMPORTED, COMPRESSED)
        with pytest.raises(NotFound):
            records.add(replace(EVENT, id="orphan", number=9, fine_tune_id="nobody"))
    assert execute(file, "PRAGMA foreign_key_check") == []
    engine = make_engine(file)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_older_generations_keep_their_base_and_all_that_points_at_them(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_as_of("0008", file, tmp_path, monkeypatch)
    foreign = (FOREIGN_GENERATION, FOREIGN_IMAGE, COMPOSED_GENERATION)
    tables = ("reference_set_member", "template", "generation", "generated_image", "batch", "batch_item", "usage")
    older = tuple(record for record in EVERYTHING if record not in foreign)
    fill_older(file, tmp_path, TO_FINE_TUNES + tables, older)
    with SqlRecords.open(file) as records:
        for kind in (Generation, GeneratedImage, BatchItem):
            assert records.find(kind) == [record for record in older if isinstance(record, kind)]
        assert [each.fees for each in records.find(Usage)] == [0.0]
        records.add(*foreign)
        assert records.get(GeneratedImage, FOREIGN_IMAGE.id) == FOREIGN_IMAGE
        with pytest.raises(NotFound):
            records.add(replace(FOREIGN_IMAGE, id="orphan", generation_id="nobody"))
    assert execute(file, "PRAGMA foreign_key_check") == []
    engine = make_engine(file)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_an_older_schema_is_upgraded(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with SqlRecords.create(file) as records:
        records.add(CATEGORY)
    next_version(tmp_path, monkeypatch, "UPDATE category SET note = 'kept'")
    with SqlRecords.open(file) as records:
        assert records.find(Category) == [CATEGORY]
    assert execute(file, "SELECT note FROM category") == [("kept",)]
    assert execute(file, "SELECT version_num FROM alembic_version") == [("9001",)]


def test_older_generations_belong_where_their_category_does(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_as_of("0003", file, tmp_path, monkeypatch)
    acme = replace(CATEGORY, namespace="acme")
    fill_older(
        file,
        tmp_path,
        (*TO_FINE_TUNES, "generation"),
        (acme, *(record for record in TRAINED if record is not CATEGORY)),
    )
    with SqlRecords.open(file) as records:
        assert records.get(Generation, GENERATION.id) == replace(
            GENERATION, namespace="acme", job_id=None, template_id=None
        )
        assert records.get(Generation, BARE_GENERATION.id) == replace(BARE_GENERATION, namespace="sks")
        assert records.get(Job, JOB.id) == replace(JOB, namespace="acme", priority=0)
        records.add(replace(GENERATION, id="newer", template_id=None))


def test_a_failed_upgrade_leaves_the_old_schema(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SqlRecords.create(file).close()
    before = execute(file, "SELECT sql FROM sqlite_master")
    with monkeypatch.context() as newer:
        next_version(tmp_path, newer, "INSERT INTO nowhere VALUES (1)")
        with pytest.raises(WorkspaceUnusable, match="nowhere"):
            SqlRecords.open(file)
    assert execute(file, "SELECT sql FROM sqlite_master") == before
    SqlRecords.open(file).close()


def test_a_newer_schema_is_refused_by_both_names(file: Path) -> None:
    SqlRecords.create(file).close()
    execute(file, "UPDATE alembic_version SET version_num = '9999'")
    for opening in (SqlRecords.open, SqlRecords.create):
        with pytest.raises(WorkspaceUnusable, match=f"9999.*{schema.SCHEMA_REVISION}"):
            opening(file)


def test_the_database_of_another_program_is_left_alone(file: Path) -> None:
    execute(file, "CREATE TABLE recipes (id TEXT)")
    with pytest.raises(WorkspaceUnusable, match="recipes"):
        SqlRecords.create(file)
    assert execute(file, "SELECT name FROM sqlite_master") == [("recipes",)]


def test_a_file_that_is_no_database_is_reported(file: Path) -> None:
    file.write_bytes(b"not a database, but long enough to look at" * 100)
    for opening in (SqlRecords.open, SqlRecords.create):
        with pytest.raises(WorkspaceUnusable, match="not a database"):
            opening(file)


def test_a_damaged_database_is_reported(file: Path) -> None:
    with SqlRecords.create(file) as records:
        records.add(CATEGORY)
    size = file.stat().st_size
    with file.open("r+b") as damaged:
        damaged.seek(4096)
        damaged.write(b"\xff" * (size - 4096))
    with pytest.raises(WorkspaceUnusable, match="malformed"), SqlRecords.open(file) as records:
        records.find(Category)


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceUnusable, match="cannot make the folder"):
        SqlRecords.create(tmp_path / "file" / "deeper" / "packshot.db")


def test_a_full_disk_is_reported_and_passes(file: Path) -> None:
    with SqlRecords.create(file) as records:
        records.add(CATEGORY)
        connection = records._engine.raw_connection()
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        connection.close()
        big = Category(
            id="big",
            namespace="sks",
            path="big",
            class_noun="x" * 100_000,
            identifier="sks_big",
            created_at=CATEGORY.created_at,
        )
        with pytest.raises(WorkspaceUnusable, match=r"full.*free some disk space"):
            records.add(big)
        assert records.find(Category) == [CATEGORY]
        records.close()
        records.add(big)
        assert records.find(Category) == [CATEGORY, big]
