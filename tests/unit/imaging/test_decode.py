"""Every way in which an untrusted file can be bad, made on the spot, and every way in which it can be unusual."""

import io
import resource
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from bad_images import (
    EDGE,
    animation,
    bmp_of_header,
    encoded,
    picture,
    png_chunk,
    png_of_header,
    tiled_tiff,
    webp_of_header,
    zip_bytes,
)
from PIL import Image, ImageCms

from packshot.domain.errors import ImageRefused, RefusalReason
from packshot.imaging import decode
from packshot.imaging.decode import DecodedImage, decode_mask, decode_reference

STILL = ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"]


def pixels(png: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image).astype(np.int64)


def refusal(data: bytes, name: str = "photo.jpg") -> ImageRefused:
    with pytest.raises(ImageRefused) as caught:
        decode_reference(data, name)
    assert name in str(caught.value)
    return caught.value


def test_an_ordinary_photo_keeps_its_pixels() -> None:
    decoded = decode_reference(encoded(picture()), "photo.png")
    assert decoded == DecodedImage(png=decoded.png, width=EDGE, height=EDGE, alpha_mask=None, notes=())
    assert (pixels(decoded.png) == np.asarray(picture())).all()


@pytest.mark.parametrize("form", STILL)
def test_each_format_is_read_from_its_content_under_any_name(form: str) -> None:
    decoded = decode_reference(encoded(picture(), form), "photo.xyz")
    difference = np.abs(pixels(decoded.png) - np.asarray(picture()).astype(int))
    assert difference.mean() < (12 if form == "GIF" else 4)
    assert decoded.notes[:1] == (f"is a {form} file",)


def test_equal_pixels_are_equal_bytes_and_metadata_is_gone() -> None:
    exif = Image.Exif()
    exif[0x010F] = "SECRET CAMERA"
    plain = decode_reference(encoded(picture()), "a.png").png
    tagged = decode_reference(encoded(picture(), "TIFF", exif=exif), "b.tif").png
    assert plain == tagged
    assert b"SECRET" not in tagged
    with Image.open(io.BytesIO(tagged)) as image:
        assert image.mode == "RGB"
        assert image.info == {}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = picture(size=(64, 32))
    decoded = decode_reference(encoded(stored, exif=exif), "photo.png")
    inverse = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    assert (decoded.width, decoded.height) == ((64, 32) if orientation < 5 else (32, 64))
    with Image.open(io.BytesIO(decoded.png)) as image:
        back = image if inverse is None else image.transpose(inverse)
        assert back.tobytes() == stored.tobytes()
    assert bool(decoded.notes) == (orientation > 1)


def test_damaged_exif_does_not_cost_the_photo() -> None:
    data = encoded(picture(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + bytes(20))
    assert decode_reference(data, "photo.jpg").width == EDGE


def test_cmyk_becomes_the_same_colours() -> None:
    decoded = decode_reference(encoded(Image.new("CMYK", (EDGE, EDGE), (0, 255, 255, 0)), "JPEG"), "photo.jpg")
    assert np.abs(pixels(decoded.png) - [255, 0, 0]).max() < 10
    assert "converted from CMYK" in decoded.notes


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_other_modes_become_rgb(mode: str) -> None:
    decoded = decode_reference(encoded(picture(mode)), "photo.png")
    assert (pixels(decoded.png) == np.asarray(picture(mode).convert("RGB"))).all()


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_not_clipped(form: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, EDGE).astype(np.uint16), (EDGE, 1))
    decoded = decode_reference(encoded(Image.fromarray(ramp), form), f"photo.{form.lower()}")
    assert np.abs(pixels(decoded.png)[..., 0] - np.linspace(0, 255, EDGE)).max() <= 1


def test_sixteen_bit_colour_is_scaled() -> None:
    row = b"\0" + struct.pack(">3H", 0xFFFF, 0x8000, 0x0040) * EDGE
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", EDGE, EDGE, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(row * EDGE)) + png_chunk(b"IEND", b"")
    assert pixels(decode_reference(data, "photo.png").png)[0, 0].tolist() == [255, 128, 0]


