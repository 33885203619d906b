"""Identifiers folded by the rule that maps single characters only.

Revision ID: 0002
"""

import sqlalchemy as sa
from alembic import op

from packshot.domain.catalog import fold_look_alikes

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Fold every identifier anew; the new rule is the finer one, so no two become equal."""
    category = sa.table("category", sa.column("id"), sa.column("identifier"), sa.column("identifier_fold"))
    connection = op.get_bind()
    for id_, identifier in connection.execute(sa.select(category.c.id, category.c.identifier)).all():
        folded = sa.update(category).where(category.c.id == id_).values(identifier_fold=fold_look_alikes(identifier))
        connection.execute(folded)
