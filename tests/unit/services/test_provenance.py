"""What a picture file turns out to be."""

import io

import pytest
from certificates import write_signing
from PIL import Image, PngImagePlugin

from packshot.credentials import inscriber, read_anchors, read_credentials
from packshot.domain.generation import SamplingSettings
from packshot.imaging.recipe import pixel_digest, with_recipe
from packshot.services.generation import generate
from packshot.services.models import promote
from packshot.services.provenance import Finding, verify


@pytest.fixture
def serving(space):
    """A workspace whose fine-tune answers."""
    promote(space.records, space.fine_tune(space.category()), reason="a test")
    return space


def picture(space, **options) -> bytes:
    _, (image,) = generate(
        space.records,
        space.blobs,
        space.generator,
        "sks_fuji_apple on grass",
        SamplingSettings(seed=7),
        bare_base=space.base,
        code_revision="abc",
        **options,
    )
    return space.blobs.get(image.sha256)


@pytest.fixture
def made(serving) -> bytes:
    """A picture of a fine-tune."""
    return picture(serving)


def saved_again(data: bytes, *, changed: bool = False, texts: bool = True) -> bytes:
    with Image.open(io.BytesIO(data)) as image:
        kept = PngImagePlugin.PngInfo()
        for key, value in image.info.items() if texts else ():
            kept.add_itxt(key, str(value))
        copy = image.copy()
    if changed:
        copy.putpixel((0, 0), (1, 2, 3))
    buffer = io.BytesIO()
    copy.save(buffer, "PNG", pnginfo=kept, compress_level=1)
    return buffer.getvalue()


def test_the_workspace_knows_the_very_file_and_its_lineage(space, made):
    found = verify(space.records, space.blobs, made, read_credentials)
    assert (found.finding, found.ours, found.recipe_whole, found.pixels_whole) == (Finding.KNOWN, True, True, True)
    assert found.declared_generated
    assert found.recipe
    assert found.recipe["prompt"] == "sks_fuji_apple on grass"
    assert found.lineage
    assert found.lineage.fine_tune
    assert len(found.lineage.references) >= 4


def test_a_picture_whose_file_was_written_anew_is_found_by_its_pixels(space, made):
    found = verify(space.records, space.blobs, saved_again(made), read_credentials)
    assert (found.finding, found.ours) == (Finding.REWRITTEN, True)
    assert found.lineage
    assert found.lineage.image


@pytest.mark.parametrize(
    ("finding", "change"),
    [
        (Finding.PIXELS_CHANGED, lambda made: saved_again(made, changed=True)),
        (Finding.PIXELS_CHANGED, lambda made: made[:-30]),
        (Finding.RECIPE_CHANGED, lambda made: made.replace(b'"seed": 7', b'"seed": 8')),
        (Finding.FOREIGN, lambda made: saved_again(made, texts=False)),
        (Finding.FOREIGN, lambda made: b"a text"),
        (Finding.ELSEWHERE, lambda made: with_recipe(made, {"prompt": "sks_fuji_apple on grass", "seed": 8})),
        (Finding.ELSEWHERE, lambda made: with_recipe(made, {})),
    ],
)
def test_what_the_workspace_did_not_make_is_told_apart(space, made, finding, change):
    found = verify(space.records, space.blobs, change(made), read_credentials)
    assert (found.finding, found.ours, found.lineage) == (finding, False, None)


def test_a_signed_picture_is_known_and_its_signature_checked(serving, tmp_path):
    signing = write_signing(tmp_path / "signing")
    signed = picture(serving, inscribe=inscriber(signing.key, signing.certificates))
    roots = read_anchors(signing.roots)

    def told(data: bytes):
        found = verify(serving.records, serving.blobs, data, lambda each: read_credentials(each, roots))
        return found.finding, found.credentials and (found.credentials.whole, found.credentials.trusted)

    assert told(signed) == (Finding.KNOWN, (True, True))
    assert told(saved_again(signed)) == (Finding.REWRITTEN, None)
    assert told(signed.replace(b'"seed": 7', b'"seed": 8', 1)) == (Finding.RECIPE_CHANGED, (False, False))
    unsigned = picture(serving)
    assert told(unsigned) == (Finding.KNOWN, None)
    assert pixel_digest(unsigned) == pixel_digest(signed)
