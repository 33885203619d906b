"""The tables: one per record, plus the members of reference sets. Does not know how rows become records (``rows``).

``seq`` numbers the rows of a table in order of creation; ``id`` is what everybody else sees. Every pointer to another
record is a foreign key, so the lineage of an image is a chain of joins; only ``job.subject_id`` is not, as each kind
of job has subjects of another kind. Files of a fine-tune or an evaluation, scores, configurations and sampling settings
are JSON text, as are an engine's totals: they point at blobs, or are read and written whole. (JSON also keeps a score that is not a number, which
SQLite's own floats do not.)

Times are text in UTC with microseconds and a fixed width, so that they sort as times do and come back equal on every
database.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_REVISION = "0014"
"""The newest migration; opening a database that is there already needs no migration machinery."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _seq() -> Column[int]:
    return Column("seq", Integer, primary_key=True)


def _id() -> Column[str]:
    return Column("id", String(64), nullable=False, unique=True)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _time(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, String(32), nullable=nullable)


def _digest(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, String(64), nullable=nullable)


def _sorted_name(name: str, length: int) -> Column[str]:
    by_bytes = String(length, collation="C")  # as SQLite compares by itself
    return Column(name, String(length).with_variant(by_bytes, "postgresql"), nullable=False)


def _points_at(table: str, *, name: str = "", nullable: bool = False) -> Column[str]:
    return Column(name or f"{table}_id", String(64), ForeignKey(f"{table}.id"), nullable=nullable, index=True)


category = Table(
    "category",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False),
    _sorted_name("path", 200),
    _text("class_noun"),
    _text("identifier"),
    _text("identifier_fold"),
    _time("created_at"),
    _time("retired_at", nullable=True),
    UniqueConstraint("namespace", "path"),
    UniqueConstraint("namespace", "identifier_fold"),
    Index(None, "namespace", "identifier"),
)

reference_image = Table(
    "reference_image",
    metadata,
    _seq(),
    _id(),
    _points_at("category"),
    _text("file_name"),
    _digest("original"),
    _digest("image", nullable=True),
    _digest("mask", nullable=True),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    _text("caption"),
    _text("source"),
    _text("license"),
    Column("refusal", String(32), nullable=True),
    _text("explanation"),
    _time("added_at"),
)

reference_set = Table(
    "reference_set",
    metadata,
    _seq(),
    _id(),
    _points_at("category"),
    Column("version", Integer, nullable=False),
    _digest("digest"),
    _time("frozen_at"),
    UniqueConstraint("category_id", "version"),
)

reference_set_member = Table(
    "reference_set_member",
    metadata,
    _seq(),
    _points_at("reference_set"),
    _points_at("reference_image"),
    Column("held_out", Boolean, nullable=False),
    Column("position", Integer, nullable=False),
    UniqueConstraint("reference_set_id", "held_out", "position", name="uq_reference_set_member_place"),
    UniqueConstraint("reference_set_id", "held_out", "reference_image_id", name="uq_reference_set_member_once"),
)

base_model = Table(
    "base_model",
    metadata,
    _seq(),
    _id(),
    _text("source"),
    _text("revision"),
    _digest("digest"),
    Column("family", String(64), nullable=False),
    Column("resolution", Integer, nullable=False),
    _time("registered_at"),
    UniqueConstraint("digest", "source"),
)

