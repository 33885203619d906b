"""Photos, captions and masks as users keep them: files and folders. Does not decode; see ``decode``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packshot.domain.errors import ImageRefused, InvalidInput, RefusalReason
from packshot.domain.prompts import check_caption
from packshot.imaging.decode import MAX_FILE_BYTES

CAPTIONS_FILE = "metadata.jsonl"
_PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".heic", ".avif")
_MASK_ENDING = "_mask"
_MAX_TEXT_BYTES = 2**20


@dataclass(frozen=True, kw_only=True)
class Photo:
    """One photo on disk with what lies beside it. The bytes are read anew each time they are asked for.

    ``url`` is where it was fetched from; ``missing`` says why nothing came from there, and then there is no file.
    """

    path: Path
    caption: str = ""
    mask_path: Path | None = None
    url: str = ""
    missing: str = ""

    @property
    def file_name(self) -> str:
        """The name without its folder."""
        return self.path.name

    @property
    def data(self) -> bytes:
        """The bytes of the photo; of a file over ``MAX_FILE_BYTES`` one byte more than that, which ``decode`` refuses.

        Raises:
            InvalidInput: the file cannot be read.
            ImageRefused: it could not be fetched.
        """
        if self.missing:
            raise ImageRefused(RefusalReason.UNREACHABLE, self.missing)
        return _read(self.path)

    @property
    def mask(self) -> bytes | None:
        """The bytes of the mask, or None where there is none; bound and errors as ``data``."""
        return _read(self.mask_path) if self.mask_path else None


def read_photos(paths: Sequence[Path]) -> list[Photo]:
    """The photos among ``paths``: files as given, folders by their pictures, sorted by name and not recursive.

    A caption comes from ``photo.txt`` beside ``photo.jpg``, or from the folder's ``metadata.jsonl`` (``file_name``,
    ``text``); a mask from ``photo_mask.png``. In a folder, hidden files, masks, files that are no pictures by name,
    and links that lead out of the folder are passed over; a photo that is named twice counts once.

    Raises:
        InvalidInput: a path does not exist, a folder holds no picture, or a line of ``metadata.jsonl`` is malformed.
    """
    found: dict[Path, Photo] = {}
    for path in paths:
        if not path.exists():
            raise InvalidInput(f"{path} does not exist; give a folder or files with photos")
        files = _pictures(path) if path.is_dir() else [path]
        captions = _captions((path if path.is_dir() else path.parent) / CAPTIONS_FILE)
        for file in files:
            mask = file.with_name(f"{file.stem}{_MASK_ENDING}.png")
            found.setdefault(
                file.resolve(),
                Photo(
                    path=file,
                    caption=_caption_beside(file) or captions.get(file.name, ""),
                    mask_path=mask if mask.is_file() and _inside(mask, file.parent) else None,
                ),
            )
    return list(found.values())


def _pictures(folder: Path) -> list[Path]:
    pictures = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in _PHOTO_SUFFIXES
        and not file.name.startswith(".")
        and not file.stem.endswith(_MASK_ENDING)
        and file.is_file()
        and _inside(file, folder)
    )
    if not pictures:
        raise InvalidInput(f"{folder} holds no pictures ({', '.join(_PHOTO_SUFFIXES)}); folders inside it are not read")
    return pictures


def _inside(file: Path, folder: Path) -> bool:
    return file.resolve().is_relative_to(folder.resolve())


def _caption_beside(file: Path) -> str:
    beside = file.with_suffix(".txt")
    if not beside.is_file() or not _inside(beside, file.parent):
        return ""
    return check_caption(" ".join(_read_text(beside).split()))


def _captions(file: Path) -> dict[str, str]:
    if not file.is_file() or not _inside(file, file.parent):
        return {}
    captions: dict[str, str] = {}
    for number, line in enumerate(_read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or not isinstance(row.get("file_name"), str):
            raise _malformed(file, number, line)
        text = row.get("text", "")
        if not isinstance(text, str):
            raise _malformed(file, number, line)
        captions[row["file_name"]] = check_caption(" ".join(text.split()))
    return captions


def _malformed(file: Path, number: int, line: str) -> InvalidInput:
    return InvalidInput(
        f"line {number} of {file} is {line[:80]!r}; "
        'write one JSON object a line: {"file_name": "photo.jpg", "text": "a photo of an apple on wood"}'
    )


def _read_text(file: Path) -> str:
    if file.stat().st_size > _MAX_TEXT_BYTES:
        raise InvalidInput(f"{file} has {file.stat().st_size} bytes; captions are read up to {_MAX_TEXT_BYTES}")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{file} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read ({error.strerror}); check that it is a file you may read") from None
