"""Generations that another's image API answers, with or without a seed, and what such APIs charge.

Revision ID: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0008"


def upgrade() -> None:
    """Let the base of a generation and the seed of a picture be missing; two columns tell of the model and its fees."""
    op.add_column("usage", sa.Column("fees", sa.Float(), nullable=False, server_default="0"))
    if op.get_bind().dialect.name == "sqlite":
        op.execute("PRAGMA defer_foreign_keys = ON")
        _make_generations_anew()
        _make_pictures_anew()
        return
    op.alter_column("generation", "base_id", existing_type=sa.String(length=64), nullable=True)
    op.add_column("generation", sa.Column("foreign_model", sa.Text(), nullable=True))
    op.alter_column("generated_image", "seed", existing_type=sa.BigInteger(), nullable=True)


def _make_generations_anew() -> None:
    """SQLite cannot take NOT NULL from a column, so the tables are made anew and their rows are moved.

    The rows that point at them are checked when the transaction ends, and find theirs again by then.
    """
    names = (
        "seq, id, namespace, prompt, resolved_prompt, base_id, fine_tune_id, sampling, code_revision, job_id, template_id, "
        "created_at"
    )
    op.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM generation")
    op.drop_table("generation")
    op.create_table(
        "generation",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("resolved_prompt", sa.Text(), nullable=False),
        sa.Column("base_id", sa.String(length=64), nullable=True),
        sa.Column("foreign_model", sa.Text(), nullable=True),
        sa.Column("fine_tune_id", sa.String(length=64), nullable=True),
        sa.Column("sampling", sa.Text(), nullable=False),
        sa.Column("code_revision", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("template_id", sa.String(length=64), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["base_model.id"], name=op.f("fk_generation_base_id")),
        sa.ForeignKeyConstraint(["fine_tune_id"], ["fine_tune.id"], name=op.f("fk_generation_fine_tune_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_generation_job_id")),
        sa.ForeignKeyConstraint(["template_id"], ["template.id"], name=op.f("fk_generation_template_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_generation")),
        sa.UniqueConstraint("id", name=op.f("uq_generation_id")),
    )
    for column in ("base_id", "fine_tune_id", "job_id", "template_id"):
        op.create_index(op.f(f"ix_generation_{column}"), "generation", [column], unique=False)
    _move_back("generation", names)


def _make_pictures_anew() -> None:
    op.execute("CREATE TEMPORARY TABLE kept AS SELECT * FROM generated_image")
    op.drop_table("generated_image")
    op.create_table(
        "generated_image",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_generated_image_generation_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_generated_image")),
        sa.UniqueConstraint("generation_id", "number", name=op.f("uq_generated_image_generation_id_number")),
        sa.UniqueConstraint("id", name=op.f("uq_generated_image_id")),
    )
    for column in ("generation_id", "sha256"):
        op.create_index(op.f(f"ix_generated_image_{column}"), "generated_image", [column], unique=False)
    _move_back("generated_image", "seq, id, generation_id, number, seed, sha256")


def _move_back(table: str, names: str) -> None:
    op.execute(f"INSERT INTO {table} ({names}) SELECT {names} FROM kept")
    op.execute("DROP TABLE kept")
