"""Record ↔ row for access: API keys, and replies to requests with an idempotency key."""

import json

from packshot.domain.access import ApiKey, Reply, Scope
from packshot.storage.rows.values import Row, optional_time_to_text, text_to_optional_time, text_to_time, time_to_text


def api_key_to_row(key: ApiKey) -> Row:
    """Scopes become JSON."""
    return {
        **vars(key),
        "scopes": json.dumps(key.scopes),
        "created_at": time_to_text(key.created_at),
        "revoked_at": optional_time_to_text(key.revoked_at),
    }


def api_key_from_row(row: Row) -> ApiKey:
    """The inverse of ``api_key_to_row``."""
    return ApiKey(
        id=row["id"],
        namespace=row["namespace"],
        name=row["name"],
        scopes=tuple(Scope(name) for name in json.loads(row["scopes"])),
        sha256=row["sha256"],
        created_at=text_to_time(row["created_at"]),
        revoked_at=text_to_optional_time(row["revoked_at"]),
    )


def reply_to_row(reply: Reply) -> Row:
    """Field by field."""
    return {**vars(reply), "created_at": time_to_text(reply.created_at)}


def reply_from_row(row: Row) -> Reply:
    """The inverse of ``reply_to_row``."""
    return Reply(
        id=row["id"],
        namespace=row["namespace"],
        key=row["key"],
        fingerprint=row["fingerprint"],
        body=row["body"],
        created_at=text_to_time(row["created_at"]),
    )