def test_transparency_is_flattened_on_white_and_kept_as_a_mask() -> None:
    image = picture("RGBA")
    alpha = np.zeros((EDGE, EDGE), dtype=np.uint8)
    alpha[10:30, 12:40] = 255
    image.putalpha(Image.fromarray(alpha))
    decoded = decode_reference(encoded(image), "photo.png")
    assert decoded.alpha_mask is not None
    assert (pixels(decoded.alpha_mask) == alpha).all()
    assert (pixels(decoded.png)[alpha == 0] == 255).all()
    assert (pixels(decoded.png)[alpha == 255] == np.asarray(picture())[alpha == 255]).all()


@pytest.mark.parametrize("level", [0, 255])
def test_a_constant_alpha_is_no_mask(level: int) -> None:
    image = picture("RGBA")
    image.putalpha(level)
    assert decode_reference(encoded(image), "photo.png").alpha_mask is None


def test_a_transparent_palette_entry_is_flattened() -> None:
    image = Image.new("P", (EDGE, EDGE), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (10, 10, 30, 30))
    decoded = decode_reference(encoded(image, transparency=0), "photo.png")
    assert pixels(decoded.png)[0, 0].tolist() == [255, 255, 255]
    assert pixels(decoded.png)[20, 20].tolist() == [200, 100, 50]
    assert decoded.alpha_mask is not None


def test_a_colour_profile_is_applied_and_a_damaged_one_is_not() -> None:
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # The same profile with red and blue primaries exchanged, so that its effect cannot be missed.
    swapped = lab_like.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")
    swapped = swapped.replace(b"sRGB", b"xRGB").replace("sRGB".encode("utf-16-be"), "xRGB".encode("utf-16-be"))
    red = Image.new("RGB", (EDGE, EDGE), (220, 20, 20))
    applied = decode_reference(encoded(red, icc_profile=swapped), "photo.png")
    assert pixels(applied.png)[0, 0].argmax() == 2
    assert any("sRGB" in note for note in applied.notes)
    damaged = decode_reference(encoded(red, icc_profile=swapped[:200] + bytes(400)), "photo.png")
    assert pixels(damaged.png)[0, 0].tolist() == [220, 20, 20]
    assert any("damaged" in note for note in damaged.notes)


def test_a_huge_photo_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_KEPT_EDGE", 100)
    image = picture("RGBA", (300, 150))
    image.paste((0, 0, 0, 0), (0, 0, 150, 150))
    decoded = decode_reference(encoded(image), "photo.png")
    assert (decoded.width, decoded.height) == (100, 50)
    assert decoded.alpha_mask is not None
    assert pixels(decoded.alpha_mask).shape == (50, 100)


@pytest.mark.parametrize(
    ("data", "hint"),
    [
        (b"this is no photo at all\n" * 20, "plain text"),
        (zip_bytes(), "zip"),
        (b"%PDF-1.7\n" + bytes(100), "PDF"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(100), "HEIC"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (bytes(range(256)), "binary"),
    ],
    ids=["text", "zip", "pdf", "heic", "svg", "binary"],
)
def test_what_is_no_photo_is_named(data: bytes, hint: str) -> None:
    error = refusal(data)
    assert error.reason is RefusalReason.UNSUPPORTED_FORMAT
    assert hint in str(error)
    assert "JPEG" in str(error), "the message says how to mend it"


def test_floating_point_pixels_are_unsupported() -> None:
    data = encoded(Image.fromarray(np.zeros((EDGE, EDGE), dtype=np.float32)), "TIFF")
    assert refusal(data).reason is RefusalReason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff" + b"<html>" * 50, png_of_header(EDGE, EDGE).replace(b"IHDR", b"IHDX")]
)
def test_empty_and_broken_headers_are_unreadable(data: bytes) -> None:
    assert refusal(data).reason is RefusalReason.UNREADABLE


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_files_are_refused_as_such(form: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (EDGE, EDGE, 3), dtype=np.uint8))
    data = encoded(noise, form)
    assert refusal(data[: int(len(data) * share)]).reason is RefusalReason.TRUNCATED


def test_a_polyglot_keeps_only_its_picture() -> None:
    data = encoded(picture(), "JPEG") + zip_bytes()
    decoded = decode_reference(data, "photo.jpg")
    assert b"PK\x03\x04" not in decoded.png
    assert decoded.png == decode_reference(encoded(picture(), "JPEG"), "other.jpg").png


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_and_pages_are_refused(form: str) -> None:
    assert refusal(animation(form)).reason is RefusalReason.ANIMATED


