"""The first schema.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "base_model",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("revision", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("family", sa.String(length=64), nullable=False),
        sa.Column("resolution", sa.Integer(), nullable=False),
        sa.Column("registered_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_base_model")),
        sa.UniqueConstraint("digest", "source", name=op.f("uq_base_model_digest_source")),
        sa.UniqueConstraint("id", name=op.f("uq_base_model_id")),
    )
    op.create_table(
        "category",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(length=200), nullable=False),
        sa.Column("class_noun", sa.Text(), nullable=False),
        sa.Column("identifier", sa.Text(), nullable=False),
        sa.Column("identifier_fold", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("retired_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_category")),
        sa.UniqueConstraint("id", name=op.f("uq_category_id")),
        sa.UniqueConstraint("namespace", "identifier_fold", name=op.f("uq_category_namespace_identifier_fold")),
        sa.UniqueConstraint("namespace", "path", name=op.f("uq_category_namespace_path")),
    )
    op.create_table(
        "job",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("subject_id", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("lease_expires_at", sa.String(length=32), nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("finished_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_job")),
        sa.UniqueConstraint("id", name=op.f("uq_job_id")),
    )
    op.create_index(op.f("ix_job_status_seq"), "job", ["status", "seq"], unique=False)
    op.create_index(op.f("ix_job_subject_id"), "job", ["subject_id"], unique=False)
    op.create_table(
        "reference_image",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("category_id", sa.String(length=64), nullable=False),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("original", sa.String(length=64), nullable=False),
        sa.Column("image", sa.String(length=64), nullable=True),
        sa.Column("mask", sa.String(length=64), nullable=True),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("caption", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("license", sa.Text(), nullable=False),
        sa.Column("refusal", sa.String(length=32), nullable=True),
        sa.Column("explanation", sa.Text(), nullable=False),
        sa.Column("added_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["category_id"], ["category.id"], name=op.f("fk_reference_image_category_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_reference_image")),
        sa.UniqueConstraint("id", name=op.f("uq_reference_image_id")),
    )
    op.create_index(op.f("ix_reference_image_category_id"), "reference_image", ["category_id"], unique=False)
    op.create_table(
        "reference_set",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("category_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("frozen_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["category_id"], ["category.id"], name=op.f("fk_reference_set_category_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_reference_set")),
        sa.UniqueConstraint("category_id", "version", name=op.f("uq_reference_set_category_id_version")),
        sa.UniqueConstraint("id", name=op.f("uq_reference_set_id")),
    )
    op.create_index(op.f("ix_reference_set_category_id"), "reference_set", ["category_id"], unique=False)
    op.create_table(
        "reference_set_member",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("reference_set_id", sa.String(length=64), nullable=False),
        sa.Column("reference_image_id", sa.String(length=64), nullable=False),
        sa.Column("held_out", sa.Boolean(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["reference_image_id"], ["reference_image.id"], name=op.f("fk_reference_set_member_reference_image_id")
        ),
        sa.ForeignKeyConstraint(
            ["reference_set_id"], ["reference_set.id"], name=op.f("fk_reference_set_member_reference_set_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_reference_set_member")),
        sa.UniqueConstraint("reference_set_id", "held_out", "position", name="uq_reference_set_member_place"),
        sa.UniqueConstraint("reference_set_id", "held_out", "reference_image_id", name="uq_reference_set_member_once"),
    )
    op.create_index(
        op.f("ix_reference_set_member_reference_image_id"), "reference_set_member", ["reference_image_id"], unique=False
    )
    op.create_index(
        op.f("ix_reference_set_member_reference_set_id"), "reference_set_member", ["reference_set_id"], unique=False
    )
    op.create_table(
        "training_run",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("category_id", sa.String(length=64), nullable=False),
        sa.Column("reference_set_id", sa.String(length=64), nullable=False),
        sa.Column("base_id", sa.String(length=64), nullable=False),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("code_revision", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["base_model.id"], name=op.f("fk_training_run_base_id")),
        sa.ForeignKeyConstraint(["category_id"], ["category.id"], name=op.f("fk_training_run_category_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_training_run_job_id")),
        sa.ForeignKeyConstraint(
            ["reference_set_id"], ["reference_set.id"], name=op.f("fk_training_run_reference_set_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_training_run")),
        sa.UniqueConstraint("id", name=op.f("uq_training_run_id")),
    )
    op.create_index(op.f("ix_training_run_base_id"), "training_run", ["base_id"], unique=False)
    op.create_index(op.f("ix_training_run_category_id"), "training_run", ["category_id"], unique=False)
    op.create_index(op.f("ix_training_run_job_id"), "training_run", ["job_id"], unique=False)
    op.create_index(op.f("ix_training_run_reference_set_id"), "training_run", ["reference_set_id"], unique=False)
    op.create_table(
        "fine_tune",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("category_id", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("training_run_id", sa.String(length=64), nullable=False),
        sa.Column("base_id", sa.String(length=64), nullable=False),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("trained_phrase", sa.Text(), nullable=False),
        sa.Column("artifacts", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["base_model.id"], name=op.f("fk_fine_tune_base_id")),
        sa.ForeignKeyConstraint(["category_id"], ["category.id"], name=op.f("fk_fine_tune_category_id")),
        sa.ForeignKeyConstraint(["training_run_id"], ["training_run.id"], name=op.f("fk_fine_tune_training_run_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_fine_tune")),
        sa.UniqueConstraint("category_id", "version", name=op.f("uq_fine_tune_category_id_version")),
        sa.UniqueConstraint("id", name=op.f("uq_fine_tune_id")),
    )
    op.create_index(op.f("ix_fine_tune_base_id"), "fine_tune", ["base_id"], unique=False)
    op.create_index(op.f("ix_fine_tune_category_id"), "fine_tune", ["category_id"], unique=False)
    op.create_index(op.f("ix_fine_tune_training_run_id"), "fine_tune", ["training_run_id"], unique=False)
    op.create_table(
        "alias_event",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("category_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("fine_tune_id", sa.String(length=64), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["category_id"], ["category.id"], name=op.f("fk_alias_event_category_id")),
        sa.ForeignKeyConstraint(["fine_tune_id"], ["fine_tune.id"], name=op.f("fk_alias_event_fine_tune_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_alias_event")),
        sa.UniqueConstraint("category_id", "number", name=op.f("uq_alias_event_category_id_number")),
        sa.UniqueConstraint("id", name=op.f("uq_alias_event_id")),
    )
    op.create_index(op.f("ix_alias_event_category_id"), "alias_event", ["category_id"], unique=False)
    op.create_index(op.f("ix_alias_event_fine_tune_id"), "alias_event", ["fine_tune_id"], unique=False)
    op.create_table(
        "evaluation",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("fine_tune_id", sa.String(length=64), nullable=False),
        sa.Column("judge_digest", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("scores", sa.Text(), nullable=False),
        sa.Column("rivals", sa.Text(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("artifacts", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["fine_tune_id"], ["fine_tune.id"], name=op.f("fk_evaluation_fine_tune_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_evaluation")),
        sa.UniqueConstraint("id", name=op.f("uq_evaluation_id")),
    )
    op.create_index(op.f("ix_evaluation_fine_tune_id"), "evaluation", ["fine_tune_id"], unique=False)
    op.create_table(
        "generation",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("resolved_prompt", sa.Text(), nullable=False),
        sa.Column("base_id", sa.String(length=64), nullable=False),
        sa.Column("fine_tune_id", sa.String(length=64), nullable=True),
        sa.Column("sampling", sa.Text(), nullable=False),
        sa.Column("code_revision", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["base_id"], ["base_model.id"], name=op.f("fk_generation_base_id")),
        sa.ForeignKeyConstraint(["fine_tune_id"], ["fine_tune.id"], name=op.f("fk_generation_fine_tune_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_generation")),
        sa.UniqueConstraint("id", name=op.f("uq_generation_id")),
    )
    op.create_index(op.f("ix_generation_base_id"), "generation", ["base_id"], unique=False)
    op.create_index(op.f("ix_generation_fine_tune_id"), "generation", ["fine_tune_id"], unique=False)
    op.create_table(
        "generated_image",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("generation_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["generation_id"], ["generation.id"], name=op.f("fk_generated_image_generation_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_generated_image")),
        sa.UniqueConstraint("generation_id", "number", name=op.f("uq_generated_image_generation_id_number")),
        sa.UniqueConstraint("id", name=op.f("uq_generated_image_id")),
    )
    op.create_index(op.f("ix_generated_image_generation_id"), "generated_image", ["generation_id"], unique=False)
    op.create_index(op.f("ix_generated_image_sha256"), "generated_image", ["sha256"], unique=False)
