"""Untrusted image files to upright 8-bit RGB PNGs, or a refusal with a typed reason.

Bounds are checked on the header before a pixel is decoded, and what the bytes are is decided from the bytes, never
from the name. Does not know whether a photo is a good reference; see ``curation``.
"""

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, ImageFile

from packshot.domain.errors import ImageRefused, RefusalReason
from packshot.imaging.pixels import PILLOW_ERRORS, UnsupportedPixels, encode_png, to_rgb, upright

MAX_FILE_BYTES = 50 * 2**20
MAX_PIXELS = 64_000_000
MAX_KEPT_EDGE = 2048

_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"BM", "BMP"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
)
_FOREIGN = (
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop document"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL picture"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
)
_MAX_JPEG_SCANS = 100
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323


@dataclass(frozen=True, kw_only=True)
class DecodedImage:
    """A photo as the rest of Packshot sees it.

    ``png`` is an 8-bit RGB PNG of ``width`` x ``height`` pixels without metadata; ``alpha_mask`` an 8-bit grey PNG of
    the same size where the file's own transparency outlined the product; ``notes`` say what was converted.
    """

    png: bytes
    width: int
    height: int
    alpha_mask: bytes | None
    notes: tuple[str, ...]


def decode_reference(data: bytes, file_name: str) -> DecodedImage:
    """The photo in ``data``: upright, sRGB, 8 bits, on white where it was transparent, at most 2048 pixels long.

    Equal pixels give equal PNG bytes. ``file_name`` appears in messages only.

    Raises:
        ImageRefused: with the reason and how to mend it.
    """
    image, notes = _open(data, file_name)
    with _pillow_errors(image.format or "picture", file_name):
        image, turned = upright(image)
        colour, alpha, more_notes = to_rgb(image)
    notes = (*notes, *(("turned upright as its EXIF data says",) if turned else ()), *more_notes)
    if max(colour.size) > MAX_KEPT_EDGE:
        notes = (*notes, f"reduced from {colour.width} x {colour.height} pixels")
        colour.thumbnail((MAX_KEPT_EDGE, MAX_KEPT_EDGE), Image.Resampling.LANCZOS, reducing_gap=3.0)
        alpha = alpha and alpha.resize(colour.size, Image.Resampling.BOX)
    return DecodedImage(
        png=encode_png(colour),
        width=colour.width,
        height=colour.height,
        alpha_mask=encode_png(alpha) if alpha is not None and _outlines_something(alpha) else None,
        notes=notes,
    )


def decode_picture(data: bytes, name: str) -> bytes:
    """The picture in ``data`` as an 8-bit RGB PNG without metadata, as large as it is; on white where it was transparent.

    Raises:
        ImageRefused: with the reason; ``name`` appears in the message.
    """
    image, _ = _open(data, name)
    with _pillow_errors(image.format or "picture", name):
        colour, _, _ = to_rgb(upright(image)[0])
    return encode_png(colour)


def decode_mask(data: bytes, size: tuple[int, int], file_name: str = "mask") -> bytes:
    """The product mask in ``data`` as an 8-bit grey PNG of ``size`` (width, height) pixels, product = 255.

    Transparency outlines the product where there is any, brightness otherwise. A mask of another size but the same
    proportions (within 2 %) is resized.

    Raises:
        ImageRefused: not a picture, other proportions than the photo, or nothing (or everything) is marked.
    """
    image, _ = _open(data, file_name)
    with _pillow_errors(image.format or "picture", file_name):
        image, _ = upright(image)
        colour, alpha, _ = to_rgb(image)
    mask = colour.convert("L") if alpha is None else alpha
    width, height = size
    if abs(mask.width * height - mask.height * width) > 0.02 * mask.height * width:
        raise ImageRefused(
            RefusalReason.UNREADABLE,
            f"{file_name} is {mask.width} x {mask.height} pixels and its photo {width} x {height}; "
            "draw the mask on the photo as it is seen upright",
        )
    if mask.size != size:
        mask = mask.resize(size, Image.Resampling.BILINEAR)
    if not _outlines_something(mask):
        raise ImageRefused(
            RefusalReason.UNREADABLE,
            f"{file_name} does not mark a product (grey values {mask.getextrema()[0]} to {mask.getextrema()[1]}); "
            "write the product as white (255) on black (0)",
        )
    return encode_png(mask)


