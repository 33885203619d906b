"""Values of one column: times and lists of files as text."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from packshot.domain.models import Artifact

Row = Mapping[str, Any]


def time_to_text(time: datetime) -> str:
    """``time`` in UTC, to the microsecond, always 32 characters long."""
    assert time.tzinfo is not None, f"{time!r} has no time zone; use datetime.now(UTC)"
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def text_to_time(text: str) -> datetime:
    """The inverse of ``time_to_text``."""
    return datetime.fromisoformat(text)


def optional_time_to_text(time: datetime | None) -> str | None:
    """As ``time_to_text``; None stays None."""
    return None if time is None else time_to_text(time)


def text_to_optional_time(text: str | None) -> datetime | None:
    """As ``text_to_time``; None stays None."""
    return None if text is None else text_to_time(text)


def artifacts_to_text(artifacts: Iterable[Artifact]) -> str:
    """A list of stored files as JSON."""
    return json.dumps([asdict(artifact) for artifact in artifacts])


def artifacts_from_text(text: str) -> tuple[Artifact, ...]:
    """The inverse of ``artifacts_to_text``."""
    return tuple(Artifact(**entry) for entry in json.loads(text))
