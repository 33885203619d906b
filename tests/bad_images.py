"""Makers of image files that are unusual or bad."""

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image

EDGE = 48


def picture(mode: str = "RGB", size: tuple[int, int] = (EDGE, EDGE)) -> Image.Image:
    """A smooth picture: red grows to the right, green downwards."""
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([across, down, np.full_like(across, 128)], axis=2).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_header(width: int, height: int, body: bytes = b"") -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", body or zlib.compress(bytes(1000))) + png_chunk(b"IEND", b"")
    )


def animation(form: str) -> bytes:
    frames = [picture(), picture().transpose(Image.Transpose.ROTATE_90)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


def zip_bytes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.jpg", encoded(picture(), "JPEG"))
    return buffer.getvalue()


def webp_of_header(width: int, height: int) -> bytes:
    body = struct.pack("<I", 0) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunk = b"VP8X" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(chunk) + 4) + b"WEBP" + chunk


def tiled_tiff(tile: int) -> bytes:
    tags = [(256, 8), (257, 8), (258, 8), (259, 1), (262, 1), (277, 1), (322, tile), (323, tile), (324, 8), (325, 64)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(tags)) + entries + bytes(100)


def bmp_of_header(width: int, height: int) -> bytes:
    return (
        b"BM" + struct.pack("<IHHI", 10_000, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )
