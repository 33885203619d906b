"""Tables of what learns and is judged: trainings, fine-tunes, aliases, evaluations."""

from sqlalchemy import BigInteger, Column, Integer, String, Table, Text, UniqueConstraint

from packshot.storage.tables.columns import metadata, points_at, public_id, seq, text, time

training_run = Table(
    "training_run",
    metadata,
    seq(),
    public_id(),
    points_at("category"),
    points_at("reference_set"),
    points_at("base_model", name="base_id"),
    text("config"),
    text("code_revision"),
    points_at("job"),
    time("created_at"),
)

fine_tune = Table(
    "fine_tune",
    metadata,
    seq(),
    public_id(),
    points_at("category"),
    Column("version", Integer, nullable=False),
    points_at("training_run", nullable=True),
    Column("imported", Text, nullable=True),
    points_at("fine_tune", name="compressed_from_id", nullable=True),
    points_at("base_model", name="base_id"),
    Column("method", String(32), nullable=False),
    text("token"),
    text("trained_phrase"),
    text("artifacts"),
    text("code_revision"),
    time("created_at"),
    UniqueConstraint("category_id", "version"),
)

alias_event = Table(
    "alias_event",
    metadata,
    seq(),
    public_id(),
    points_at("category"),
    Column("number", Integer, nullable=False),
    points_at("fine_tune"),
    Column("action", String(16), nullable=False),
    text("reason"),
    time("created_at"),
    UniqueConstraint("category_id", "number"),
)

evaluation_run = Table(
    "evaluation_run",
    metadata,
    seq(),
    public_id(),
    points_at("fine_tune"),
    Column("images_per_scene", Integer, nullable=False),
    Column("seed", BigInteger, nullable=False),
    points_at("job"),
    time("created_at"),
)

evaluation = Table(
    "evaluation",
    metadata,
    seq(),
    public_id(),
    points_at("fine_tune"),
    text("judge_digest"),
    Column("seed", BigInteger, nullable=False),
    text("scores"),
    text("rivals"),
    Column("outcome", String(16), nullable=False),
    text("reasons"),
    text("artifacts"),
    time("created_at"),
)
