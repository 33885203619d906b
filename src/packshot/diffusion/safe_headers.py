"""Looks at the header of a safetensors file before the library does, which takes keys twice and headers of 100 MB.

Of two entries with one name different readers take different ones, so such a file means nothing for certain.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_HEADER_BYTES = 16 * 2**20
_LENGTH_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Header:
    """What stands before the numbers: an entry per tensor, and how many bytes all that takes."""

    tensors: Mapping[str, Any]
    num_bytes: int


def read_header(path: Path) -> Header:
    """The header of a file, whose size and keys, at every depth, are checked.

    Raises:
        ValueError: too large, cut off, no JSON object, or a key that stands twice.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError(f"its header claims {length} bytes, more than {MAX_HEADER_BYTES}")
        text = file.read(length)
    try:
        entries = json.loads(text, object_pairs_hook=_each_once)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if len(text) < length or not isinstance(entries, dict):
        raise ValueError("its header is cut off, or no object")
    tensors = {name: entry for name, entry in entries.items() if name != "__metadata__"}
    return Header(tensors=tensors, num_bytes=_LENGTH_BYTES + length)


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"its header has the key {twice[:80]!r} twice")
    return found