def test_a_phone_jpeg_with_a_hidden_second_picture_is_a_photo() -> None:
    decoded = decode_reference(animation("MPO"), "photo.jpg")
    assert np.abs(pixels(decoded.png) - np.asarray(picture()).astype(int)).mean() < 4


def test_too_large_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_FILE_BYTES", 1000)
    assert refusal(encoded(picture(), "BMP")).reason is RefusalReason.FILE_TOO_LARGE


@pytest.mark.parametrize(
    "data",
    [
        png_of_header(50_000, 50_000),
        png_of_header(2**31 - 1, 2**31 - 1),
        png_of_header(9_000, 9_000),
        png_of_header(11_000, 11_000),
        webp_of_header(16_383, 16_383),
        tiled_tiff(60_000),
        bmp_of_header(40_000, 40_000),
        b"GIF89a"
        + struct.pack("<HH3s", 65_535, 65_535, b"")
        + struct.pack("<cHHHHBB", b",", 0, 0, 9, 9, 0, 8)
        + bytes(99),
    ],
    ids=["png 50k", "png max", "png 81 MP", "png 121 MP", "webp", "tiff tile", "bmp", "gif"],
)
def test_bombs_are_refused_by_their_header(data: bytes) -> None:
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    assert refusal(data).reason is RefusalReason.TOO_MANY_PIXELS
    assert time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024, "at most 64 MiB, in KiB"


def test_a_bomb_in_a_text_chunk_is_refused() -> None:
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(20_000_000)))
    data = encoded(picture())
    assert refusal(data[:33] + text + data[33:]).reason is RefusalReason.UNREADABLE


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encoded(picture(), "JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    assert refusal(data[:start] + data[start:-2] * 200).reason is RefusalReason.UNREADABLE


@pytest.mark.parametrize("form", STILL)
def test_damaged_bytes_give_a_photo_or_a_typed_refusal(form: str) -> None:
    data = encoded(picture(), form)
    rng = np.random.default_rng(7)
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            damaged[place] = rng.integers(0, 256)
        cut = int(rng.integers(0, len(data))) if rng.random() < 0.3 else len(data)
        try:
            decoded = decode_reference(bytes(damaged[:cut]), "photo")
        except ImageRefused:
            continue
        assert pixels(decoded.png).shape == (decoded.height, decoded.width, 3)


def square_mask(size: int = EDGE, level: int = 255) -> Image.Image:
    mask = Image.new("L", (size, size))
    mask.paste(level, (size // 4, size // 4, size // 2, size // 2))
    return mask


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P"])
def test_masks_of_any_mode_are_read(mode: str) -> None:
    mask = decode_mask(encoded(square_mask().convert(mode)), (EDGE, EDGE))
    assert (pixels(mask) == np.asarray(square_mask())).all()


def test_a_cut_out_is_a_mask() -> None:
    image = picture("RGBA")
    image.putalpha(square_mask())
    assert (pixels(decode_mask(encoded(image), (EDGE, EDGE))) == np.asarray(square_mask())).all()


def test_a_mask_of_another_size_is_resized() -> None:
    mask = pixels(decode_mask(encoded(square_mask(4 * EDGE)), (EDGE, EDGE)))
    assert np.abs(mask - np.asarray(square_mask()).astype(int)).mean() < 4


@pytest.mark.parametrize(
    ("mask", "hint"),
    [
        (square_mask().resize((EDGE, 2 * EDGE)), f"{EDGE} x {2 * EDGE}"),
        (square_mask(level=1), "0 to 1"),
        (Image.new("L", (EDGE, EDGE), 255), "255"),
    ],
    ids=["proportions", "too dark", "everything"],
)
def test_useless_masks_are_refused(mask: Image.Image, hint: str) -> None:
    with pytest.raises(ImageRefused, match=hint) as caught:
        decode_mask(encoded(mask), (EDGE, EDGE), "photo_mask.png")
    assert caught.value.reason is RefusalReason.UNREADABLE
    assert "photo_mask.png" in str(caught.value)


def test_a_mask_that_is_no_picture_is_refused() -> None:
    with pytest.raises(ImageRefused):
        decode_mask(b"no picture", (EDGE, EDGE))
