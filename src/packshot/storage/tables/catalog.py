"""Tables of the catalog: categories, their reference photos and sets, and bases."""

from sqlalchemy import Boolean, Column, Index, Integer, String, Table, UniqueConstraint

from packshot.storage.tables.columns import digest, metadata, points_at, public_id, seq, sorted_name, text, time

category = Table(
    "category",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False),
    sorted_name("path", 200),
    text("class_noun"),
    text("identifier"),
    text("identifier_fold"),
    time("created_at"),
    time("retired_at", nullable=True),
    UniqueConstraint("namespace", "path"),
    UniqueConstraint("namespace", "identifier_fold"),
    Index(None, "namespace", "identifier"),
)

reference_image = Table(
    "reference_image",
    metadata,
    seq(),
    public_id(),
    points_at("category"),
    text("file_name"),
    digest("original"),
    digest("image", nullable=True),
    digest("mask", nullable=True),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    text("caption"),
    text("source"),
    text("license"),
    Column("refusal", String(32), nullable=True),
    text("explanation"),
    time("added_at"),
)

reference_set = Table(
    "reference_set",
    metadata,
    seq(),
    public_id(),
    points_at("category"),
    Column("version", Integer, nullable=False),
    digest("digest"),
    time("frozen_at"),
    UniqueConstraint("category_id", "version"),
)

reference_set_member = Table(
    "reference_set_member",
    metadata,
    seq(),
    points_at("reference_set"),
    points_at("reference_image"),
    Column("held_out", Boolean, nullable=False),
    Column("position", Integer, nullable=False),
    UniqueConstraint("reference_set_id", "held_out", "position", name="uq_reference_set_member_place"),
    UniqueConstraint("reference_set_id", "held_out", "reference_image_id", name="uq_reference_set_member_once"),
)

base_model = Table(
    "base_model",
    metadata,
    seq(),
    public_id(),
    text("source"),
    text("revision"),
    digest("digest"),
    Column("family", String(64), nullable=False),
    Column("resolution", Integer, nullable=False),
    time("registered_at"),
    UniqueConstraint("digest", "source"),
)
