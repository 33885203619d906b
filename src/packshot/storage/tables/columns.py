"""What the tables share: their metadata, and the columns that recur."""

from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def seq() -> Column[int]:
    """Numbers the rows in order of creation."""
    return Column("seq", Integer, primary_key=True)


def public_id() -> Column[str]:
    """What everybody else sees of a row."""
    return Column("id", String(64), nullable=False, unique=True)


def text(name: str) -> Column[str]:
    """Text of any length."""
    return Column(name, Text, nullable=False)


def time(name: str, *, nullable: bool = False) -> Column[str]:
    """A time, as text of a fixed width."""
    return Column(name, String(32), nullable=nullable)


def digest(name: str, *, nullable: bool = False) -> Column[str]:
    """A sha256 in hexadecimal."""
    return Column(name, String(64), nullable=nullable)


def sorted_name(name: str, length: int) -> Column[str]:
    """A name that sorts by its bytes on every database."""
    by_bytes = String(length, collation="C")  # as SQLite compares by itself
    return Column(name, String(length).with_variant(by_bytes, "postgresql"), nullable=False)


def points_at(table: str, *, name: str = "", nullable: bool = False) -> Column[str]:
    """A foreign key to the ``id`` of ``table``."""
    return Column(name or f"{table}_id", String(64), ForeignKey(f"{table}.id"), nullable=nullable, index=True)
