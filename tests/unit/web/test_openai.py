"""OpenAI's own client against the route that is made for it."""

import base64

import pytest
from api import IDENTIFIER, worker

from packshot.imaging.recipe import read_recipe

openai = pytest.importorskip("openai")


@pytest.fixture
def client(platform):
    platform.serving()
    platform.key("generate")
    secret = platform.keys["acme", "generate"]
    return openai.OpenAI(
        api_key=secret, base_url="http://testserver/v1", http_client=platform.client, max_retries=0, timeout=60
    )


def test_openai_s_client_gets_its_pictures(platform, client):
    with worker(platform):
        reply = client.images.generate(model=IDENTIFIER, prompt="on grass", n=2, size="auto", extra_body={"seed": 7})
    assert reply.created > 0
    recipes = [read_recipe(base64.b64decode(image.b64_json)) for image in reply.data]
    assert [recipe and recipe["seed"] for recipe in recipes] == [7, 8]


def test_openai_s_client_raises_its_own_errors(platform, client):
    with pytest.raises(openai.NotFoundError) as refused:
        client.images.generate(model="acme_nothing", prompt="on grass")
    assert refused.value.response.json()["type"] == "/problems/not-found"
    with pytest.raises(openai.UnprocessableEntityError):
        client.images.generate(model=IDENTIFIER, prompt="on <grass>")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").images.generate(prompt="on grass")
