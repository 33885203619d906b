"""Templates over HTTP: versions, and pictures by template."""

import pytest
from api import IDENTIFIER

from packshot.domain.generation import Generation
from packshot.domain.templates import Template

SURFACE = {
    "name": "surface",
    "kind": "choice",
    "choices": ["wooden table", "marble counter"],
    "default": "wooden table",
}
LIGHT = {"name": "light", "kind": "text"}
SUMMER = {
    "name": "summer",
    "background": "on a {surface}",
    "light": "{light}",
    "negative_prompt": "text",
    "width": 64,
    "height": 128,
    "variables": [SURFACE, LIGHT],
}


def add(platform, **change: object):
    return platform.call("POST", "/v1/templates", json={**SUMMER, **change}, status=201)


def test_a_new_version_appends_and_the_old_one_stays(platform):
    first = add(platform)
    assert (first["version"], first["namespace"], first["scene"]["variables"][0]["default"]) == (
        1,
        "acme",
        "wooden table",
    )
    assert add(platform) == first
    second = add(platform, style="a drawing")
    assert second["version"] == 2
    assert platform.call("GET", "/v1/templates/summer") == second
    assert platform.call("GET", "/v1/templates/summer@1") == platform.call("GET", "/v1/templates/summer@v1") == first
    assert platform.call("GET", "/v1/templates/summer/versions")["items"] == [first, second]
    assert add(platform)["version"] == 3


def test_the_list_comes_in_pages_by_name(platform):
    for name in ("winter", "autumn", "summer"):
        add(platform, name=name)
    add(platform, name="autumn", style="a drawing")
    page = platform.call("GET", "/v1/templates", params={"limit": 3})
    assert [(each["name"], each["version"]) for each in page["items"]] == [("autumn", 1), ("autumn", 2), ("summer", 1)]
    rest = platform.call("GET", "/v1/templates", params={"limit": 3, "cursor": page["next"]})
    assert ([each["name"] for each in rest["items"]], rest["next"]) == (["winter"], None)


def test_the_same_key_gives_the_same_version(platform):
    headers = {"Idempotency-Key": "template 1"}
    first = platform.call("POST", "/v1/templates", json=SUMMER, status=201, headers=headers)
    add(platform, style="a drawing")
    assert platform.call("POST", "/v1/templates", json=SUMMER, status=201, headers=headers) == first
    assert len(platform.space.records.find(Template)) == 2
    other = {**SUMMER, "style": "x"}
    refused = platform.call("POST", "/v1/templates", json=other, status=422, headers=headers)
    assert refused["type"] == "/problems/idempotency-key-reused"


@pytest.mark.parametrize(
    ("change", "type_"),
    [
        ({"name": "Summer!"}, "invalid-template"),
        ({"background": "on a {surfaec}"}, "unknown-variable"),
        ({"background": "on grass"}, "invalid-template"),
        ({"variables": [SURFACE, {**LIGHT, "minimum": 1}]}, "invalid-template"),
        ({"variables": [SURFACE, {**LIGHT, "default": True}]}, "malformed-request"),
        ({"variables": [SURFACE, {**LIGHT, "kind": "code"}]}, "malformed-request"),
        ({"colour": "red"}, "malformed-request"),
        ({"light": "<lora:x>", "variables": [SURFACE]}, "invalid-template"),
    ],
    ids=str,
)
def test_a_bad_template_is_refused_by_type(platform, change, type_):
    refused = platform.call("POST", "/v1/templates", json={**SUMMER, **change}, status=422)
    assert refused["type"] == f"/problems/{type_}"
    assert platform.space.records.find(Template) == []


def test_a_template_that_is_not_there_is_not_found_with_near_matches(platform):
    add(platform)
    assert "did you mean summer?" in platform.call("GET", "/v1/templates/sumer", status=404)["detail"]
    assert "its versions are 1" in platform.call("GET", "/v1/templates/summer@7", status=404)["detail"]
    platform.call("GET", "/v1/templates/summer@x", status=422)
    platform.call("GET", "/v1/templates/none/versions", status=404)


def ask(platform, status: int = 202, **body: object):
    return platform.call("POST", "/v1/generations", json=body, status=status)


def test_pictures_are_made_by_template(platform):
    fine_tune_id = platform.serving()
    template = add(platform)
    values = {"light": "warm light", "surface": "marble counter"}
    asked = ask(platform, model=IDENTIFIER, template="summer", variables=values)
    assert asked["prompt"] == f"a photo of a {IDENTIFIER} on a marble counter, warm light"
    assert (asked["template_id"], asked["fine_tune_id"]) == (template["id"], fine_tune_id)
    assert IDENTIFIER not in asked["resolved_prompt"]
    sampling = asked["sampling"]
    assert (sampling["negative_prompt"], sampling["width"], sampling["height"]) == ("text", 64, 128)
    mine = ask(platform, model=IDENTIFIER, template="summer@1", variables={"light": "x"}, width=0, negative_prompt="")
    sampling = mine["sampling"]
    assert (sampling["negative_prompt"], sampling["width"], sampling["height"]) == ("", 0, 128)
    platform.work()
    assert len(platform.call("GET", asked["urls"]["get"])["images"]) == 1


def test_a_request_keeps_the_version_that_it_was_rendered_from(platform):
    platform.serving()
    first = add(platform)
    asked = ask(platform, model=IDENTIFIER, template="summer", variables={"light": "x"})
    add(platform, style="a drawing")
    assert platform.call("GET", asked["urls"]["get"])["template_id"] == first["id"]


@pytest.mark.parametrize(
    ("change", "status", "type_", "said"),
    [
        ({"variables": {}}, 422, "missing-variable", "light"),
        ({"variables": {"light": "x", "surfaec": "y"}}, 422, "unused-override", "did you mean surface?"),
        ({"variables": {"light": "x", "surface": "marble"}}, 422, "wrong-variable", "did you mean marble counter?"),
        ({"variables": {"light": 3}}, 422, "wrong-variable", "write text"),
        ({"variables": {"light": True}}, 422, "malformed-request", "variables"),
        ({"variables": {"light": ["x"]}}, 422, "malformed-request", "variables"),
        ({"template": "winter"}, 404, "not-found", "winter"),
        ({"template": "summer@2"}, 404, "not-found", "its versions are 1"),
        ({"template": None}, 422, "invalid-input", "name one"),
        ({"template": None, "variables": {}}, 422, "invalid-input", "give a prompt, or a template"),
        ({"prompt": "on grass"}, 422, "invalid-input", "leave the prompt out"),
        ({"model": "packshot"}, 422, "invalid-input", "as model"),
        ({"model": "acme_gala_apple"}, 404, "not-found", "acme_gala_apple"),
    ],
    ids=str,
)
def test_a_request_that_does_not_fit_the_template_is_refused(platform, change, status, type_, said):
    platform.serving()
    add(platform)
    body = {"model": IDENTIFIER, "template": "summer", "variables": {"light": "x"}, **change}
    refused = ask(platform, status, **body)
    assert refused["type"] == f"/problems/{type_}"
    assert said in refused["detail"] + str(refused.get("fields"))
    assert platform.space.records.find(Generation) == []


def test_a_template_of_another_team_does_not_exist(platform):
    add(platform)
    rival = platform.key("admin", team="rival")
    assert platform.call("GET", "/v1/templates", key=rival)["items"] == []
    platform.call("GET", "/v1/templates/summer", key=rival, status=404)
    mine = platform.call("POST", "/v1/templates", json={**SUMMER, "style": "x"}, key=rival, status=201)
    assert mine["version"] == 1
