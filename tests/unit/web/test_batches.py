"""Batches over HTTP: one job, its files, its failures."""

import csv
import io
import json
import zipfile

import pytest
from api import IDENTIFIER

from packshot.domain.batches import Batch
from packshot.domain.generation import Generation
from packshot.domain.jobs import Job

EMPTY = "acme_gala_apple"


@pytest.fixture
def studio(platform):
    """A category that serves, one that does not, and two templates."""
    platform.serving()
    platform.call("POST", "/v1/categories", json={"path": "apple/gala", "class_noun": "apple"}, status=201)
    light = {"name": "light", "kind": "text", "default": "warm light"}
    platform.call("POST", "/v1/templates", json={"name": "plain", "width": 64, "height": 64}, status=201)
    summer = {"name": "summer", "light": "{light}", "variables": [light]}
    platform.call("POST", "/v1/templates", json=summer, status=201)
    return platform


def start(platform, status: int = 202, **change: object):
    body = {"categories": [IDENTIFIER], "templates": ["plain", "summer@1"], "num_images": 2, "seed": 7, **change}
    return platform.call("POST", "/v1/batches", json=body, status=status)


def test_a_batch_from_request_to_files(studio):
    asked = start(studio, categories=[IDENTIFIER, EMPTY], variables={"light": "cool light"})
    assert (asked["status"], asked["num_pictures"], asked["num_made"]) == ("queued", 8, 0)
    assert (asked["categories"], asked["templates"]) == ([IDENTIFIER, EMPTY], ["plain@1", "summer@1"])
    assert [(each["category"], each["type"]) for each in asked["failures"]] == [
        ("apple/gala", "/problems/nothing-serving")
    ] * 2
    studio.work()
    done = studio.call("GET", asked["urls"]["get"])
    assert (done["status"], done["progress"], done["num_made"]) == ("succeeded", 1.0, 4)
    assert done["failures"] == asked["failures"]

    def get(name: str, media_type: str) -> bytes:
        reply = studio.client.get(asked["urls"][name], headers=studio.key("read"))
        assert (reply.status_code, reply.headers["content-type"].split(";")[0]) == (200, media_type)
        return reply.content

    lines = [json.loads(line) for line in get("manifest_jsonl", "application/jsonl").splitlines()]
    assert [line["seed"] for line in lines] == [7, 8, 7, 8, None, None]
    assert lines[2]["prompt"] == f"a photo of a {IDENTIFIER}, cool light"
    rows = list(csv.DictReader(io.StringIO(get("manifest_csv", "text/csv").decode())))
    assert [row["error"] for row in rows] == ["", "", "", "", "NothingServing", "NothingServing"]
    with zipfile.ZipFile(io.BytesIO(get("pictures", "application/zip"))) as archive:
        assert archive.namelist() == [line["file"] for line in lines if line["file"]]
        picture = studio.client.get(f"/v1/images/{lines[0]['image_id']}", headers=studio.key("read"))
        assert archive.read(lines[0]["file"]) == picture.content
    assert get("sheet", "image/png").startswith(b"\x89PNG")


def test_files_of_a_batch_that_has_not_begun_are_empty(studio):
    urls = start(studio)["urls"]
    assert studio.client.get(urls["manifest_jsonl"], headers=studio.key("read")).content == b""
    archive = studio.client.get(urls["pictures"], headers=studio.key("read")).content
    assert zipfile.ZipFile(io.BytesIO(archive)).namelist() == []
    assert studio.client.get(urls["sheet"], headers=studio.key("read")).status_code == 200


def test_a_dry_run_estimates_and_records_nothing(studio):
    before = len(studio.space.records.find(Job))
    estimate = start(studio, 200, categories=[IDENTIFIER, EMPTY], dry_run=True)
    assert (estimate["pictures"], estimate["denoising_steps"], estimate["jobs_ahead"]) == (4, 80, 0)
    assert [each["error"] for each in estimate["failures"]] == ["NothingServing"] * 2
    assert studio.space.records.find(Batch) == []
    assert len(studio.space.records.find(Job)) == before


def test_the_same_request_is_one_batch_while_it_is_unfinished(studio):
    first = start(studio)
    assert start(studio)["id"] == first["id"]
    studio.work()
    second = start(studio)
    assert second["id"] != first["id"]
    page = studio.call("GET", "/v1/batches", params={"limit": 1})
    assert [each["id"] for each in page["items"]] == [first["id"]]
    rest = studio.call("GET", "/v1/batches", params={"cursor": page["next"]})
    assert ([each["id"] for each in rest["items"]], rest["next"]) == ([second["id"]], None)


def test_an_idempotency_key_gives_the_same_reply(studio):
    headers = {"Idempotency-Key": "order 7"}
    body = {"categories": [IDENTIFIER], "templates": ["plain"]}
    first = studio.call("POST", "/v1/batches", json=body, status=202, headers=headers)
    studio.work()
    assert studio.call("POST", "/v1/batches", json=body, status=202, headers=headers) == first
    refused = studio.call("POST", "/v1/batches", json={**body, "seed": 1}, status=422, headers=headers)
    assert refused["type"] == "/problems/idempotency-key-reused"


def test_a_batch_is_canceled_as_a_whole(studio):
    asked = start(studio)
    generation = studio.space.records.find(Generation, job_id=studio.space.records.get(Batch, asked["id"]).job_id)[0]
    refused = studio.call("POST", f"/v1/generations/{generation.id}/cancel", status=409)
    assert asked["id"] in refused["detail"]
    assert studio.call("POST", asked["urls"]["cancel"])["status"] == "canceled"
    studio.work()
    assert studio.call("GET", asked["urls"]["get"])["num_made"] == 0
    assert studio.call("GET", f"/v1/generations/{generation.id}")["status"] == "canceled"


def test_a_batch_of_which_nothing_can_be_made_has_failed(studio):
    asked = start(studio, categories=[EMPTY])
    studio.work()
    done = studio.call("GET", asked["urls"]["get"])
    assert (done["status"], "serves no fine-tune" in done["message"]) == ("failed", True)


@pytest.mark.parametrize(
    ("change", "status", "type_"),
    [
        ({"categories": []}, 422, "invalid-input"),
        ({"templates": []}, 422, "invalid-input"),
        ({"categories": ["acme_cox_apple"]}, 404, "not-found"),
        ({"categories": ["apple/fuji"]}, 404, "not-found"),
        ({"templates": ["winter"]}, 404, "not-found"),
        ({"templates": ["plain@9"]}, 404, "not-found"),
        ({"variables": {"lihgt": "x"}}, 422, "unused-override"),
        ({"variables": {"light": 4}}, 422, "wrong-variable"),
        ({"num_images": 0}, 422, "invalid-input"),
        ({"width": 12}, 422, "invalid-input"),
        ({"prompt": "on grass"}, 422, "malformed-request"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_batch_that_cannot_be_is_refused_dry_or_not(studio, change, status, type_, dry_run):
    assert start(studio, status, dry_run=dry_run, **change)["type"] == f"/problems/{type_}"
    assert studio.space.records.find(Batch) == []
