"""Implements Blobs with obstore: a folder now, any object store by the same calls. Does not know what the bytes are.

A blob lies under ``ab/cd/<sha256>``. A write goes to a temporary name and is renamed, so a blob is there whole or not
at all; reading checks the digest each time.
"""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore

from packshot.domain.errors import CorruptArtifact, NotFound, WorkspaceUnusable

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ObstoreBlobs:
    """Content-addressed bytes in an object store; ``where`` names the store in messages."""

    def __init__(self, store: ObjectStore, where: str, *, folder: Path | None = None) -> None:
        self._store = store
        self._where = where
        self._folder = folder
        self._lasting: set[Path] = set()  # folders whose own entries are known to be on the disk

    @classmethod
    def folder(cls, folder: Path) -> Self:
        """Blobs in a local folder, which is made where it is missing.

        Raises:
            WorkspaceUnusable: the folder cannot be made or read.
        """
        with _mapped_failures(str(folder)):
            store = LocalStore(folder, mkdir=True)
        return cls(store, str(folder), folder=folder)

    def put(self, data: bytes) -> str:
        """Store ``data``; see the port. Raises WorkspaceUnusable where there is no room."""
        sha256 = hashlib.sha256(data).hexdigest()
        with _mapped_failures(self._where):
            # Overwrites what is there: the bytes are the same, unless the old copy is damaged and this one mends it.
            obstore.put(self._store, _key(sha256), data, mode="overwrite", use_multipart=False)
            if self._folder is not None:
                self._flush(self._folder / _key(sha256))
        return sha256

    def _flush(self, file: Path) -> None:
        """Bring a file and its entries in the folders above to the disk, so that no record outlives its blob."""
        _sync(file)
        _sync(file.parent)
        if file.parent not in self._lasting:
            for path in file.parents[1:3]:
                _sync(path)
            self._lasting.add(file.parent)

    def get(self, sha256: str) -> bytes:
        """The bytes, checked against their name; see the port."""
        missing = NotFound(f"there is no blob {sha256!r} in {self._where}")
        if not _SHA256.fullmatch(sha256):
            raise missing
        with _mapped_failures(self._where):
            try:
                data = obstore.get(self._store, _key(sha256)).bytes().to_bytes()
            except FileNotFoundError:
                raise missing from None
        actual = hashlib.sha256(data).hexdigest()
        if actual != sha256:
            raise CorruptArtifact(
                f"the blob {sha256} is damaged: {self._where}/{_key(sha256)} holds {len(data)} bytes with the sha256 "
                f"{actual}; restore that file from a backup"
            )
        return data

    def __contains__(self, sha256: str) -> bool:
        """Whether the blob exists; its bytes are not read."""
        if not _SHA256.fullmatch(sha256):
            return False
        with _mapped_failures(self._where):
            try:
                obstore.head(self._store, _key(sha256))
            except FileNotFoundError:
                return False
        return True

    def __iter__(self) -> Iterator[str]:
        """The names of all blobs; other files are passed over."""
        with _mapped_failures(self._where):
            for chunk in obstore.list(self._store):
                for entry in chunk:
                    name = entry["path"].rsplit("/", 1)[-1]
                    if _SHA256.fullmatch(name) and entry["path"] == _key(name):
                        yield name


def _key(sha256: str) -> str:
    return f"{sha256[:2]}/{sha256[2:4]}/{sha256}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _mapped_failures(where: str) -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        cause = str(error).splitlines()[0]
        advice = "free some disk space and try again" if "No space left" in str(error) else "check that it is writable"
        raise WorkspaceUnusable(f"the blobs in {where} cannot be reached: {cause}; {advice}") from error
