"""One Packshot server asks another, which is somebody else's image API to it."""

import json
import os

import httpx2
import pytest
from api import IDENTIFIER, platform_in, worker

from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.domain.usage import Usage
from packshot.imaging.recipe import read_recipe
from packshot.providers.openai_images import OpenAiImages
from packshot.services.provenance import Finding, verify

MODEL = f"upstream/{IDENTIFIER}"
DECLARED = """
[upstream]
base_url = "http://127.0.0.1:1/v1"
key_variable = "UPSTREAM_KEY"
sizes = ["64x64"]
max_images = 10
price_per_image = 0.5
[upstream.settings]
seed = "seed"

[bare]
base_url = "http://127.0.0.1:1/v1"
key_variable = "UPSTREAM_KEY"
max_images = 10
"""


@pytest.fixture
def upstream(tmp_path):
    for platform in platform_in(tmp_path / "upstream"):
        platform.serving()
        with worker(platform):
            yield platform


@pytest.fixture
def downstream(tmp_path, upstream):
    """A server without a base of its own, whose provider is ``upstream``."""
    secret = upstream.key("generate")["Authorization"].removeprefix("Bearer ")

    def answer(request: httpx2.Request) -> httpx2.Response:
        reply = upstream.client.request(
            request.method, request.url.path, content=request.read(), headers=dict(request.headers)
        )
        return httpx2.Response(reply.status_code, headers=reply.headers, content=reply.content)

    for platform in platform_in(tmp_path / "downstream"):
        file = platform.space.home / "providers.toml"
        file.write_text(DECLARED)
        vars(platform.space).update(
            foreign_generator=OpenAiImages(
                file, transport=httpx2.MockTransport(answer), environment={**os.environ, "UPSTREAM_KEY": secret}
            )
        )
        yield platform


def made(platform, **body):
    asked = platform.call("POST", "/v1/generations", json={"prompt": "on grass", "model": MODEL, **body}, status=202)
    platform.work()
    return platform.call("GET", asked["urls"]["get"])


def png_of(platform, image):
    reply = platform.client.get(image["url"], headers=platform.key("read"))
    assert reply.status_code == 200
    return reply.content


def test_the_same_request_is_answered_by_another_s_api(downstream, upstream):
    generation = made(downstream, num_images=2, seed=7, width=64, height=64)
    assert generation["status"] == "succeeded", generation["message"]
    assert (generation["foreign_model"], generation["base_id"], generation["fine_tune_id"]) == (MODEL, None, None)
    assert [image["seed"] for image in generation["images"]] == [7, 8]
    recipe = read_recipe(png_of(downstream, generation["images"][1]))
    revision = recipe.pop("code_revision")
    assert revision
    assert recipe == {"prompt": "on grass", "model": MODEL, "seed": 8, "size": "64x64"}
    asked = upstream.call("GET", "/v1/usage")["total"]["num_images"]
    assert asked == 2


def test_without_a_seed_none_is_told_and_none_is_recorded(downstream):
    generation = made(downstream, model=f"bare/{IDENTIFIER}", num_images=2)
    assert [image["seed"] for image in generation["images"]] == [None, None]
    recipe = read_recipe(png_of(downstream, generation["images"][0]))
    assert recipe.keys() == {"prompt", "model", "code_revision"}


def test_its_pictures_are_declared_generated_and_known(downstream):
    image = made(downstream)["images"][0]
    png = png_of(downstream, image)
    found = verify(downstream.space.records, downstream.space.blobs, png, downstream.space.read_credentials)
    assert (found.finding, found.declared_generated) == (Finding.KNOWN, True)
    lineage = downstream.call("GET", f"/v1/images/{image['id']}/lineage")
    assert (lineage["base"], lineage["fine_tune"]) == (None, None)
    assert lineage["generation"]["foreign_model"] == {
        "provider": "upstream",
        "name": IDENTIFIER,
        "settings": ["seed"],
        "price_per_image": 0.5,
    }


def test_its_pictures_and_fees_are_counted(downstream):
    made(downstream, num_images=3)
    (used,) = downstream.space.records.find(Usage)
    assert (used.kind, used.num_images, used.fees) == (JobKind.FOREIGN_GENERATION, 3, 1.5)
    total = downstream.call("GET", "/v1/usage")["total"]
    assert (total["num_images"], total["fees"], total["cost"]) == (3, 1.5, 1.5)


def test_a_job_that_is_tried_again_records_its_pictures_once(downstream):
    made(downstream)
    job = downstream.space.records.find(Job)[0]
    downstream.space.handlers[job.kind](job, lambda _: None, lambda: False)
    assert downstream.call("GET", "/v1/usage")["total"]["num_images"] == 1


@pytest.mark.parametrize(
    ("body", "slug", "word"),
    [
        ({"guidance_scale": 2.0}, "capability-missing", "takes no guidance_scale"),
        ({"inference_steps": 20}, "capability-missing", "takes no inference_steps"),
        ({"negative_prompt": "blur"}, "capability-missing", "takes no negative_prompt"),
        ({"model": "bare/x", "seed": 1}, "capability-missing", "takes no seed"),
        ({"model": "bare/x", "width": 64, "height": 64}, "capability-missing", "leave the size out"),
        ({"width": 32, "height": 64}, "capability-missing", "its sizes are 64 x 64"),
        ({"width": 64}, "capability-missing", "width and height"),
        ({"version": 1}, "capability-missing", "no version"),
        ({"base": "embedded"}, "capability-missing", "no base"),
        ({"prompt": None, "template": "a"}, "capability-missing", "no template"),
        ({"prompt": None}, "invalid-input", "give a prompt"),
        ({"model": "nobody/x"}, "not-found", "known: bare, upstream"),
        ({"model": "upstream/"}, "invalid-input", "PROVIDER/NAME"),
        ({"model": "/x"}, "invalid-input", "PROVIDER/NAME"),
        ({"prompt": "acme_unknown_thing on grass"}, "unknown-identifier", "acme_unknown_thing"),
        ({"prompt": "on <grass>"}, "invalid-prompt", "<"),
    ],
)
def test_what_it_cannot_honour_is_refused_before_it_is_asked(downstream, body, slug, word):
    body = {"prompt": "on grass", "model": MODEL, **body}
    problem = downstream.call("POST", "/v1/generations", json=body, status=404 if slug == "not-found" else 422)
    assert problem["type"] == f"/problems/{slug}"
    assert word in problem["detail"]
    assert downstream.space.records.find(Job) == []


def test_an_identifier_of_ours_is_an_error(downstream):
    downstream.serving()
    body = {"prompt": f"{IDENTIFIER} on grass", "model": "upstream/other"}
    problem = downstream.call("POST", "/v1/generations", json=body, status=422)
    assert problem["type"] == "/problems/capability-missing"
    assert IDENTIFIER in problem["detail"]


def test_its_refusal_fails_the_job_with_its_words(downstream):
    generation = made(downstream, model="upstream/acme_nothing")
    assert generation["status"] == "failed"
    assert "no category answers to 'acme_nothing'" in generation["message"]


def test_the_key_is_nowhere_in_the_workspace(downstream, upstream, caplog):
    made(downstream)
    made(downstream, model="upstream/acme_nothing")
    secret = upstream.key("generate")["Authorization"].removeprefix("Bearer ").encode()
    files = [file for file in downstream.space.home.rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if secret in file.read_bytes()]
    assert secret.decode() not in json.dumps([record.getMessage() for record in caplog.records])


def test_openai_s_route_passes_on_too(downstream):
    body = {"prompt": "on grass", "model": MODEL, "n": 1}
    with worker(downstream):
        reply = downstream.call("POST", "/v1/images/generations", json=body, key=downstream.key("generate"))
    assert len(reply["data"]) == 1


def test_the_request_counts_against_the_quota_and_can_be_canceled(downstream):
    body = {"prompt": "on grass", "model": MODEL}
    asked = downstream.call("POST", "/v1/generations", json=body, status=202)
    canceled = downstream.call("POST", asked["urls"]["cancel"])
    assert canceled["status"] == JobStatus.CANCELED
    downstream.work()
    assert downstream.call("GET", asked["urls"]["get"])["images"] == []
