"""The subjects of composed pictures.

Revision ID: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0010"


def upgrade() -> None:
    """Earlier generations have no subjects."""
    op.add_column("generation", sa.Column("subjects", sa.Text(), nullable=False, server_default="[]"))
