"""The code that finished the training of a fine-tune.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Older fine-tunes take the code of their run, which is all that was recorded."""
    op.add_column("fine_tune", sa.Column("code_revision", sa.Text(), nullable=False, server_default=""))
    op.execute(
        "UPDATE fine_tune SET code_revision = "
        "(SELECT code_revision FROM training_run WHERE training_run.id = fine_tune.training_run_id)"
    )
