"""The tables: one per record, plus the members of reference sets. Does not know how rows become records (``rows``).

``seq`` numbers the rows of a table in order of creation; ``id`` is what everybody else sees. Every pointer to another
record is a foreign key, so the lineage of an image is a chain of joins; only ``job.subject_id`` is not, as each kind
of job has subjects of another kind. Files of a fine-tune or an evaluation, scores, configurations and sampling settings
are JSON text, as are an engine's totals: they point at blobs, or are read and written whole. (JSON also keeps a score that is not a number, which
SQLite's own floats do not.)

Times are text in UTC with microseconds and a fixed width, so that they sort as times do and come back equal on every
database.
"""

from packshot.storage.tables.catalog import base_model, category, reference_image, reference_set, reference_set_member
from packshot.storage.tables.columns import metadata
from packshot.storage.tables.fine_tunes import alias_event, evaluation, evaluation_run, fine_tune, training_run
from packshot.storage.tables.pictures import batch, batch_item, generated_image, generation, item_failure, template
from packshot.storage.tables.platform import (
    api_key,
    audit_entry,
    delivery,
    engine_work,
    job,
    quota,
    reply,
    turn,
    usage,
    webhook,
)

__all__ = [
    "SCHEMA_REVISION",
    "alias_event",
    "api_key",
    "audit_entry",
    "base_model",
    "batch",
    "batch_item",
    "category",
    "delivery",
    "engine_work",
    "evaluation",
    "evaluation_run",
    "fine_tune",
    "generated_image",
    "generation",
    "item_failure",
    "job",
    "metadata",
    "quota",
    "reference_image",
    "reference_set",
    "reference_set_member",
    "reply",
    "template",
    "training_run",
    "turn",
    "usage",
    "webhook",
]

SCHEMA_REVISION = "0014"
"""The newest migration; opening a database that is there already needs no migration machinery."""
