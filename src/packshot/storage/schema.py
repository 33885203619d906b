"""Brings a database to the newest schema, in one transaction. Does not know what the migrations do.

Alembic takes half a second to import, so a database that is up to date is recognised without it.
"""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

from packshot.domain.errors import WorkspaceMissing, WorkspaceUnusable
from packshot.storage.engine import database_file, mapped_failures, reader
from packshot.storage.tables import SCHEMA_REVISION

MIGRATIONS = Path(__file__).with_name("migrations")


def create_schema(engine: Engine) -> None:
    """Make the tables, or upgrade those that are there. Safe to call twice, and by two processes at once.

    Raises:
        WorkspaceUnusable: the database belongs to something else, is newer than this program, or does not answer.
    """
    file = database_file(engine)
    if file is not None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceUnusable(f"cannot make the folder {file.parent}: {error.strerror}") from error
    if _revision(engine) != SCHEMA_REVISION:
        migrate(engine)


def open_schema(engine: Engine) -> None:
    """Check that the database holds a workspace, and upgrade an older one.

    Raises:
        WorkspaceMissing: there is no database, or an empty one.
        WorkspaceUnusable: as ``create_schema``.
    """
    file = database_file(engine)
    missing = f"no workspace at {engine.url.render_as_string(hide_password=True)}; make one with: packshot init"
    if file is not None and not file.is_file():
        raise WorkspaceMissing(missing)
    revision = _revision(engine)
    if revision is None:
        raise WorkspaceMissing(missing)
    if revision != SCHEMA_REVISION:
        migrate(engine)


def migrate(engine: Engine) -> None:
    """Run the migrations that the database has not seen: all of them, or (also after a kill) none.

    Raises:
        WorkspaceUnusable: as ``create_schema``.
    """
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    with mapped_failures(engine), engine.begin() as connection:
        revision = _revision_on(connection)
        where = engine.url.render_as_string(hide_password=True)
        if revision is not None and revision not in known:
            raise WorkspaceUnusable(
                f"the database {where} has the schema {revision}, and this program knows none after "
                f"{scripts.get_current_head()}; update packshot"
            )
        tables = inspect(connection).get_table_names()
        if revision is None and tables:
            raise WorkspaceUnusable(
                f"the database {where} holds tables of something else ({', '.join(sorted(tables)[:3])}); "
                "point PACKSHOT_HOME at another folder"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _revision(engine: Engine) -> str | None:
    with mapped_failures(engine), reader(engine).connect() as connection:
        return _revision_on(connection)


def _revision_on(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.scalar(text("SELECT version_num FROM alembic_version"))