job = Table(
    "job",
    metadata,
    _seq(),
    _id(),
    Column("kind", String(32), nullable=False),
    Column("subject_id", String(64), nullable=False, index=True),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    _text("worker"),
    _time("lease_expires_at", nullable=True),
    Column("progress", Float, nullable=False),
    _text("message"),
    Column("namespace", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    _time("created_at"),
    _time("finished_at", nullable=True),
    Index(None, "status", "seq"),
    Index(None, "status", "namespace", "priority", "seq"),
    Index(None, "namespace", "seq"),
)

turn = Table(
    "turn",
    metadata,
    _seq(),
    Column("namespace", String(64), nullable=False, unique=True),
    Column("number", Integer, nullable=False),
)

training_run = Table(
    "training_run",
    metadata,
    _seq(),
    _id(),
    _points_at("category"),
    _points_at("reference_set"),
    _points_at("base_model", name="base_id"),
    _text("config"),
    _text("code_revision"),
    _points_at("job"),
    _time("created_at"),
)

fine_tune = Table(
    "fine_tune",
    metadata,
    _seq(),
    _id(),
    _points_at("category"),
    Column("version", Integer, nullable=False),
    _points_at("training_run", nullable=True),
    Column("imported", Text, nullable=True),
    _points_at("fine_tune", name="compressed_from_id", nullable=True),
    _points_at("base_model", name="base_id"),
    Column("method", String(32), nullable=False),
    _text("token"),
    _text("trained_phrase"),
    _text("artifacts"),
    _text("code_revision"),
    _time("created_at"),
    UniqueConstraint("category_id", "version"),
)

alias_event = Table(
    "alias_event",
    metadata,
    _seq(),
    _id(),
    _points_at("category"),
    Column("number", Integer, nullable=False),
    _points_at("fine_tune"),
    Column("action", String(16), nullable=False),
    _text("reason"),
    _time("created_at"),
    UniqueConstraint("category_id", "number"),
)

evaluation_run = Table(
    "evaluation_run",
    metadata,
    _seq(),
    _id(),
    _points_at("fine_tune"),
    Column("images_per_scene", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    _points_at("job"),
    _time("created_at"),
)

evaluation = Table(
    "evaluation",
    metadata,
    _seq(),
    _id(),
    _points_at("fine_tune"),
    _text("judge_digest"),
    Column("seed", BigInteger, nullable=False),
    _text("scores"),
    _text("rivals"),
    Column("outcome", String(16), nullable=False),
    _text("reasons"),
    _text("artifacts"),
    _time("created_at"),
)

template = Table(
    "template",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False),
    _sorted_name("name", 64),
    Column("version", Integer, nullable=False),
    _text("scene"),
    _time("created_at"),
    UniqueConstraint("namespace", "name", "version"),
)

generation = Table(
    "generation",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False),
    _text("prompt"),
    _text("resolved_prompt"),
    _points_at("base_model", name="base_id", nullable=True),
    Column("foreign_model", Text, nullable=True),
    _points_at("fine_tune", nullable=True),
    _text("sampling"),
    _text("code_revision"),
    _points_at("job", nullable=True),
    _points_at("template", nullable=True),
    _text("subjects"),
    _time("created_at"),
    Index(None, "namespace", "seq"),
)

generated_image = Table(
    "generated_image",
    metadata,
    _seq(),
    _id(),
    _points_at("generation"),
    Column("number", Integer, nullable=False),
    Column("seed", BigInteger, nullable=True),
    Column("sha256", String(64), nullable=False, index=True),
    UniqueConstraint("generation_id", "number"),
)

batch = Table(
    "batch",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False),
    _text("sampling"),
    _text("own_settings"),
    _text("variables"),
    _text("code_revision"),
    _points_at("job"),
    _time("created_at"),
    Index(None, "namespace", "seq"),
)

batch_item = Table(
    "batch_item",
    metadata,
    _seq(),
    _id(),
    _points_at("batch"),
    Column("number", Integer, nullable=False),
    _points_at("category"),
    _points_at("template"),
    _points_at("generation", nullable=True),
    UniqueConstraint("batch_id", "number"),
)

item_failure = Table(
    "item_failure",
    metadata,
    _seq(),
    _id(),
    _points_at("batch"),
    Column("item_id", String(64), ForeignKey("batch_item.id"), nullable=False, unique=True),
    _text("error"),
    _text("message"),
    _time("created_at"),
)

api_key = Table(
    "api_key",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False),
    _text("name"),
    _text("scopes"),
    Column("sha256", String(64), nullable=False, unique=True),
    _time("created_at"),
    _time("revoked_at", nullable=True),
)

reply = Table(
    "reply",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False),
    Column("key", String(255), nullable=False),
    _digest("fingerprint"),
    _text("body"),
    _time("created_at"),
    UniqueConstraint("namespace", "key"),
)

usage = Table(
    "usage",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False),
    _points_at("category", nullable=True),
    _points_at("job", nullable=True),
    Column("kind", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("num_images", Integer, nullable=False),
    Column("num_steps", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("fees", Float, nullable=False),
    _time("created_at"),
    Index(None, "namespace", "created_at"),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False),
    _text("actor"),
    Column("action", String(32), nullable=False),
    _text("subject"),
    _text("reason"),
    Column("request_id", String(64), nullable=False),
    _time("created_at"),
    Index(None, "namespace", "seq"),
)

quota = Table(
    "quota",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False, index=True),
    Column("requests_per_minute", Integer, nullable=True),
    Column("max_unfinished_jobs", Integer, nullable=True),
    _time("created_at"),
)

webhook = Table(
    "webhook",
    metadata,
    _seq(),
    _id(),
    Column("namespace", String(64), nullable=False, index=True),
    _text("url"),
    _text("secret"),
    _time("created_at"),
    _time("disabled_at", nullable=True),
)

delivery = Table(
    "delivery",
    metadata,
    _seq(),
    _id(),
    _points_at("webhook"),
    _points_at("job"),
    Column("event", String(32), nullable=False),
    _text("body"),
    Column("status", String(16), nullable=False),
    Column("num_attempts", Integer, nullable=False),
    _time("due_at"),
    _text("last_error"),
    _time("created_at"),
    Index(None, "status", "seq"),
)

engine_work = Table(
    "engine_work",
    metadata,
    _seq(),
    _id(),
    _text("totals"),
    _time("created_at"),
)
