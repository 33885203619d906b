"""API keys, replies to requests with an idempotency key, and generations that belong to a namespace and may be jobs.

Revision ID: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

# A generation of a fine-tune belongs where the fine-tune's category does; the others stay in the default namespace.
NAMESPACES_OF_GENERATIONS = """
UPDATE generation SET namespace = (
    SELECT category.namespace FROM fine_tune JOIN category ON category.id = fine_tune.category_id
    WHERE fine_tune.id = generation.fine_tune_id
) WHERE fine_tune_id IS NOT NULL
"""


def upgrade() -> None:
    """Make two tables and two columns."""
    op.create_table(
        "api_key",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.Column("revoked_at", sa.String(length=32), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_api_key")),
        sa.UniqueConstraint("id", name=op.f("uq_api_key_id")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_key_sha256")),
    )
    op.create_table(
        "reply",
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("namespace", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_reply")),
        sa.UniqueConstraint("id", name=op.f("uq_reply_id")),
        sa.UniqueConstraint("namespace", "key", name=op.f("uq_reply_namespace_key")),
    )
    op.add_column("generation", sa.Column("namespace", sa.String(length=64), nullable=False, server_default="sks"))
    op.execute(NAMESPACES_OF_GENERATIONS)
    op.add_column(
        "generation",
        sa.Column(
            "job_id", sa.String(length=64), sa.ForeignKey("job.id", name=op.f("fk_generation_job_id")), nullable=True
        ),
        inline_references=True,
    )
    op.create_index(op.f("ix_generation_job_id"), "generation", ["job_id"], unique=False)
