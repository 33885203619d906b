"""Fault 21: who may ask what, for every route of the OpenAPI document; and who needs no key."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from api import IDENTIFIER, PROMPT, Platform, platform_in, worker

from packshot.domain.access import ApiKey
from packshot.services.access import revoke_key


@dataclass(frozen=True)
class Rule:
    """What a route needs, a good request to it, and whether another team gets 404 or sees its own things only.

    ``told`` is what the document says where that depends on the kind of job; the job here is a training.
    """

    scope: str
    request: dict[str, Any] = field(default_factory=dict)
    foreign: int = 404
    told: str = ""


def body(**content: object) -> dict[str, Any]:
    return {"json": content}


RULES = {
    ("post", "/v1/categories"): Rule("train", body(path="apple/gala", class_noun="apple"), foreign=201),
    ("get", "/v1/categories"): Rule("read", foreign=200),
    ("get", "/v1/catalog"): Rule("read", foreign=200),
    ("get", "/v1/categories/{identifier}"): Rule("read"),
    ("post", "/v1/categories/{identifier}/retire"): Rule("admin"),
    ("get", "/v1/categories/{identifier}/alias"): Rule("read"),
    ("post", "/v1/categories/{identifier}/alias/promote"): Rule("admin", body(fine_tune_id="{fine_tune_id}")),
    ("post", "/v1/categories/{identifier}/alias/rollback"): Rule("admin", body()),
    ("post", "/v1/categories/{identifier}/references"): Rule("train", {"files": [("files", ("1.png", b"x"))]}),
    ("post", "/v1/categories/{identifier}/references/urls"): Rule("train", body(urls=["http://127.0.0.1:9/1.png"])),
    ("get", "/v1/categories/{identifier}/references"): Rule("read"),
    ("post", "/v1/categories/{identifier}/references/freeze"): Rule("train"),
    ("post", "/v1/trainings"): Rule("train", body(category=IDENTIFIER)),
    ("get", "/v1/trainings"): Rule("read", foreign=200),
    ("get", "/v1/trainings/{training_id}"): Rule("read"),
    ("post", "/v1/trainings/{training_id}/cancel"): Rule("train"),
    ("get", "/v1/trainings/{training_id}/events"): Rule("read"),
    ("get", "/v1/fine-tunes"): Rule("read", {"params": {"category": IDENTIFIER}}),
    ("get", "/v1/fine-tunes/{fine_tune_id}"): Rule("read"),
    ("get", "/v1/fine-tunes/{fine_tune_id}/lineage"): Rule("read"),
    ("get", "/v1/fine-tunes/{fine_tune_id}/evaluations"): Rule("read"),
    ("post", "/v1/evaluations"): Rule("train", body(fine_tune_id="{fine_tune_id}", images_per_scene=1)),
    ("get", "/v1/evaluations"): Rule("read", foreign=200),
    ("get", "/v1/evaluations/{evaluation_id}"): Rule("read"),
    ("get", "/v1/evaluations/{evaluation_id}/files/{file_name}"): Rule("read"),
    ("post", "/v1/evaluations/{evaluation_id}/cancel"): Rule("train"),
    ("get", "/v1/bases"): Rule("read", foreign=200),
    ("get", "/v1/bases/{base_id}"): Rule("read", foreign=200),
    ("post", "/v1/templates"): Rule("train", body(name="winter"), foreign=201),
    ("get", "/v1/templates"): Rule("read", foreign=200),
    ("get", "/v1/templates/{template}"): Rule("read"),
    ("get", "/v1/templates/{template}/versions"): Rule("read"),
    ("post", "/v1/generations"): Rule("generate", body(prompt="on grass", model=IDENTIFIER)),
    ("get", "/v1/generations"): Rule("read", foreign=200),
    ("get", "/v1/generations/{generation_id}"): Rule("read"),
    ("post", "/v1/generations/{generation_id}/cancel"): Rule("generate"),
    ("post", "/v1/batches"): Rule("generate", body(categories=[IDENTIFIER], templates=["summer"])),
    ("get", "/v1/batches"): Rule("read", foreign=200),
    ("get", "/v1/batches/{batch_id}"): Rule("read"),
    ("post", "/v1/batches/{batch_id}/cancel"): Rule("generate"),
    ("get", "/v1/batches/{batch_id}/manifest.jsonl"): Rule("read"),
    ("get", "/v1/batches/{batch_id}/manifest.csv"): Rule("read"),
    ("get", "/v1/batches/{batch_id}/pictures.zip"): Rule("read"),
    ("get", "/v1/batches/{batch_id}/sheet.png"): Rule("read"),
    ("get", "/v1/jobs"): Rule("read", foreign=200),
    ("get", "/v1/jobs/{job_id}"): Rule("read"),
    ("post", "/v1/jobs/{job_id}/retry"): Rule("train", told="read"),
    ("get", "/v1/jobs/{job_id}/events"): Rule("read"),
    ("get", "/v1/images/{image_id}"): Rule("read"),
    ("get", "/v1/images/{image_id}/lineage"): Rule("read"),
    ("get", "/v1/audit"): Rule("admin", foreign=200),
    ("get", "/v1/usage"): Rule("read", foreign=200),
    ("post", "/v1/webhooks"): Rule("admin", body(url="https://shop.example/"), foreign=201),
    ("get", "/v1/webhooks"): Rule("admin", foreign=200),
    ("post", "/v1/webhooks/{webhook_id}/disable"): Rule("admin"),
    ("get", "/v1/webhooks/{webhook_id}/deliveries"): Rule("admin"),
    ("post", "/v1/images/generations"): Rule("generate", body(prompt="on grass", model=IDENTIFIER)),
}
SCOPES = ("read", "generate", "train", "admin")


@dataclass(frozen=True)
class Team:
    """A platform where acme owns one of everything."""

    platform: Platform
    ids: dict[str, str]

    def ask(self, route: tuple[str, str], headers: dict[str, str]) -> tuple[int, str]:
        method, path = route
        request = dict(RULES[route].request)
        if request.get("json"):
            request["json"] = {
                name: value.format(**self.ids) if isinstance(value, str) else value
                for name, value in request["json"].items()
            }
        reply = self.platform.client.request(method, path.format(**self.ids), headers=headers, **request)
        return reply.status_code, reply.text


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    for platform in platform_in(tmp_path_factory.mktemp("team")):
        fine_tune_id = platform.serving()
        fine_tune = platform.call("GET", f"/v1/fine-tunes/{fine_tune_id}")
        made = platform.call("POST", "/v1/generations", json={"prompt": PROMPT}, status=202)
        platform.call("POST", "/v1/templates", json={"name": "summer"}, status=201)
        asked = {"categories": [IDENTIFIER], "templates": ["summer"]}
        batch = platform.call("POST", "/v1/batches", json=asked, status=202)
        platform.work()
        generation = platform.call("GET", made["urls"]["get"])
        ids = {
            "identifier": IDENTIFIER,
            "template": "summer",
            "file_name": "sheet.png",
            "batch_id": batch["id"],
            "training_id": fine_tune["training_run_id"],
            "fine_tune_id": fine_tune_id,
            "evaluation_id": platform.evaluated(fine_tune_id),
            "base_id": fine_tune["base_id"],
            "generation_id": generation["id"],
            "image_id": generation["images"][0]["id"],
            "job_id": platform.call("GET", "/v1/jobs")["items"][0]["id"],
            "webhook_id": platform.call("POST", "/v1/webhooks", json={"url": "https://acme.example/"}, status=201)[
                "id"
            ],
        }
        with worker(platform):
            yield Team(platform, ids)


def test_every_route_has_a_rule_and_says_which_scope_it_needs(team):
    document = team.platform.client.get("/openapi.json").json()
    needed = {
        (method, path): operation.get("security", [{}])[0].get("key", ["nothing"])[-1]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert needed == {route: rule.told or rule.scope for route, rule in RULES.items()}


@pytest.mark.parametrize("route", RULES, ids=" ".join)
def test_without_a_valid_key_nobody_gets_anything(team, route):
    revoked = team.platform.key("admin", team="gone")
    for key in team.platform.space.records.find(ApiKey, namespace="gone"):
        if key.revoked_at is None:
            revoke_key(team.platform.space.records, key.id)
    secret = team.platform.keys["acme", "admin"]
    for headers in (
        {},
        revoked,
        {"Authorization": "Bearer"},
        {"Authorization": f"Basic {secret}"},
        {"Authorization": f"Bearer {secret}x"},
        {"Authorization": f"Bearer {secret.swapcase()}"},
        {"X-Api-Key": secret},
    ):
        status, text = team.ask(route, headers)
        assert (status, '"type":"/problems/key-refused"' in text) == (401, True), text


@pytest.mark.parametrize("route", RULES, ids=" ".join)
def test_a_key_without_the_scope_is_refused(team, route):
    for scope in SCOPES:
        enough = scope == "admin" or RULES[route].scope in ("read", scope)
        if not enough:
            status, text = team.ask(route, team.platform.key(scope))
            assert (status, '"type":"/problems/scope-missing"' in text) == (403, True), text


@pytest.mark.parametrize("route", RULES, ids=" ".join)
def test_another_team_finds_nothing_of_this_one(team, route):
    status, text = team.ask(route, team.platform.key("admin", team="rival"))
    assert status == RULES[route].foreign, text
    if status < 400:
        assert not [name for name, id_ in team.ids.items() if id_ in text and name != "base_id"]


@pytest.mark.parametrize("route", RULES, ids=" ".join)
def test_a_key_with_just_the_scope_is_let_in(team, route):
    """Last, as it changes things."""
    status, text = team.ask(route, team.platform.key(RULES[route].scope))
    assert status < 300 or status == 409, text


def test_a_path_below_v1_that_does_not_exist_needs_a_key_too(platform):
    assert platform.client.get("/v1/nothing").status_code == 401
    assert platform.client.get("/v1").status_code == 401
    assert platform.call("GET", "/v1/nothing", status=404)["type"] == "/problems/not-found"


# development mode


def listed(platform: Platform, **headers: str) -> int:
    return platform.client.get("/v1/categories", headers={"Host": "localhost:8000", **headers}).status_code


def test_in_development_a_caller_on_this_machine_needs_no_key(dev_platform):
    for address in ("127.0.0.1", "::1"):
        platform = dev_platform(address)
        assert listed(platform) == listed(platform, Origin="http://127.0.0.1:3000") == 200
        made = platform.client.post(
            "/v1/categories", json={"path": "a", "class_noun": "apple"}, headers={"Host": "127.0.0.1"}
        )
        assert made.json()["namespace"] == "sks"


@pytest.mark.parametrize("address", ["10.0.0.7", "192.168.1.2", "2001:db8::1", "testclient", "127.0.0.1.evil.example"])
def test_in_development_others_need_a_key(dev_platform, address):
    platform = dev_platform(address)
    assert listed(platform) == 401
    assert listed(platform, **platform.key("read")) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=10.0.0.7"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic d3Jvbmc="},
    ],
    ids=str,
)
def test_in_development_a_page_of_elsewhere_a_proxy_and_a_wrong_key_are_refused(dev_platform, headers):
    assert listed(dev_platform("127.0.0.1"), **headers) == 401


def test_without_development_mode_this_machine_needs_a_key_too(tmp_path):
    for platform in platform_in(tmp_path, client=("127.0.0.1", 1)):
        assert listed(platform) == 401
