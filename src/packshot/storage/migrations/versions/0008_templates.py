"""Scene templates, generations whose prompt was rendered from one, batches, evaluations as jobs.

Revision ID: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the tables and a column."""
    op.create_table(
        "template",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("scene", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_template")),
        sa.UniqueConstraint("id", name=op.f("uq_template_id")),
        sa.UniqueConstraint("namespace", "name", "version", name=op.f("uq_template_namespace_name_version")),
    )
    op.add_column(
        "generation",
        sa.Column(
            "template_id",
            sa.String(length=64),
            sa.ForeignKey("template.id", name=op.f("fk_generation_template_id")),
            nullable=True,
        ),
        inline_references=True,
    )
    op.create_index(op.f("ix_generation_template_id"), "generation", ["template_id"], unique=False)
    _create_batches()
    op.create_table(
        "evaluation_run",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("fine_tune_id", sa.String(length=64), nullable=False),
        sa.Column("images_per_scene", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["fine_tune_id"], ["fine_tune.id"], name=op.f("fk_evaluation_run_fine_tune_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_evaluation_run_job_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_evaluation_run")),
        sa.UniqueConstraint("id", name=op.f("uq_evaluation_run_id")),
    )
    for column in ("fine_tune_id", "job_id"):
        op.create_index(op.f(f"ix_evaluation_run_{column}"), "evaluation_run", [column], unique=False)


def _create_batches() -> None:
    op.create_table(
        "batch",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("sampling", sa.Text(), nullable=False),
        sa.Column("own_settings", sa.Text(), nullable=False),
        sa.Column("variables", sa.Text(), nullable=False),
        sa.Column("code_revision", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_batch_job_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_batch")),
        sa.UniqueConstraint("id", name=op.f("uq_batch_id")),
    )
    op.create_index(op.f("ix_batch_namespace"), "batch", ["namespace"], unique=False)
    op.create_index(op.f("ix_batch_job_id"), "batch", ["job_id"], unique=False)
    op.create_table(
        "batch_item",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("category_id", sa.String(length=64), nullable=False),
        sa.Column("template_id", sa.String(length=64), nullable=False),
        sa.Column("generation_id", sa.String(length=64), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_batch_item_batch_id")),
        sa.ForeignKeyConstraint(["category_id"], ["category.id"], name=op.f("fk_batch_item_category_id")),
        sa.ForeignKeyConstraint(["template_id"], ["template.id"], name=op.f("fk_batch_item_template_id")),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_batch_item_generation_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_batch_item")),
        sa.UniqueConstraint("id", name=op.f("uq_batch_item_id")),
        sa.UniqueConstraint("batch_id", "number", name=op.f("uq_batch_item_batch_id_number")),
    )
    for column in ("batch_id", "category_id", "template_id", "generation_id"):
        op.create_index(op.f(f"ix_batch_item_{column}"), "batch_item", [column], unique=False)
    op.create_table(
        "item_failure",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("batch_id", sa.String(length=64), nullable=False),
        sa.Column("item_id", sa.String(length=64), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_item_failure_batch_id")),
        sa.ForeignKeyConstraint(["item_id"], ["batch_item.id"], name=op.f("fk_item_failure_item_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_item_failure")),
        sa.UniqueConstraint("id", name=op.f("uq_item_failure_id")),
        sa.UniqueConstraint("item_id", name=op.f("uq_item_failure_item_id")),
    )
    op.create_index(op.f("ix_item_failure_batch_id"), "item_failure", ["batch_id"], unique=False)
