"""Faults 7 and 8 over HTTP: one identifier, many creators; one idempotency key, many requests."""

import threading
from collections.abc import Callable
from typing import TypeVar

import pytest
from api import IDENTIFIER, PROMPT
from fastapi.testclient import TestClient

from packshot.domain.catalog import Category
from packshot.domain.generation import Generation
from packshot.domain.jobs import Job
from packshot.domain.references import ReferenceImage
from packshot.domain.training import TrainingRun
from packshot.web.app import create_app

SPELLINGS = (
    "acme_cool_doll",
    "acme_c0ol_doll",
    "acme_co0l_doll",
    "acme_cool_d0ll",
    "acme_coo1_doll",
    "acme_cool_do1l",
    "acme_c00l_d0l1",
    "acme_cool_doll",
)


T = TypeVar("T")


def at_once(count: int, act: Callable[[int], T]) -> list[T]:
    """What ``act(0)`` to ``act(count - 1)`` give, in threads that start together."""
    barrier = threading.Barrier(count)
    results: dict[int, T] = {}

    def run(number: int) -> None:
        barrier.wait()
        results[number] = act(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [results[number] for number in range(count)]


def keyed(platform, key: str = "order 7") -> dict[str, str]:
    return {**platform.key("admin"), "Idempotency-Key": key}


def test_of_64_creators_of_look_alikes_one_wins(platform):
    headers = platform.key("train")

    def create(number: int) -> tuple[int, str]:
        body = {"path": f"p/n{number}", "class_noun": "apple", "identifier": SPELLINGS[number % len(SPELLINGS)]}
        reply = platform.client.post("/v1/categories", json=body, headers=headers)
        return reply.status_code, reply.json().get("type", "created")

    outcomes = sorted(at_once(64, create))
    assert outcomes == [(201, "created")] + [(409, "/problems/identifier-taken")] * 63
    assert len(platform.space.records.find(Category)) == 1


@pytest.mark.parametrize("what", ["generation", "training"])
def test_100_requests_with_one_key_are_one_job_and_get_one_reply(platform, what):
    platform.serving()
    before = len(platform.space.records.find(Job))
    path = f"/v1/{what}s"
    body = {"prompt": PROMPT} if what == "generation" else {"category": IDENTIFIER, "config": {"seed": 5}}
    headers = keyed(platform)
    replies = at_once(100, lambda _: platform.client.post(path, json=body, headers=headers))
    assert {reply.status_code for reply in replies} == {202}
    assert len({reply.content for reply in replies}) == 1
    assert len(platform.space.records.find(Job)) == before + 1
    kind = Generation if what == "generation" else TrainingRun
    assert len([each for each in platform.space.records.find(kind) if each.id == replies[0].json()["id"]]) == 1


def test_the_reply_outlives_the_server_and_the_job(platform):
    platform.serving()
    first = platform.client.post("/v1/generations", json={"prompt": PROMPT}, headers=keyed(platform))
    platform.work()
    with TestClient(create_app(platform.space)) as restarted:
        again = restarted.post("/v1/generations", json={"prompt": PROMPT}, headers=keyed(platform))
    assert (again.status_code, again.content) == (202, first.content)
    assert len(platform.space.records.find(Generation)) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generations", {"prompt": PROMPT, "seed": 1}),
        ("/v1/images/generations", {"prompt": PROMPT}),
        ("/v1/categories", {"path": "a/b", "class_noun": "apple"}),
    ],
)
def test_a_key_that_came_with_another_request_is_refused(platform, path, body):
    platform.serving()
    platform.client.post("/v1/generations", json={"prompt": PROMPT}, headers=keyed(platform))
    refused = platform.call("POST", path, json=body, headers=keyed(platform), status=422)
    assert refused["type"] == "/problems/idempotency-key-reused"
    assert len(platform.space.records.find(Generation)) == len(platform.space.records.find(Category)) == 1


def test_equal_requests_that_say_defaults_or_not_are_equal(platform):
    platform.serving()
    first = platform.client.post("/v1/generations", json={"prompt": PROMPT}, headers=keyed(platform))
    again = platform.client.post("/v1/generations", json={"seed": 0, "prompt": PROMPT}, headers=keyed(platform))
    assert first.content == again.content


def test_teams_do_not_share_idempotency_keys(platform):
    for team in ("acme", "rival"):
        headers = {**platform.key("train", team=team), "Idempotency-Key": "1"}
        reply = platform.client.post("/v1/categories", json={"path": "a/b", "class_noun": "apple"}, headers=headers)
        assert reply.json()["namespace"] == team


def test_a_refused_request_may_come_again_mended(platform):
    bad = platform.client.post("/v1/categories", json={"path": "A", "class_noun": "apple"}, headers=keyed(platform))
    good = platform.client.post("/v1/categories", json={"path": "a", "class_noun": "apple"}, headers=keyed(platform))
    assert (bad.status_code, good.status_code) == (422, 201)


def test_parallel_uploads_with_one_key_take_each_photo_once(platform):
    platform.call("POST", "/v1/categories", json={"path": "apple/fuji", "class_noun": "apple"}, status=201)
    photos, headers = platform.photos(3), keyed(platform)

    def upload(number: int):
        files = photos[number % 3 :] + photos[: number % 3]  # another order, and another multipart boundary
        return platform.client.post(f"/v1/categories/{IDENTIFIER}/references", files=files, headers=headers)

    replies = at_once(8, upload)
    assert {(reply.status_code, reply.content) for reply in replies} == {(201, replies[0].content)}
    assert len(platform.space.records.find(ReferenceImage)) == 3
    other = platform.client.post(
        f"/v1/categories/{IDENTIFIER}/references", files=platform.photos(1, start=9), headers=headers
    )
    assert other.json()["type"] == "/problems/idempotency-key-reused"


def test_parallel_uploads_without_a_key_take_each_photo_once_too(platform):
    platform.call("POST", "/v1/categories", json={"path": "apple/fuji", "class_noun": "apple"}, status=201)
    photos, headers = platform.photos(2), platform.key("train")
    at_once(6, lambda _: platform.client.post(f"/v1/categories/{IDENTIFIER}/references", files=photos, headers=headers))
    assert len(platform.space.records.find(ReferenceImage)) == 2
