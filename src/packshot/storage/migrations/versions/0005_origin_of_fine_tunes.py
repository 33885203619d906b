"""Fine-tunes that were imported or compressed, and so have no training run of their own.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Let the training run be missing; two columns say where the others come from."""
    if op.get_bind().dialect.name == "sqlite":
        _make_anew()
        return
    op.alter_column("fine_tune", "training_run_id", existing_type=sa.String(length=64), nullable=True)
    op.add_column("fine_tune", sa.Column("imported", sa.Text(), nullable=True))
    key = sa.ForeignKey("fine_tune.id", name=op.f("fk_fine_tune_compressed_from_id"))
    op.add_column("fine_tune", sa.Column("compressed_from_id", sa.String(length=64), key, nullable=True))
    op.create_index(op.f("ix_fine_tune_compressed_from_id"), "fine_tune", ["compressed_from_id"], unique=False)


def _make_anew() -> None:
    """SQLite cannot take NOT NULL from a column, so the table is made anew and its rows are moved.

    The rows that point at it are checked when the transaction ends, and find theirs again by then.
    """
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM fine_tune")
    op.drop_table("fine_tune")
    op.create_table(
        "fine_tune",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("category_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("training_run_id", sa.String(length=64), nullable=True),
        sa.Column("imported", sa.Text(), nullable=True),
        sa.Column("compressed_from_id", sa.String(length=64), nullable=True),
        sa.Column("base_id", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("trained_phrase", sa.Text(), nullable=False),
        sa.Column("artifacts", sa.Text(), nullable=False),
        sa.Column("code_revision", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["base_model.id"], name=op.f("fk_fine_tune_base_id")),
        sa.ForeignKeyConstraint(["category_id"], ["category.id"], name=op.f("fk_fine_tune_category_id")),
        sa.ForeignKeyConstraint(["compressed_from_id"], ["fine_tune.id"], name=op.f("fk_fine_tune_compressed_from_id")),
        sa.ForeignKeyConstraint(["training_run_id"], ["training_run.id"], name=op.f("fk_fine_tune_training_run_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_fine_tune")),
        sa.UniqueConstraint("category_id", "version", name=op.f("uq_fine_tune_category_id_version")),
        sa.UniqueConstraint("id", name=op.f("uq_fine_tune_id")),
    )
    for column in ("base_id", "category_id", "compressed_from_id", "training_run_id"):
        op.create_index(op.f(f"ix_fine_tune_{column}"), "fine_tune", [column], unique=False)
    names = (
        "seq, id, category_id, version, training_run_id, base_id, method, token, trained_phrase, artifacts, "
        "code_revision, created_at"
    )
    op.execute(f"INSERT INTO fine_tune ({names}) SELECT {names} FROM kept")
    op.execute("DROP TABLE kept")
