"""Records as JSON text for other programs. Does not know what they mean."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from math import isfinite
from typing import cast


def to_json(value: object) -> str:
    """``value`` as JSON (RFC 8259), indented: records become objects, times ISO 8601, NaN and infinity null."""
    return json.dumps(_plain(value), indent=2, allow_nan=False)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in cast(Mapping[object, object], value).items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in cast(Sequence[object], value)]
    if isinstance(value, float) and not isfinite(value):
        return None
    return value.isoformat() if isinstance(value, datetime) else value
