"""Uploaded files and zip archives to one flat folder, as ``folders`` reads it. Does not decode; see ``decode``.

Nothing that an upload says is believed: names are checked in every form they may be read in, sizes are counted as
bytes arrive, and archives are bounded before their directory is parsed.
"""

import hashlib
import io
import re
import stat
import unicodedata
import zipfile
import zlib
from pathlib import Path
from typing import IO
from urllib.parse import unquote

from packshot.domain.errors import UploadRefused
from packshot.imaging.decode import MAX_FILE_BYTES

MAX_UPLOAD_BYTES = 200 * 2**20
MAX_UNPACKED_BYTES = 500 * 2**20
MAX_FILES = 300

_MAX_NAME_BYTES = 200
_MOST_TIMES = 20  # what an archive of photos or masks may unpack to, in its own size
_UNSAFE = re.compile(r"[/\\\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ud800-\udfff]")
_CHUNK = 2**20
_DIRECTORY_ENTRY = b"PK\x01\x02"
_ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OSError)


class Intake:
    """Takes the files of one upload into ``folder``, up to MAX_FILES and MAX_UNPACKED_BYTES in all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files_left = MAX_FILES
        self._bytes_left = MAX_UNPACKED_BYTES

    def take(self, name: str, stream: IO[bytes]) -> None:
        """Take one uploaded file; of a ``.zip`` archive every file that is not hidden, whatever folder it is in.

        Raises:
            UploadRefused: see the class ``domain.errors.UploadRefused``.
        """
        check_file_name(name)
        if not name.lower().endswith(".zip"):
            self._save(name, stream)
            return
        _check_num_entries(name, stream)
        try:
            with zipfile.ZipFile(stream) as archive:
                self._check_size(archive, name, num_bytes=stream.seek(0, io.SEEK_END))
                for entry in archive.infolist():
                    self._take_entry(archive, entry, name)
        except _ARCHIVE_ERRORS as error:
            raise UploadRefused(f"{name} cannot be unpacked ({error}); make the zip archive anew") from error

    def digest(self) -> str:
        """sha256 over names and bytes of everything taken, in whatever order it came."""
        together = hashlib.sha256()
        for file in sorted(self._folder.iterdir()):
            with file.open("rb") as stream:
                together.update(f"{file.name}\0{hashlib.file_digest(stream, 'sha256').hexdigest()}\0".encode())
        return together.hexdigest()

    def _check_size(self, archive: zipfile.ZipFile, name: str, *, num_bytes: int) -> None:
        """Refuse what would unpack to too much, by what its directory says: no more than that is read of an entry."""
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > self._bytes_left:
            raise _too_much()
        if unpacked > max(MAX_FILE_BYTES, _MOST_TIMES * num_bytes):
            raise UploadRefused(
                f"{name} unpacks to {unpacked // 2**20} MiB, more than {_MOST_TIMES} times its own size, as no photos do; "
                "send the photos themselves"
            )

    def _take_entry(self, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> None:
        parts = _checked_parts(entry, name)
        if entry.is_dir() or any(part.startswith(".") or part == "__MACOSX" for part in parts):
            return
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise UploadRefused(f"{entry.filename!r} in {name} is a link; put the file itself into the archive")
        if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UploadRefused(f"{entry.filename!r} in {name} is encrypted or packed in a rare way; zip it plainly")
        with archive.open(entry) as stream:
            self._save(parts[-1], stream)

    def _save(self, name: str, stream: IO[bytes]) -> None:
        """Keep at most one byte more than ``decode`` accepts, so that it sees (and says) that there was more."""
        self._files_left -= 1
        if self._files_left < 0:
            raise UploadRefused(f"more than {MAX_FILES} files at once; send them in several uploads")
        room = MAX_FILE_BYTES + 1
        try:
            with (self._folder / name).open("xb") as file:
                while room and (chunk := stream.read(min(_CHUNK, room))):
                    room -= len(chunk)
                    self._bytes_left -= len(chunk)
                    if self._bytes_left < 0:
                        raise _too_much()
                    file.write(chunk)
        except FileExistsError:
            raise UploadRefused(f"two files are called {name!r}; give every file a name of its own") from None


def _too_much() -> UploadRefused:
    return UploadRefused(f"more than {MAX_UNPACKED_BYTES // 2**20} MiB of photos at once; send several uploads")


def check_file_name(name: str) -> str:
    """Return ``name`` if it is a plain, visible file name, also percent-decoded, however often, and under NFKC.

    Raises:
        UploadRefused: empty, too long, hidden, a path, or with control characters.
    """
    read = name
    while (plainer := unicodedata.normalize("NFKC", unquote(read))) != read:
        read = plainer
    for form in (name, read):
        if not form.strip() or form.startswith(".") or _UNSAFE.search(form):
            raise UploadRefused(f"{name!r} is not a plain file name; send names such as 01.jpg, without a folder")
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise UploadRefused(f"the file name {name[:40]!r}… is longer than {_MAX_NAME_BYTES} bytes; shorten it")
    return name


def _checked_parts(entry: zipfile.ZipInfo, name: str) -> list[str]:
    """The folders and the file name of an entry; hidden ones are allowed here, and passed over later."""
    parts = entry.orig_filename.removesuffix("/").split("/")
    for part in parts:
        try:
            check_file_name(part.lstrip(".") or "..")
        except UploadRefused:
            raise UploadRefused(
                f"{entry.orig_filename!r} in {name} is not a path inside the archive; zip a plain folder of photos"
            ) from None
    return parts


def _check_num_entries(name: str, stream: IO[bytes]) -> None:
    """Count directory entries by their signature: parsing a directory of a million would take the memory first."""
    stream.seek(0)
    if stream.read(4) not in (b"PK\x03\x04", b"PK\x05\x06"):
        raise UploadRefused(f"{name} is not a zip archive; make it anew")
    stream.seek(0)
    count, tail = 0, b""
    while chunk := stream.read(_CHUNK):
        window = tail + chunk
        count += window.count(_DIRECTORY_ENTRY)
        tail = window[-len(_DIRECTORY_ENTRY) + 1 :]
        if count > MAX_FILES:
            raise UploadRefused(f"{name} has more than {MAX_FILES} entries; send fewer photos at once")
    stream.seek(0)
