"""Run by Alembic, in the transaction that ``schema.migrate`` opened; it commits all steps or none."""

from alembic import context

from packshot.storage.tables import metadata

# Alembic takes SQLite for a database that cannot roll back schema changes; with our own BEGIN it can.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
