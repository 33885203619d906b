"""Where bytes are kept, by their digest."""

from collections.abc import Iterator
from typing import Protocol


class Blobs(Protocol):
    """Content-addressed bytes: the name of a blob is its sha256."""

    def put(self, data: bytes) -> str:
        """Store ``data``; returns its sha256. Storing the same bytes twice is one blob."""
        ...

    def get(self, sha256: str) -> bytes:
        """The bytes. Raises NotFound, or CorruptArtifact where they do not match their name."""
        ...

    def __contains__(self, sha256: str) -> bool:
        """Whether the blob exists."""
        ...

    def __iter__(self) -> Iterator[str]:
        """The names of all blobs."""
        ...
