"""Pictures that keep a composition, over HTTP: what a request brings along, or an earlier picture."""

import io
from base64 import b64encode

import pytest
from api import PROMPT
from PIL import Image

from packshot.domain.generation import Generation


def png(colour: str = "red", size: tuple[int, int] = (64, 48)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


def asked(platform, status: int = 202, **settings):
    return platform.call("POST", "/v1/generations", json={"prompt": PROMPT, **settings}, status=status)


def test_a_picture_that_comes_along_is_kept_and_begun_from(platform):
    platform.serving()
    made = asked(platform, layout=b64encode(png()).decode(), strength=0.4)
    kept = platform.space.records.get(Generation, made["id"]).sampling
    assert kept.strength == 0.4
    assert Image.open(io.BytesIO(platform.space.blobs.get(kept.layout))).size == (64, 48)
    platform.work()
    assert platform.call("GET", made["urls"]["get"])["status"] == "succeeded"
    assert platform.space.generator.layouts == [platform.space.blobs.get(kept.layout)]


def test_an_own_picture_can_be_the_layout_and_a_foreign_one_not(platform):
    platform.serving()
    first = asked(platform)
    platform.work()
    (image,) = platform.call("GET", first["urls"]["get"])["images"]
    second = asked(platform, layout=image["id"])
    assert second["sampling"]["layout"] == image["sha256"]
    body = {"prompt": "plain", "layout": image["id"]}
    platform.call("POST", "/v1/generations", json=body, status=404, key=platform.key("generate", team="rival"))


@pytest.mark.parametrize(
    "layout", ["0" * 64, "no base64!", b64encode(b"no picture").decode(), b64encode(png()[:40]).decode()]
)
def test_what_is_no_picture_is_refused(platform, layout):
    platform.serving()
    asked(platform, status=422, layout=layout)
    assert platform.call("GET", "/v1/generations")["items"] == []


def test_a_large_picture_fits_into_the_body(platform):
    platform.serving()
    noise = Image.effect_noise((1600, 1200), 90).convert("RGB")
    file = io.BytesIO()
    noise.save(file, "PNG")
    assert len(file.getvalue()) > 2**20
    asked(platform, layout=b64encode(file.getvalue()).decode())
