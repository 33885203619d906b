"""Opens databases and maps their exceptions to ours, once. Does not know any table.

Everything that only SQLite needs is in ``_sqlite_engine``, and what PostgreSQL needs in ``_postgres_engine``. On both, one
transaction writes at a time, and readers never wait for it.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from packshot.domain.errors import InvalidInput, WorkspaceUnusable

_READ_ONLY = "packshot_read_only"
BUSY_TIMEOUT_S = 30
_PATIENCE_MS = 40  # in which SQLite asks some six times, with naps of at most 15 milliseconds
NUM_KEPT_CONNECTIONS = 40
NUM_SERVER_CONNECTIONS = 20  # a PostgreSQL server lets 100 in, of all processes, where nobody changed that
WRITE_LOCK = int.from_bytes(b"packshot")  # a number that no other program in the database locks


def make_engine(database: str | Path) -> Engine:
    """An engine for a database URL, or for the SQLite file at a path. Connects to nothing yet.

    Raises:
        InvalidInput: it is no URL of SQLite or PostgreSQL, or PostgreSQL's driver is not installed.
    """
    if not (isinstance(database, str) and "://" in database):
        return _sqlite_engine(URL.create("sqlite", database=str(database)))
    try:
        url = make_url(database)
    except (ArgumentError, ValueError) as error:
        raise InvalidInput(f"{database!r} is not the URL of a database; write postgresql://user@host/name") from error
    match url.drivername.partition("+")[0]:
        case "sqlite":
            return _sqlite_engine(url)
        case "postgresql" | "postgres":
            return _postgres_engine(url.set(drivername="postgresql+psycopg"))
        case other:
            raise InvalidInput(f"records cannot be kept in {other}; use postgresql://user@host/name, or an SQLite file")


def reader(engine: Engine) -> Engine:
    """The same database for connections that will not write: without the write lock, each statement by itself."""
    alone = {} if engine.url.get_backend_name() == "sqlite" else {"isolation_level": "AUTOCOMMIT"}
    return engine.execution_options(**{_READ_ONLY: True}, **alone)


def database_file(engine: Engine) -> Path | None:
    """The file of an SQLite database; None for a server."""
    if engine.url.get_backend_name() != "sqlite":
        return None
    assert engine.url.database and engine.url.database != ":memory:", "records need a file, threads share it"
    return Path(engine.url.database)


def _sqlite_engine(url: URL) -> Engine:
    # As many connections as threads ask for: writers wait in SQLite, not in the pool. As many are kept as a server has
    # threads, since a new one costs several milliseconds (its journal, and the schema that it reads).
    engine = create_engine(url, poolclass=QueuePool, pool_size=NUM_KEPT_CONNECTIONS, max_overflow=-1)

    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
        # The driver must not open transactions by itself: "begin" below does.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        _use_wal(cursor)
        for pragma in (
            # FULL, not NORMAL: an acknowledged promotion survives a power cut too. It costs one flush per commit,
            # and commits are few (the images of a batch, a heartbeat), not thousands per second.
            "synchronous = FULL",
            "foreign_keys = ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that will write takes the write lock first: one that starts as a reader and then wants to
        # write fails with "database is locked" at once, whatever the busy timeout.
        if not connection.get_execution_options().get(_READ_ONLY, False):
            _begin_writing(connection)

    return engine


def _begin_writing(connection: Connection) -> None:
    """Take the write lock of SQLite, which many processes may want.

    SQLite's own waiting takes ever longer naps, at last of a tenth of a second, so that those who came later find the lock
    free first: of 16 busy processes most waited for half a minute in vain. Who asks anew every few milliseconds has a chance.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    cursor = connection.connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
    try:
        while True:
            try:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            except OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            else:
                return
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
        cursor.close()


def _postgres_engine(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            pool_size=NUM_SERVER_CONNECTIONS,
            pool_pre_ping=True,  # a server that was restarted is no error
            connect_args={"connect_timeout": 10, "options": f"-c lock_timeout={BUSY_TIMEOUT_S}s"},
        )
    except ModuleNotFoundError as error:
        raise InvalidInput("PostgreSQL needs its driver; run: pip install 'packshot[postgres]'") from error

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # Row locks alone would not keep what a transaction counted or did not find (a quota, the next version). The lock
        # goes with the transaction; statements after it see all that was committed before.
        if not connection.get_execution_options().get(_READ_ONLY, False):
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")

    return engine


def _use_wal(cursor: DBAPICursor) -> None:
    """Change the journal of a new file; SQLite does not wait by itself for another that is just doing the same."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


@contextmanager
def mapped_failures(engine: Engine) -> Iterator[None]:
    """Raise what a database raises as one of our errors.

    Raises:
        WorkspaceUnusable: the disk is full, the database locked, damaged, unreadable or gone.
    """
    try:
        yield
    except IntegrityError:
        raise  # a broken rule, not a broken database: ``records`` knows which record broke it
    except DBAPIError as error:
        where = engine.url.render_as_string(hide_password=True)
        cause = str(error.orig)
        raise WorkspaceUnusable(f"the database {where} does not answer: {cause}; {_advice(cause)}") from error


@contextmanager
def values_checked() -> Iterator[None]:
    """Around one statement: refuse values that the database cannot hold.

    Raises:
        InvalidInput: text that is not Unicode (a file name in another encoding) or, in PostgreSQL, that holds NUL; a value
            longer or larger than its column.
    """
    try:
        yield
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{error.object!r} is not valid Unicode text and cannot be stored; rename the file or mend the text"
        ) from error
    except DataError as error:
        raise InvalidInput(f"the database cannot hold a value: {str(error.orig).splitlines()[0]}") from error


def _advice(cause: str) -> str:
    known = {
        "full": "free some disk space and try again; nothing was changed",
        "lock": f"another process has held it for {BUSY_TIMEOUT_S} s; find and end that process",
        "malformed": "restore it from a backup",
        "not a database": "restore it from a backup, or point PACKSHOT_HOME at a workspace",
        "readonly": "make the file and its folder writable",
        "unable to open": "check that the folder exists and is writable",
        "I/O": "check the disk",
        "no such table": "it is not a Packshot database of this version; restore it, or run: packshot init",
    }
    return next((advice for sign, advice in known.items() if sign in cause), "check that it can be reached")
