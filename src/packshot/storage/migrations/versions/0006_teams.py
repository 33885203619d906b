"""Teams share the queue: whose a job is, turns, usage, audit entries and quotas.

Revision ID: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

# Older jobs belong where their run's category or their generation does.
NAMESPACES_OF_JOBS = """
UPDATE job SET namespace = COALESCE(
    (SELECT category.namespace FROM training_run JOIN category ON category.id = training_run.category_id
     WHERE training_run.job_id = job.id),
    (SELECT generation.namespace FROM generation WHERE generation.job_id = job.id),
    ''
)
"""


def upgrade() -> None:
    """Make four tables, two columns and an index."""
    op.add_column("job", sa.Column("namespace", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("job", sa.Column("priority", sa.Integer(), nullable=False, server_default="0"))
    op.execute(NAMESPACES_OF_JOBS)
    op.create_index(
        op.f("ix_job_status_namespace_priority_seq"), "job", ["status", "namespace", "priority", "seq"], unique=False
    )
    op.create_table(
        "turn",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_turn")),
        sa.UniqueConstraint("namespace", name=op.f("uq_turn_namespace")),
    )
    op.create_table(
        "usage",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("category_id", sa.String(length=64), nullable=True),
        sa.Column("job_id", sa.String(length=64), nullable=True),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("num_images", sa.Integer(), nullable=False),
        sa.Column("num_steps", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_usage")),
        sa.UniqueConstraint("id", name=op.f("uq_usage_id")),
        sa.ForeignKeyConstraint(["category_id"], ["category.id"], name=op.f("fk_usage_category_id")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_usage_job_id")),
    )
    op.create_index(op.f("ix_usage_category_id"), "usage", ["category_id"], unique=False)
    op.create_index(op.f("ix_usage_job_id"), "usage", ["job_id"], unique=False)
    op.create_index(op.f("ix_usage_namespace_created_at"), "usage", ["namespace", "created_at"], unique=False)
    op.create_table(
        "audit_entry",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_entry")),
        sa.UniqueConstraint("id", name=op.f("uq_audit_entry_id")),
    )
    op.create_index(op.f("ix_audit_entry_namespace"), "audit_entry", ["namespace"], unique=False)
    op.create_table(
        "quota",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), nullable=True),
        sa.Column("max_unfinished_jobs", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_quota")),
        sa.UniqueConstraint("id", name=op.f("uq_quota_id")),
    )
    op.create_index(op.f("ix_quota_namespace"), "quota", ["namespace"], unique=False)