def _open(data: bytes, file_name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """The decoded image behind all bounds; refuses by the header alone where it can."""
    if len(data) > MAX_FILE_BYTES:
        raise ImageRefused(
            RefusalReason.FILE_TOO_LARGE,
            f"{file_name} is over {MAX_FILE_BYTES // 2**20} MiB; save it as a JPEG of {MAX_KEPT_EDGE} pixels or less",
        )
    form = _sniff(data, file_name)
    if form == "JPEG" and data.count(b"\xff\xda") > _MAX_JPEG_SCANS:
        raise ImageRefused(
            RefusalReason.UNREADABLE, f"{file_name} has more than {_MAX_JPEG_SCANS} JPEG scans; save it anew"
        )
    if form == "WEBP":
        _check_webp(data, file_name)
    with _pillow_errors(form, file_name):
        image = Image.open(io.BytesIO(data), formats=[form])
        _check_size(image.size, file_name)
        _check_tiles(image, file_name)
        _check_still(image, form, file_name)
        _check_size(image.size, file_name)  # a frame of a GIF may have enlarged it
        image.load()
    notes = () if file_name.lower().endswith(_SUFFIXES[form]) or "." not in file_name else (f"is a {form} file",)
    return image, notes


_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
}


def _sniff(data: bytes, file_name: str) -> str:
    if not data:
        raise ImageRefused(RefusalReason.UNREADABLE, f"{file_name} is empty (0 bytes); copy the photo again")
    for magic, form in _MAGIC:
        if data.startswith(magic):
            return form
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    raise ImageRefused(
        RefusalReason.UNSUPPORTED_FORMAT,
        f"{file_name} is not a picture that can be read, it looks like {_guess(data)}; "
        f"save the photo as one of {', '.join(_FORMATS)}",
    )


def _guess(data: bytes) -> str:
    for magic, name in _FOREIGN:
        if data.startswith(magic):
            return name
    if data[4:8] == b"ftyp":
        return "a HEIC or AVIF picture" if data[8:12] in (b"heic", b"heix", b"mif1", b"avif") else "a video"
    head = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith((b"<svg", b"<?xml", b"<!DOCTYPE", b"<html")):
        return "an SVG, HTML or XML document"
    return "other binary data" if b"\x00" in data[:512] or not data[:512].isascii() else "plain text"


def _check_size(size: tuple[int, int], file_name: str) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_many_pixels(f"{file_name} is {width} x {height} pixels")


def _too_many_pixels(what: str) -> ImageRefused:
    return ImageRefused(
        RefusalReason.TOO_MANY_PIXELS,
        f"{what}; at most {MAX_PIXELS // 1_000_000} million pixels are decoded, make it smaller",
    )


def _check_tiles(image: Image.Image, file_name: str) -> None:
    """A TIFF may ask for a tile far larger than its picture; the decoder would allocate it."""
    tags: dict[int, object] = dict(getattr(image, "tag_v2", {}))
    width, height = tags.get(_TIFF_TILE_WIDTH, 1), tags.get(_TIFF_TILE_LENGTH, 1)
    if isinstance(width, int) and isinstance(height, int):
        _check_size((width, height), file_name)


def _check_webp(data: bytes, file_name: str) -> None:
    """Bounds of a WebP by its own header: Pillow's decoder allocates the canvas when it opens the file."""
    if struct.unpack_from("<I", data, 4)[0] + 8 > len(data):
        raise _truncated(file_name)
    kind, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise _truncated(file_name)
    if kind == b"VP8X":
        size = (int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1)
    elif kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        size = ((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    else:
        size = (int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF)
    _check_size(size, file_name)
    if kind == b"VP8X" and body[0] & 0x02:
        raise _animated(file_name)


def _check_still(image: Image.Image, form: str, file_name: str) -> None:
    """Phones write JPEGs with a second, hidden picture; in every other format more than one frame is refused."""
    if form == "JPEG":
        return
    try:
        image.seek(1)
    except EOFError:
        image.seek(0)
        return
    raise _animated(file_name)


def _animated(file_name: str) -> ImageRefused:
    return ImageRefused(
        RefusalReason.ANIMATED, f"{file_name} has several frames or pages; save the one to learn from as a still"
    )


def _truncated(file_name: str) -> ImageRefused:
    return ImageRefused(RefusalReason.TRUNCATED, f"{file_name} ends in the middle of the picture; copy it again")


def _outlines_something(mask: Image.Image) -> bool:
    """Whether between 0.5 % and 99.5 % of a mask is product."""
    histogram = mask.histogram()
    share = sum(histogram[128:]) / sum(histogram)
    return 0.005 <= share <= 0.995


@contextmanager
def _pillow_errors(form: str, file_name: str) -> Iterator[None]:
    """Map what Pillow raises; its warnings about harmless damage are silenced, since the pixels decide."""
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except ImageRefused:
        raise
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(f"{file_name} is too large a picture ({error})") from None
    except UnsupportedPixels as error:
        raise ImageRefused(
            RefusalReason.UNSUPPORTED_FORMAT, f"{file_name} has {error}; save it with 8 or 16 bits per channel"
        ) from None
    except (*PILLOW_ERRORS, MemoryError) as error:
        if isinstance(error, EOFError) or "truncated" in str(error).lower():
            raise _truncated(file_name) from None
        raise ImageRefused(
            RefusalReason.UNREADABLE, f"{file_name} is a damaged {form} file ({error}); export it again"
        ) from None
