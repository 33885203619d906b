"""Recipes in PNGs survive, change no pixel, and can be read by others."""

import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from packshot.domain.errors import InvalidInput
from packshot.imaging.pixels import encode_png
from packshot.imaging.recipe import read_inscription, read_recipe, with_recipe

RECIPE = {"prompt": "sks_äpfel on “wood”\nwarm", "seed": 7, "guidance_scale": 4.0, "negative": None, "bare": False}


@pytest.fixture
def png() -> bytes:
    return encode_png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 30, 3), dtype=np.uint8)))


def compressed_pixels(data: bytes) -> bytes:
    return data[data.index(b"IDAT") :]


def test_a_recipe_comes_back(png: bytes) -> None:
    assert read_recipe(with_recipe(png, RECIPE)) == RECIPE


def test_the_pixels_stay_the_very_bytes(png: bytes) -> None:
    assert compressed_pixels(with_recipe(png, RECIPE)) == compressed_pixels(png)


def test_equal_recipes_are_equal_bytes_and_a_new_one_replaces_the_old(png: bytes) -> None:
    other = with_recipe(png, {"seed": 8})
    assert with_recipe(other, RECIPE) == with_recipe(png, RECIPE) != other


def test_others_can_read_it(png: bytes) -> None:
    with Image.open(io.BytesIO(with_recipe(png, RECIPE))) as image:
        image.load()
        info = dict(image.info)
    assert json.loads(str(info["packshot"])) == RECIPE
    assert "seed: 7" in str(info["parameters"])
    assert "negative" not in str(info["parameters"])
    assert "digitalsourcetype/trainedAlgorithmicMedia" in str(info["XML:com.adobe.xmp"])


def test_other_metadata_is_kept(png: bytes) -> None:
    data = b"Author\0somebody"
    chunk = len(data).to_bytes(4, "big") + b"tEXt" + data + zlib.crc32(b"tEXt" + data).to_bytes(4, "big")
    with Image.open(io.BytesIO(with_recipe(png[:33] + chunk + png[33:], RECIPE))) as image:
        assert image.info["Author"] == "somebody"


@pytest.mark.parametrize("damage", ["none", "cut", "no png", "no json", "a list"])
def test_what_holds_no_recipe_gives_none(png: bytes, damage: str) -> None:
    written = with_recipe(png, {"seed": 7})
    data = {
        "none": png,
        "cut": written[:100],
        "no png": b"GIF89a",
        "no json": written.replace(b'{"seed": 7}', b'{"seed": 7 '),
        "a list": written.replace(b'{"seed": 7}', b"[1234567.0]"),
    }[damage]
    assert read_recipe(data) is None


@pytest.mark.parametrize("data", [b"", b"GIF89a", encode_png(Image.new("RGB", (4, 4)))[:-6]])
def test_only_a_whole_png_takes_a_recipe(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="PNG"):
        with_recipe(data, {})


def rewritten(data: bytes, change=lambda image: image, **options) -> bytes:
    """The picture in ``data`` after ``change``, saved by another program that keeps text chunks."""
    with Image.open(io.BytesIO(data)) as image:
        texts = PngImagePlugin.PngInfo()
        for key, value in image.info.items():
            texts.add_itxt(key, str(value))
        buffer = io.BytesIO()
        change(image.copy()).save(buffer, "PNG", pnginfo=texts, **options)
    return buffer.getvalue()


def brighter(image: Image.Image) -> Image.Image:
    image.putpixel((3, 3), (1, 2, 3))
    return image


def test_a_seal_tells_whether_recipe_and_pixels_are_what_was_written(png: bytes) -> None:
    written = with_recipe(png, {"seed": 7})

    def seen(data: bytes) -> tuple[bool, bool, bool]:
        found = read_inscription(data)
        return found.has_recipe, found.recipe_whole, found.pixels_whole

    assert seen(written) == seen(rewritten(written, compress_level=0)) == (True, True, True)
    assert seen(rewritten(written, brighter)) == (True, True, False)
    assert seen(written.replace(b'{"seed": 7}', b'{"seed": 8}')) == (True, False, True)
    assert seen(written.replace(b'{"seed": 7}', b'{"seed": 7 ')) == (True, False, True)
    assert seen(written.replace(b"packshot-seal", b"packshot-none")) == (True, False, False)
    assert seen(written[:-40]) == (True, True, False)
    assert seen(png) == seen(b"GIF89a") == seen(b"") == (False, False, False)
    assert read_inscription(written).declared_generated
    assert not read_inscription(png).declared_generated


def test_a_picture_too_large_to_look_at_is_not_decoded(png: bytes) -> None:
    bomb = png[:16] + (2**31 - 1).to_bytes(4, "big") * 2 + png[24:]
    assert read_inscription(bomb).pixels is None
