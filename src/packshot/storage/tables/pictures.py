"""Tables of what is asked for and made: templates, generations, images, batches."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from packshot.storage.tables.columns import metadata, points_at, public_id, seq, sorted_name, text, time

template = Table(
    "template",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False),
    sorted_name("name", 64),
    Column("version", Integer, nullable=False),
    text("scene"),
    time("created_at"),
    UniqueConstraint("namespace", "name", "version"),
)

generation = Table(
    "generation",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False),
    text("prompt"),
    text("resolved_prompt"),
    points_at("base_model", name="base_id", nullable=True),
    Column("foreign_model", Text, nullable=True),
    points_at("fine_tune", nullable=True),
    text("sampling"),
    text("code_revision"),
    points_at("job", nullable=True),
    points_at("template", nullable=True),
    text("subjects"),
    time("created_at"),
    Index(None, "namespace", "seq"),
)

generated_image = Table(
    "generated_image",
    metadata,
    seq(),
    public_id(),
    points_at("generation"),
    Column("number", Integer, nullable=False),
    Column("seed", BigInteger, nullable=True),
    Column("sha256", String(64), nullable=False, index=True),
    UniqueConstraint("generation_id", "number"),
)

batch = Table(
    "batch",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False),
    text("sampling"),
    text("own_settings"),
    text("variables"),
    text("code_revision"),
    points_at("job"),
    time("created_at"),
    Index(None, "namespace", "seq"),
)

batch_item = Table(
    "batch_item",
    metadata,
    seq(),
    public_id(),
    points_at("batch"),
    Column("number", Integer, nullable=False),
    points_at("category"),
    points_at("template"),
    points_at("generation", nullable=True),
    UniqueConstraint("batch_id", "number"),
)

item_failure = Table(
    "item_failure",
    metadata,
    seq(),
    public_id(),
    points_at("batch"),
    Column("item_id", String(64), ForeignKey("batch_item.id"), nullable=False, unique=True),
    text("error"),
    text("message"),
    time("created_at"),
)
