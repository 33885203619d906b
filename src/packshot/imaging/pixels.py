"""From any decoded Pillow image to plain 8-bit sRGB pixels, and back to PNG bytes.

Does not know where the image came from or whether it may be used; see ``decode``.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageOps

_MAX_PROFILE_BYTES = 4 * 2**20
_DIRECT_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV")
_TIFF_BITS_PER_SAMPLE, _TIFF_PHOTOMETRIC = 258, 262

# What Pillow's decoders let escape on damaged bytes; measured by the fuzz test in tests/unit/imaging.
PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    ArithmeticError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
)


class UnsupportedPixels(Exception):
    """A pixel format with no agreed meaning as a photo, such as floating point; mapped to ImageRefused in decode."""


def upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """``image`` turned as its EXIF orientation says, and whether it had to be; damaged EXIF counts as none."""
    try:
        orientation = image.getexif().get(0x0112, 1)
    except PILLOW_ERRORS:
        orientation = 1
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation if isinstance(orientation, int) else 1)
    return (image, False) if turn is None else (image.transpose(turn), True)


def to_rgb(image: Image.Image) -> tuple[Image.Image, Image.Image | None, tuple[str, ...]]:
    """8-bit sRGB pixels on white, the alpha channel ("L") or None where fully opaque, and notes for the user.

    An embedded ICC profile is applied; 16-bit samples are scaled, not clipped.

    Raises:
        UnsupportedPixels: floating point, 32-bit or Lab samples.
    """
    notes: list[str] = []
    if image.mode.startswith("I;") or (image.mode == "I" and image.format == "PNG"):
        image = _from_16_bit(image)
        notes.append("16 bits per channel reduced to 8")
    if image.mode not in _DIRECT_MODES:
        raise UnsupportedPixels(f"pixels of the kind {image.mode!r}")
    if image.mode == "CMYK":
        notes.append("converted from CMYK")
    alpha = _alpha(image)
    colour, profile_note = _to_srgb(image)
    if profile_note:
        notes.append(profile_note)
    if alpha is not None:
        white = Image.new("RGB", colour.size, (255, 255, 255))
        colour = Image.composite(colour, white, alpha)
        notes.append("transparency flattened on white")
    return colour, alpha, tuple(notes)


def encode_png(image: Image.Image) -> bytes:
    """``image`` as PNG bytes that depend on its pixels alone: no metadata, no time, fixed compression."""
    image.info = {}
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=6, icc_profile=None, exif=None)
    return buffer.getvalue()


def open_png(png: bytes) -> Image.Image:
    """The RGB image in PNG bytes that this package or a generator made. Not for untrusted bytes: see ``decode``."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return image.convert("RGB")


def mirrored(png: bytes) -> bytes:
    """Such a picture with left and right exchanged, or a mask that goes with one."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        return encode_png(ImageOps.mirror(image))


def _from_16_bit(image: Image.Image) -> Image.Image:
    """An "I;16"-like or 16-bit "I" image as "L" (or "LA" with a transparent level), scaled from its full range."""
    values = np.asarray(image).astype(np.int64)
    tags: dict[int, object] = dict(getattr(image, "tag_v2", {}))
    bits = tags.get(_TIFF_BITS_PER_SAMPLE, (16,))
    top = 4095 if isinstance(bits, tuple) and bits[:1] == (12,) else 65535
    grey = (np.clip(values, 0, top) * 255 + top // 2) // top
    if tags.get(_TIFF_PHOTOMETRIC) == 0:
        grey = 255 - grey
    result = Image.fromarray(grey.astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        result.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    result.info = {key: value for key, value in image.info.items() if key == "icc_profile"}
    return result


def _alpha(image: Image.Image) -> Image.Image | None:
    if not image.has_transparency_data:
        return None
    alpha = image.convert("RGBA").getchannel("A")
    lowest, _ = alpha.getextrema()
    return None if lowest == 255 else alpha


def _to_srgb(image: Image.Image) -> tuple[Image.Image, str]:
    """RGB pixels without alpha, by the embedded ICC profile where there is a usable one, and a note or ""."""
    profile = image.info.get("icc_profile")
    mode = {"L": "L", "LA": "L", "1": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    # A palette may hold a transparent entry as bytes, which only the way over RGBA reads quietly.
    plain = image.convert("RGBA").convert("RGB") if mode == "RGB" and image.mode != "RGB" else image.convert(mode)
    if not isinstance(profile, bytes) or not 128 <= len(profile) <= _MAX_PROFILE_BYTES:
        return plain.convert("RGB"), ""
    space = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}.get(profile[16:20])
    if space != mode or b"sRGB" in profile or "sRGB".encode("utf-16-be") in profile:
        return plain.convert("RGB"), ""
    try:
        converted = ImageCms.profileToProfile(
            plain,
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
        )
    except (ImageCms.PyCMSError, *PILLOW_ERRORS):
        return plain.convert("RGB"), "the embedded colour profile is damaged and was not used"
    assert converted is not None
    return converted, "converted from its colour profile to sRGB"
