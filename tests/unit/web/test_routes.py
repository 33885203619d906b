"""From photos to pictures over HTTP, and what each route says when it cannot."""

import json
import threading

import pytest
from api import IDENTIFIER, PROMPT, worker

from packshot.domain.catalog import Category
from packshot.domain.generation import Generation
from packshot.domain.references import ReferenceImage
from packshot.domain.training import TrainingRun
from packshot.imaging.recipe import read_recipe

NEW = {"path": "apple/fuji", "class_noun": "apple"}


def test_the_whole_way_from_photos_to_pictures(platform):
    created = platform.call("POST", "/v1/categories", json=NEW, status=201)
    assert (created["identifier"], created["namespace"]) == (IDENTIFIER, "acme")
    platform.frozen_base = platform.space.bases.describe("embedded")
    platform.space.records.add(platform.frozen_base)
    references = f"/v1/categories/{IDENTIFIER}/references"
    rights = {"source": "our studio", "license": "CC0-1.0"}
    taken = platform.call("POST", references, files=platform.photos(), data=rights, status=201)
    assert [(photo["file_name"], photo["refusal"]) for photo in taken][:2] == [("00.png", None), ("01.png", None)]
    report = platform.call("GET", references)
    assert report["freezable"]
    assert {photo["rights"]["license"] for photo in report["images"]} == {"CC0-1.0"}
    assert platform.call("POST", f"{references}/freeze", status=201)["version"] == 1

    training = platform.train(method="lora", rank=2)
    assert (training["status"], training["progress"], training["config"]["rank"]) == ("succeeded", 1.0, 2)
    versions = platform.call("GET", "/v1/fine-tunes", params={"category": IDENTIFIER})
    assert [(each["id"], each["version"]) for each in versions["items"]] == [(training["fine_tune_id"], 1)]
    promoted = {"fine_tune_id": training["fine_tune_id"], "reason": "looks right"}
    platform.call("POST", f"/v1/categories/{IDENTIFIER}/alias/promote", json=promoted)
    assert platform.call("GET", f"/v1/categories/{IDENTIFIER}")["serving_version"] == 1

    asked = platform.call("POST", "/v1/generations", json={"prompt": PROMPT, "num_images": 2, "seed": 7}, status=202)
    assert (asked["status"], asked["images"]) == ("queued", [])
    platform.work()
    made = platform.call("GET", asked["urls"]["get"])
    assert (made["status"], [image["seed"] for image in made["images"]]) == ("succeeded", [7, 8])
    picture = platform.client.get(made["images"][1]["url"], headers=platform.key("read"))
    assert picture.headers["content-type"] == "image/png"
    recipe = read_recipe(picture.content)
    assert recipe
    assert (recipe["seed"], recipe["prompt"]) == (8, PROMPT)
    lineage = platform.call("GET", f"{made['images'][1]['url']}/lineage")
    assert lineage["run"]["id"] == training["id"]
    assert len(lineage["references"]) == 8


# categories


