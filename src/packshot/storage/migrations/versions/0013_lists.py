"""Indexes that lists of a namespace follow from one page to the next, and names that sort alike in every database.

Revision ID: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"

LISTED = ("job", "generation", "batch", "audit_entry")


def upgrade() -> None:
    """Make the indexes; PostgreSQL compares the names that lists are ordered by byte by byte, as SQLite does."""
    for table in ("batch", "audit_entry"):
        op.drop_index(op.f(f"ix_{table}_namespace"), table)
    for table in LISTED:
        op.create_index(op.f(f"ix_{table}_namespace_seq"), table, ["namespace", "seq"])
    op.create_index(op.f("ix_category_namespace_identifier"), "category", ["namespace", "identifier"])
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("category", "path", type_=sa.String(200, collation="C"))
        op.alter_column("template", "name", type_=sa.String(64, collation="C"))
