"""One error envelope, whatever goes wrong."""

import pytest

from packshot.domain import errors
from packshot.domain.catalog import Category
from packshot.web.access import MAX_BODY_BYTES
from packshot.web.problems import MEDIA_TYPE, PREFIX, Problem, error_of, problem_kinds, slug_of, status_of

SEEN = {
    "type": "/problems/invalid-path",
    "title": "Invalid path",
    "status": 422,
    "instance": "/v1/categories",
    "request_id": "r-1",
}


def test_an_error_is_told_as_problem_details(platform):
    headers = {**platform.key("admin"), "X-Request-Id": "r-1"}
    reply = platform.client.post("/v1/categories", json={"path": "A", "class_noun": "apple"}, headers=headers)
    assert (reply.headers["content-type"], reply.headers["x-request-id"]) == (MEDIA_TYPE, "r-1")
    told = reply.json()
    assert "'A' is not a category path; write one to six" in told.pop("detail")
    assert told == SEEN


@pytest.mark.parametrize("asked", ["", "a b", "x" * 65, "ü", "a\tb"])
def test_a_request_id_that_is_no_plain_word_is_replaced(platform, asked):
    given = [
        platform.client.get("/v1/bases", headers={**platform.key("read"), "X-Request-Id": asked.encode()}).headers[
            "x-request-id"
        ]
        for _ in range(2)
    ]
    assert asked not in given
    assert len(set(given)) == 2


def test_every_error_of_the_domain_has_a_status_and_a_type_of_its_own():
    every = {
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.PackshotError)
    }
    assert every - set(problem_kinds()) == {errors.PackshotError, errors.AccessDenied}
    assert len({slug_of(kind) for kind in problem_kinds()}) == len(problem_kinds())
    assert all(400 <= status_of(kind) <= 599 for kind in problem_kinds())


@pytest.mark.parametrize("kind", problem_kinds(), ids=lambda kind: kind.__name__)
def test_a_problem_leads_back_to_its_error(kind):
    problem = Problem(
        type=PREFIX + slug_of(kind), title="", status=status_of(kind), detail="why", instance="/", request_id="1"
    )
    error = error_of(problem)
    assert str(error) == "why"
    assert type(error) is (errors.InvalidInput if kind is errors.ImageRefused else kind)


@pytest.mark.parametrize(("status", "kind"), [(418, errors.InvalidInput), (500, errors.ServerUnusable)])
def test_an_unknown_problem_becomes_the_nearest_error(status, kind):
    problem = Problem(type="/problems/new", title="", status=status, detail="why", instance="/", request_id="1")
    assert type(error_of(problem)) is kind


def test_a_malformed_request_names_the_fields(platform):
    told = platform.call("POST", "/v1/categories", json={"path": 3, "colour": "crimson"}, status=422)
    assert told["type"] == "/problems/malformed-request"
    assert {each["field"] for each in told["fields"]} == {"body.path", "body.class_noun", "body.colour"}
    assert "crimson" not in str(told["fields"])


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "type_"),
    [
        ("GET", "/v1/nothing", b"", 404, "not-found"),
        ("GET", "/nothing", b"", 404, "not-found"),
        ("DELETE", "/v1/categories", b"", 405, "method-not-allowed"),
        ("POST", "/v1/categories", b"{", 422, "malformed-request"),
        ("POST", "/v1/categories", b"[" * 100_000, 400, "malformed-request"),
        ("POST", "/v1/categories", b'"\xff"', 400, "malformed-request"),
        ("POST", "/v1/categories", b" " * (MAX_BODY_BYTES + 1), 413, "body-too-large"),
        ("GET", "/v1/categories?limit=0", b"", 422, "malformed-request"),
        ("GET", "/v1/categories?limit=99999999999999999999", b"", 422, "malformed-request"),
        ("GET", "/v1/categories/%00", b"", 404, "not-found"),
        ("GET", "/v1/images/..%2f..%2fpackshot.db", b"", 404, "not-found"),
        ("GET", "/v1/images/%2e%2e", b"", 404, "not-found"),
        ("GET", "/v1/categories/%ff%fe", b"", 404, "not-found"),
    ],
)
def test_what_never_reaches_a_route_is_told_the_same_way(platform, method, path, content, status, type_):
    headers = {**platform.key("admin"), "Content-Type": "application/json"}
    reply = platform.client.request(method, path, content=content, headers=headers)
    assert (reply.status_code, reply.headers["content-type"]) == (status, MEDIA_TYPE), reply.text
    assert reply.json()["type"] == f"/problems/{type_}"


def test_a_body_that_says_too_little_of_its_length_is_cut_off(platform):
    def endless():
        for _ in range(3):
            yield b" " * MAX_BODY_BYTES

    reply = platform.client.post(
        "/v1/categories", content=endless(), headers={**platform.key("admin"), "Content-Type": "application/json"}
    )
    assert (reply.status_code, reply.json()["type"]) == (413, "/problems/body-too-large")


def test_a_surprise_tells_nothing_but_its_request_id(platform, monkeypatch, caplog):
    def surprise(*_: object, **__: object) -> None:
        raise RuntimeError("secret of the house")

    monkeypatch.setattr(type(platform.space.records), "find", surprise)
    with pytest.raises(RuntimeError), caplog.at_level("CRITICAL"):
        platform.space.records.find(Category)
    platform.keys["acme", "admin"] = "pks_x"
    reply = platform.client.get("/v1/categories", headers=platform.key("admin"))
    assert reply.status_code == 500
    assert reply.json()["type"] == "/problems/internal-error"
    assert "secret" not in reply.text
    assert reply.headers["x-request-id"] == reply.json()["request_id"]


def test_no_key_is_asked_for_with_the_scheme_and_a_busy_server_says_when_to_come_again(platform, monkeypatch):
    assert platform.client.get("/v1/bases").headers["www-authenticate"] == "Bearer"

    def busy(*_: object, **__: object) -> None:
        raise errors.WorkspaceUnusable("the disk is full")

    headers = platform.key("read")
    monkeypatch.setattr(type(platform.space.records), "find", busy)
    reply = platform.client.get("/v1/bases", headers=headers)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