def test_a_list_comes_in_pages_by_path_and_can_be_searched(platform):
    paths = [f"apple/kind{number}" for number in (4, 1, 5, 3, 2)]
    for path in paths:
        platform.call("POST", "/v1/categories", json={**NEW, "path": path}, status=201)
    platform.call("POST", "/v1/categories", json={"path": "pear/conference", "class_noun": "pear"}, status=201)
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = platform.call("GET", "/v1/categories", params={"limit": 2, **cursor})
        assert len(page["items"]) <= 2
        seen += [category["path"] for category in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [*sorted(paths), "pear/conference"]
    found = platform.call("GET", "/v1/categories", params={"q": "PEAR"})["items"]
    assert [category["identifier"] for category in found] == ["acme_conference_pear"]
    assert platform.call("GET", "/v1/categories", params={"cursor": "no"}, status=422)["type"].endswith("invalid-input")


def test_a_retired_category_keeps_its_identifier(platform):
    platform.call("POST", "/v1/categories", json=NEW, status=201)
    assert platform.call("POST", f"/v1/categories/{IDENTIFIER}/retire")["retired_at"]
    taken = platform.call("POST", "/v1/categories", json={**NEW, "path": "b", "identifier": IDENTIFIER}, status=409)
    assert taken["type"] == "/problems/identifier-taken"
    assert "never reused" in taken["detail"]
    assert platform.call("POST", f"/v1/categories/{IDENTIFIER}/retire", status=409)["type"].endswith("category-retired")


@pytest.mark.parametrize(
    ("change", "type_"),
    [
        ({"path": "../etc"}, "invalid-path"),
        ({"path": "/etc/passwd"}, "invalid-path"),
        ({"path": "a\0b"}, "invalid-path"),
        ({"path": "a%2e%2e/b"}, "invalid-path"),
        ({"class_noun": "Apple!"}, "invalid-input"),
        ({"identifier": "acme"}, "invalid-identifier"),
        ({"identifier": "acme_fuji\u0430pple"}, "invalid-identifier"),
        ({"colour": "red"}, "malformed-request"),
        ({"path": None}, "malformed-request"),
        ({"path": 7}, "malformed-request"),
    ],
    ids=str,
)
def test_a_bad_category_is_refused_by_type(platform, change, type_):
    refused = platform.call("POST", "/v1/categories", json={**NEW, **change}, status=422)
    assert refused["type"] == f"/problems/{type_}"
    assert platform.space.records.find(Category) == []


# trainings


@pytest.mark.parametrize(
    ("change", "status", "type_"),
    [
        ({"category": "acme_gala_apple"}, 404, "not-found"),
        ({"category": "../../etc"}, 404, "not-found"),
        ({"base": "/etc/passwd"}, 404, "not-found"),
        ({"config": {"stepz": 3}}, 422, "invalid-configuration"),
        ({"config": {"rank": 0}}, 422, "invalid-configuration"),
        ({"config": {"rank": [1]}}, 422, "malformed-request"),
    ],
    ids=str,
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_a_training_that_cannot_be_is_refused_dry_or_not(platform, change, status, type_, dry_run):
    platform.frozen()
    body = {"category": IDENTIFIER, "dry_run": dry_run, **change}
    assert platform.call("POST", "/v1/trainings", json=body, status=status)["type"] == f"/problems/{type_}"
    assert platform.space.records.find(TrainingRun) == []


def test_a_training_without_a_frozen_set_or_of_a_retired_category_is_refused(platform):
    platform.frozen()
    platform.call("POST", "/v1/categories", json={**NEW, "path": "apple/gala"}, status=201)
    for dry_run in (True, False):
        body = {"category": "acme_gala_apple", "dry_run": dry_run}
        assert "freeze" in platform.call("POST", "/v1/trainings", json=body, status=404)["detail"]
    platform.call("POST", f"/v1/categories/{IDENTIFIER}/retire")
    for dry_run in (True, False):
        body = {"category": IDENTIFIER, "dry_run": dry_run}
        assert "was retired" in platform.call("POST", "/v1/trainings", json=body, status=409)["detail"]


def test_a_waiting_training_can_be_canceled_and_an_ended_one_not(platform):
    platform.frozen()
    training = platform.call("POST", "/v1/trainings", json={"category": IDENTIFIER}, status=202)
    for _ in range(2):
        assert platform.call("POST", training["urls"]["cancel"])["status"] == "canceled"
    platform.work()
    assert platform.call("GET", training["urls"]["get"])["status"] == "canceled"
    ended = platform.train()
    assert platform.call("POST", ended["urls"]["cancel"], status=409)["type"] == "/problems/conflict"


def test_progress_is_told_as_events_until_the_end(platform):
    platform.frozen()
    training = platform.call("POST", "/v1/trainings", json={"category": IDENTIFIER}, status=202)
    seen: list[dict[str, object]] = []
    with (
        platform.client.stream("GET", training["urls"]["events"], headers=platform.key("read")) as reply,
    ):
        assert reply.headers["content-type"].startswith("text/event-stream")
        for line in reply.iter_lines():
            if line.startswith("data: "):
                seen.append(json.loads(line.removeprefix("data: ")))
                if len(seen) == 1:
                    threading.Thread(target=platform.work).start()
    assert seen[0] == training
    assert seen[-1] == platform.call("GET", training["urls"]["get"])
    assert (seen[-1]["status"], seen[-1]["progress"]) == ("succeeded", 1.0)


# models


def test_promotions_and_rollbacks_are_kept(platform):
    first = platform.serving()
    second = platform.train(seed=1)["fine_tune_id"]
    alias = f"/v1/categories/{IDENTIFIER}/alias"
    platform.call("POST", f"{alias}/promote", json={"fine_tune_id": second, "reason": "greener"})
    platform.call("POST", f"{alias}/rollback", json={"reason": "the stem is green"})
    state = platform.call("GET", alias)
    assert state["serving"] == first
    assert [(event["action"], event["fine_tune_id"], event["reason"]) for event in state["history"]] == [
        ("promote", first, "a test"),
        ("promote", second, "greener"),
        ("rollback", first, "the stem is green"),
    ]
    assert platform.call("POST", f"{alias}/rollback", json={}, status=409)["type"] == "/problems/nothing-serving"


def test_a_version_of_another_category_is_not_promoted(platform):
    fine_tune_id = platform.serving()
    platform.call("POST", "/v1/categories", json={**NEW, "path": "apple/gala"}, status=201)
    body = {"fine_tune_id": fine_tune_id}
    platform.call("POST", "/v1/categories/acme_gala_apple/alias/promote", json=body, status=404)
    assert platform.call("GET", "/v1/categories/acme_gala_apple/alias") == {"serving": None, "history": []}


def test_an_evaluation_is_found_by_its_version(platform):
    fine_tune_id = platform.serving()
    evaluation_id = platform.evaluated(fine_tune_id)
    listed = platform.call("GET", f"/v1/fine-tunes/{fine_tune_id}/evaluations")["items"]
    assert [each["id"] for each in listed] == [evaluation_id]
    found = platform.call("GET", f"/v1/evaluations/{evaluation_id}")
    assert (found["status"], found["evaluation"]) == ("succeeded", listed[0])
    assert listed[0]["verdict"]["outcome"] in ("passed", "review", "rejected")


def test_the_registered_bases_are_listed(platform):
    platform.frozen()
    (base,) = platform.call("GET", "/v1/bases")["items"]
    assert base["prediction_type"] == "epsilon"
    assert base["source"] == "embedded"
    assert platform.call("GET", f"/v1/bases/{base['id']}") == base
    platform.call("GET", "/v1/bases/..%2f..%2fetc", status=404)


# generations


def test_a_category_and_a_version_can_be_asked_for(platform):
    first = platform.serving()
    second = platform.train(seed=1)["fine_tune_id"]
    for version, fine_tune_id in ((None, first), (1, first), (2, second)):
        body = {"prompt": "on grass", "model": IDENTIFIER, "version": version}
        asked = platform.call("POST", "/v1/generations", json=body, status=202)
        assert asked["fine_tune_id"] == fine_tune_id
        assert asked["resolved_prompt"].endswith("apple>, on grass") or "apple, on grass" in asked["resolved_prompt"]


def test_a_prompt_without_an_identifier_goes_to_the_base(platform):
    platform.frozen()
    asked = platform.call("POST", "/v1/generations", json={"prompt": "an apple"}, status=202)
    assert (asked["fine_tune_id"], asked["resolved_prompt"]) == (None, "an apple")


def test_a_scheduler_can_be_asked_for(platform):
    platform.frozen()
    asked = platform.call("POST", "/v1/generations", json={"prompt": "an apple", "scheduler": "ddim"}, status=202)
    assert asked["sampling"]["scheduler"] == "ddim"
    assert platform.space.records.get(Generation, asked["id"]).sampling.scheduler == "ddim"


@pytest.mark.parametrize(
    ("change", "status", "type_"),
    [
        ({"prompt": " "}, 422, "invalid-prompt"),
        ({"prompt": "<lora:x> on grass"}, 422, "invalid-prompt"),
        ({"prompt": "sks_fuji_apple on grass"}, 422, "unknown-identifier"),
        ({"prompt": "rival_fuji_apple on grass"}, 422, "unknown-identifier"),
        ({"model": "gpt-image-1"}, 404, "not-found"),
        ({"model": IDENTIFIER, "version": 9}, 404, "not-found"),
        ({"version": 1}, 422, "invalid-input"),
        ({"num_images": 0}, 422, "invalid-input"),
        ({"width": 12}, 422, "invalid-input"),
        ({"scheduler": "heun"}, 422, "scheduler-refused"),
        ({"steps": 3}, 422, "malformed-request"),
        ({"base": "other", "prompt": "an apple"}, 404, "not-found"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_answered_is_refused_before_it_is_queued(platform, change, status, type_):
    platform.serving()
    body = {"prompt": PROMPT, **change}
    assert platform.call("POST", "/v1/generations", json=body, status=status)["type"] == f"/problems/{type_}"
    assert platform.space.records.find(Generation) == []


def test_a_category_that_serves_nothing_makes_no_pictures(platform):
    platform.frozen()
    refused = platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=409)
    assert refused["type"] == "/problems/nothing-serving"


def test_a_waiting_request_can_be_canceled_and_an_answered_one_not(platform):
    platform.serving()
    asked = platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    assert platform.call("POST", asked["urls"]["cancel"])["status"] == "canceled"
    again = platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    platform.work()
    assert platform.call("GET", asked["urls"]["get"])["images"] == []
    platform.call("POST", again["urls"]["cancel"], status=409)


def test_a_request_that_failed_says_why(platform):
    platform.serving()
    asked = platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
    platform.space.generator.failure = MemoryError("no room")
    platform.work()
    failed = platform.call("GET", asked["urls"]["get"])
    assert (failed["status"], failed["message"]) == ("failed", "MemoryError: no room")


# as OpenAI's clients ask


def test_openais_request_waits_for_its_pictures(platform):
    platform.serving()
    with worker(platform):
        for body in ({"prompt": PROMPT}, {"prompt": "on grass", "model": IDENTIFIER, "n": 2, "size": "64x128"}):
            reply = platform.call("POST", "/v1/images/generations", json=body)
            assert len(reply["data"]) == body.get("n", 1)
            assert all(image["b64_json"].startswith("iVBORw0KGgo") for image in reply["data"])
    made = platform.space.records.find(Generation)[-1]
    assert (made.sampling.width, made.sampling.height, made.fine_tune_id is None) == (64, 128, False)


@pytest.mark.parametrize(
    "change",
    [{"n": 0}, {"n": 11}, {"size": "big"}, {"response_format": "url"}, {"quality": "hd"}, {"size": "12x12"}],
    ids=str,
)
def test_what_cannot_be_honoured_of_openais_request_is_an_error(platform, change):
    platform.serving()
    platform.call("POST", "/v1/images/generations", json={"prompt": PROMPT, **change}, status=422)
    assert platform.space.records.find(Generation) == []


def test_openais_request_fails_with_the_cause(platform):
    platform.serving()
    platform.space.generator.failure = MemoryError("no room")
    with worker(platform):
        failed = platform.call("POST", "/v1/images/generations", json={"prompt": PROMPT}, status=500)
    assert failed["type"] == "/problems/job-failed"
    assert "no room" in failed["detail"]


# photos


def test_photos_are_refused_one_by_one_with_their_reason(platform):
    platform.call("POST", "/v1/categories", json=NEW, status=201)
    good = platform.photos(2)
    files = [*good, ("files", ("copy.png", good[0][1][1])), ("files", ("text.png", b"hello"))]
    taken = platform.call("POST", f"/v1/categories/{IDENTIFIER}/references", files=files, status=201)
    assert [(photo["file_name"], photo["refusal"]) for photo in taken] == [
        ("00.png", None),
        ("01.png", None),
        ("00.png", None),
        ("text.png", "unsupported-format"),
    ]
    assert len(platform.space.records.find(ReferenceImage)) == 3


@pytest.mark.parametrize(
    "name", ["../1.png", "/etc/1.png", "a\\1.png", "..", "%2e%2e%2f1.png", "．．／1.png", ".1.png"]
)
def test_a_photo_with_an_unsafe_name_is_refused(platform, name):
    platform.call("POST", "/v1/categories", json=NEW, status=201)
    before = sorted(platform.folder.rglob("*"))
    files = [("files", (name, b"\x89PNG"))]
    refused = platform.call("POST", f"/v1/categories/{IDENTIFIER}/references", files=files, status=422)
    assert refused["type"] in ("/problems/upload-refused", "/problems/malformed-request")
    assert platform.space.records.find(ReferenceImage) == []
    assert sorted(platform.folder.rglob("*")) == before


def test_an_upload_without_a_picture_names_no_folder_of_the_server(platform):
    platform.call("POST", "/v1/categories", json=NEW, status=201)
    files = [("files", ("notes.txt", b"hello"))]
    refused = platform.call("POST", f"/v1/categories/{IDENTIFIER}/references", files=files, status=422)
    assert refused["detail"].startswith("the upload holds no pictures")
    assert "/tmp" not in refused["detail"]
