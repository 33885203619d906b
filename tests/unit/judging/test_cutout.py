"""What the embedder sees of a masked picture, and the digest of a judge."""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from packshot.imaging.pixels import encode_png
from packshot.judging.cutout import cut_out
from packshot.judging.digest import folder_digest

RED, GREY = (200, 30, 30), (128, 128, 128)


def mask_of(box: tuple[int, int, int, int], size: tuple[int, int] = (100, 80)) -> bytes:
    mask = Image.new("L", size)
    mask.paste(255, box)
    return encode_png(mask)


def test_the_product_alone_is_centred_on_grey() -> None:
    image = Image.new("RGB", (100, 80), (10, 200, 10))
    image.paste(RED, (20, 30, 60, 50))
    alone = np.asarray(cut_out(image, mask_of((20, 30, 60, 50))))
    assert alone.shape == (48, 48, 3), "the longer side and a tenth on both sides"
    red, grey = (alone == RED).all(axis=2), (alone == GREY).all(axis=2)
    assert red.sum() == 40 * 20
    assert (red | grey).all()
    assert np.argwhere(red).mean(axis=0).round().tolist() == [24, 24]


def test_a_product_at_the_corner_keeps_its_margin() -> None:
    alone = cut_out(Image.new("RGB", (100, 80), RED), mask_of((0, 0, 50, 50)))
    assert alone.size == (60, 60)
    assert alone.getpixel((0, 0)) == GREY


def test_an_empty_mask_leaves_the_picture() -> None:
    image = Image.new("RGB", (100, 80), RED)
    assert cut_out(image, mask_of((0, 0, 0, 0))).tobytes() == image.tobytes()


def make_folder(place: Path, **files: bytes) -> Path:
    place.mkdir()
    for name, data in files.items():
        (place / name.replace("_", ".")).write_bytes(data)
    return place


def test_a_digest_depends_on_what_is_loaded_and_on_nothing_else(tmp_path: Path) -> None:
    first = make_folder(tmp_path / "a", config_json=b"{}", model_safetensors=b"1")
    moved = make_folder(tmp_path / "b", config_json=b"{}", model_safetensors=b"1", README_md=b"hello")
    changed = make_folder(tmp_path / "c", config_json=b"{}", model_safetensors=b"2")
    (moved / "onnx").mkdir()
    assert folder_digest([first, changed]) == folder_digest([moved, changed])
    assert len({folder_digest([first, changed]), folder_digest([changed, first]), folder_digest([first])}) == 3
    assert folder_digest([first]) != hashlib.sha256(b"[]").hexdigest()
