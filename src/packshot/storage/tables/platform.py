"""Tables of the platform's own: jobs and turns, keys, replies, usage, audit, quotas, webhooks, engines."""

from sqlalchemy import Column, Float, Index, Integer, String, Table, UniqueConstraint

from packshot.storage.tables.columns import digest, metadata, points_at, public_id, seq, text, time

job = Table(
    "job",
    metadata,
    seq(),
    public_id(),
    Column("kind", String(32), nullable=False),
    Column("subject_id", String(64), nullable=False, index=True),
    Column("status", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    text("worker"),
    time("lease_expires_at", nullable=True),
    Column("progress", Float, nullable=False),
    text("message"),
    Column("namespace", String(64), nullable=False),
    Column("priority", Integer, nullable=False),
    time("created_at"),
    time("finished_at", nullable=True),
    Index(None, "status", "seq"),
    Index(None, "status", "namespace", "priority", "seq"),
    Index(None, "namespace", "seq"),
)

turn = Table(
    "turn",
    metadata,
    seq(),
    Column("namespace", String(64), nullable=False, unique=True),
    Column("number", Integer, nullable=False),
)

api_key = Table(
    "api_key",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False),
    text("name"),
    text("scopes"),
    Column("sha256", String(64), nullable=False, unique=True),
    time("created_at"),
    time("revoked_at", nullable=True),
)

reply = Table(
    "reply",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False),
    Column("key", String(255), nullable=False),
    digest("fingerprint"),
    text("body"),
    time("created_at"),
    UniqueConstraint("namespace", "key"),
)

usage = Table(
    "usage",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False),
    points_at("category", nullable=True),
    points_at("job", nullable=True),
    Column("kind", String(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("num_images", Integer, nullable=False),
    Column("num_steps", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("fees", Float, nullable=False),
    time("created_at"),
    Index(None, "namespace", "created_at"),
)

audit_entry = Table(
    "audit_entry",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False),
    text("actor"),
    Column("action", String(32), nullable=False),
    text("subject"),
    text("reason"),
    Column("request_id", String(64), nullable=False),
    time("created_at"),
    Index(None, "namespace", "seq"),
)

quota = Table(
    "quota",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False, index=True),
    Column("requests_per_minute", Integer, nullable=True),
    Column("max_unfinished_jobs", Integer, nullable=True),
    time("created_at"),
)

webhook = Table(
    "webhook",
    metadata,
    seq(),
    public_id(),
    Column("namespace", String(64), nullable=False, index=True),
    text("url"),
    text("secret"),
    time("created_at"),
    time("disabled_at", nullable=True),
)

delivery = Table(
    "delivery",
    metadata,
    seq(),
    public_id(),
    points_at("webhook"),
    points_at("job"),
    Column("event", String(32), nullable=False),
    text("body"),
    Column("status", String(16), nullable=False),
    Column("num_attempts", Integer, nullable=False),
    time("due_at"),
    text("last_error"),
    time("created_at"),
    Index(None, "status", "seq"),
)

engine_work = Table(
    "engine_work",
    metadata,
    seq(),
    public_id(),
    text("totals"),
    time("created_at"),
)
