"""Pictures of a server with a signing key: those of jobs, of batches and of the OpenAI-compatible route."""

import pytest
from api import IDENTIFIER, PROMPT, platform_in, worker
from certificates import write_signing

from packshot.credentials import read_anchors, read_credentials


@pytest.fixture
def signing(tmp_path):
    return write_signing(tmp_path / "signing")


@pytest.fixture
def platform(tmp_path, signing):
    yield from platform_in(tmp_path, c2pa_key=signing.key, c2pa_certificates=signing.certificates)


def test_every_picture_is_signed(platform, signing):
    platform.serving()
    platform.call("POST", "/v1/generations", json={"prompt": PROMPT, "num_images": 2}, status=202)
    template = {"name": "table", "background": "on a table"}
    platform.call("POST", "/v1/templates", json=template, status=201)
    body = {"categories": [IDENTIFIER], "templates": ["table"], "num_images": 2}
    platform.call("POST", "/v1/batches", json=body, status=202)
    platform.work()
    with worker(platform):
        platform.call("POST", "/v1/images/generations", json={"prompt": PROMPT})
    blobs = [data for name in platform.space.blobs if (data := platform.space.blobs.get(name)).startswith(b"\x89PNG")]
    pictures = [data for data in blobs if b"packshot-seal" in data]
    assert len(pictures) == 5
    roots = read_anchors(signing.roots)
    for picture in pictures:
        found = read_credentials(picture, roots)
        assert found
        assert found.whole
        assert found.trusted
