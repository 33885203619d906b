"""What a template may say, and what comes out of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packshot.domain.errors import (
    InvalidPrompt,
    InvalidTemplate,
    MissingVariable,
    UnknownVariable,
    UnusedOverride,
    WrongVariable,
)
from packshot.domain.generation import SamplingSettings
from packshot.domain.templates import check_template_name, check_used, parse_scene, render

SURFACE = {
    "name": "surface",
    "kind": "choice",
    "choices": ["wooden table", "marble counter"],
    "default": "wooden table",
}
COUNT = {"name": "count", "kind": "integer", "minimum": 1, "maximum": 9, "default": 1}
LIGHT = {"name": "light", "kind": "text", "max_length": 20}
FULL = {
    "style": "a studio photo",
    "quantity": "{count}",
    "packaging": "in a paper bag",
    "background": "on a {surface}",
    "light": "{light}",
    "negative_prompt": "text, {surface}",
    "width": 128,
    "height": 64,
    "variables": [SURFACE, COUNT, LIGHT],
}


def prompt(scene: dict[str, object], **overrides: str | int) -> str:
    return render(parse_scene(scene), "sks_fuji_apple", overrides).prompt


def test_a_full_template_is_rendered_around_its_subject():
    rendered = render(parse_scene(FULL), "sks_fuji_apple", {"light": "warm light", "count": 3})
    assert rendered.prompt == "a studio photo of 3 sks_fuji_apple in a paper bag on a wooden table, warm light"
    assert rendered.negative_prompt == "text, wooden table"
    assert (rendered.width, rendered.height) == (128, 64)


def test_empty_texts_leave_nothing_behind():
    assert prompt({}) == "a photo of a sks_fuji_apple"
    assert prompt({"style": "", "quantity": ""}) == "sks_fuji_apple"
    assert prompt({"style": "", "quantity": "", "light": "warm light"}) == "sks_fuji_apple, warm light"
    assert prompt({"packaging": "{p}", "variables": [{"name": "p", "kind": "text", "default": ""}]}) == prompt({})


def test_an_override_goes_before_the_default():
    scene = {"background": "on a {surface}", "variables": [SURFACE]}
    assert prompt(scene).endswith("on a wooden table")
    assert prompt(scene, surface="marble counter").endswith("on a marble counter")


def test_a_whole_number_may_come_as_text():
    scene = {"quantity": "{count}", "variables": [COUNT]}
    assert prompt(scene, count="07") == prompt(scene, count=7) == "a photo of 7 sks_fuji_apple"


def test_what_the_caller_gives_goes_before_the_size_and_the_negative_prompt_of_the_template():
    rendered = render(parse_scene(FULL), "sks_fuji_apple", {"light": "x"})
    mine = SamplingSettings(width=256, negative_prompt="people", seed=4)
    completed = rendered.completing(mine, {"width", "negative_prompt"})
    assert (completed.width, completed.height, completed.negative_prompt, completed.seed) == (256, 64, "people", 4)
    assert rendered.completing(mine, ()).width == 128


@given(st.text(max_size=20))
def test_a_value_is_put_in_as_it_is_or_refused(value):
    scene = parse_scene({"light": "{light}", "background": "{other}", "variables": [LIGHT, {**LIGHT, "name": "other"}]})
    try:
        rendered = render(scene, "sks_fuji_apple", {"light": value, "other": "{light}"}).prompt
    except WrongVariable:
        return
    shown = " ".join(value.split())
    assert rendered == "a photo of a sks_fuji_apple {light}" + (f", {shown}" if shown else "")


@pytest.mark.parametrize("value", ["{0.real}", "{light}", "{light!r}", "%(light)s", "${light}", "{{light}}"])
def test_nothing_in_a_value_is_carried_out(value):
    assert prompt({"light": "{light}", "variables": [LIGHT]}, light=value).endswith(f", {value}")


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        ({"lihgt": "x"}, UnusedOverride, "did you mean light?"),
        ({"light": "x", "weather": "rain"}, UnusedOverride, "the variables are count, light, surface"),
        ({}, MissingVariable, "light (text) has no value"),
        ({"light": "x", "surface": "woden table"}, WrongVariable, "did you mean wooden table?"),
        ({"light": "x", "surface": "grass"}, WrongVariable, "choose one of wooden table, marble counter"),
        ({"light": "x", "surface": 1}, WrongVariable, "write text"),
        ({"light": 7}, WrongVariable, "write text"),
        ({"light": "x" * 21}, WrongVariable, "at most 20"),
        ({"light": "<lora:x>"}, WrongVariable, "angle brackets"),
        ({"light": "two\nlines"}, WrongVariable, "line breaks"),
        ({"light": "sks_gala_apple"}, WrongVariable, "identifier"),
        ({"light": "x", "count": 0}, WrongVariable, "between 1 and 9"),
        ({"light": "x", "count": 10}, WrongVariable, "between 1 and 9"),
        ({"light": "x", "count": True}, WrongVariable, "whole number"),
        ({"light": "x", "count": "2.5"}, WrongVariable, "whole number"),
        ({"light": "x", "count": "two"}, WrongVariable, "whole number"),
        ({"light": "x", "count": "9" * 5000}, WrongVariable, "whole number"),
        ({"light": "x", "count": "٣"}, WrongVariable, "whole number"),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_is_refused_by_type(overrides, error, said):
    with pytest.raises(error) as raised:
        render(parse_scene(FULL), "sks_fuji_apple", overrides)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"backgruond": "x"}, InvalidTemplate, "did you mean background?"),
        ({"light": "{lihgt}"}, UnknownVariable, "did you mean light?"),
        ({"light": "{}"}, UnknownVariable, "not declared"),
        ({"light": "{light.__class__}"}, UnknownVariable, "not declared"),
        ({"light": "{light!r}"}, UnknownVariable, "not declared"),
        ({"light": "{{light}}"}, InvalidTemplate, "brace"),
        ({"light": "{light"}, InvalidTemplate, "brace"),
        ({"light": "day"}, InvalidTemplate, "no text uses the variable 'light'"),
        ({"light": {"light": None}}, InvalidTemplate, "in quotes"),
        ({"light": 5}, InvalidTemplate, "write text"),
        ({"packaging": "<box>"}, InvalidTemplate, "angle brackets"),
        ({"packaging": "beside sks_gala_apple"}, InvalidTemplate, "identifier"),
        ({"packaging": "x" * 301}, InvalidTemplate, "at most 300"),
        ({"width": 12}, InvalidTemplate, "multiple of 8"),
        ({"width": True}, InvalidTemplate, "whole number"),
        ({"height": "64"}, InvalidTemplate, "whole number"),
        ({"height": 9000}, InvalidTemplate, "4096"),
        ({"variables": {"light": "text"}}, InvalidTemplate, "a list"),
        ({"variables": ["light"]}, InvalidTemplate, "name, kind"),
        ({"variables": [SURFACE, COUNT, LIGHT, LIGHT]}, InvalidTemplate, "of its own"),
        ({"variables": [SURFACE, COUNT, {**LIGHT, "kind": "string"}]}, InvalidTemplate, "one of text, choice, integer"),
        ({"variables": [SURFACE, COUNT, {**LIGHT, "kind": "txt"}]}, InvalidTemplate, "did you mean text?"),
        ({"variables": [SURFACE, COUNT, {**LIGHT, "deflaut": "x"}]}, InvalidTemplate, "did you mean default?"),
        ({"variables": [SURFACE, COUNT, {**LIGHT, "minimum": 1}]}, InvalidTemplate, "has no minimum"),
        ({"variables": [SURFACE, COUNT, {**LIGHT, "max_length": 0}]}, InvalidTemplate, "max_length"),
        ({"variables": [SURFACE, COUNT, {**LIGHT, "name": "Light"}]}, InvalidTemplate, "lower-case"),
        ({"variables": [SURFACE, COUNT, {**LIGHT, "default": "x" * 21}]}, InvalidTemplate, "the default does not fit"),
        ({"variables": [SURFACE, COUNT, {**LIGHT, "default": True}]}, InvalidTemplate, "write text"),
        ({"variables": [SURFACE, {**COUNT, "minimum": None}, LIGHT]}, InvalidTemplate, "a minimum and a maximum"),
        ({"variables": [SURFACE, {**COUNT, "minimum": 10}, LIGHT]}, InvalidTemplate, "in this order"),
        ({"variables": [SURFACE, {**COUNT, "default": 0}, LIGHT]}, InvalidTemplate, "between 1 and 9"),
        ({"variables": [{**SURFACE, "choices": []}, COUNT, LIGHT]}, InvalidTemplate, "1 to 100 choices"),
        ({"variables": [{**SURFACE, "choices": ["a", "a"]}, COUNT, LIGHT]}, InvalidTemplate, "each once"),
        ({"variables": [{**SURFACE, "choices": ["a", 2]}, COUNT, LIGHT]}, InvalidTemplate, "write text"),
        ({"variables": [{**SURFACE, "default": "grass"}, COUNT, LIGHT]}, InvalidTemplate, "choose one of"),
        ({"variables": [{**SURFACE, "choices": ["wooden table", "<x>"]}, COUNT, LIGHT]}, InvalidTemplate, "angle"),
    ],
    ids=str,
)
def test_a_definition_that_breaks_a_rule_says_which(change, error, said):
    with pytest.raises(error) as raised:
        parse_scene({**FULL, **change})
    assert said in str(raised.value)


def test_a_prompt_that_grew_too_long_is_refused():
    variables = [{"name": f"v{number}", "kind": "text", "default": "x" * 200} for number in range(6)]
    with pytest.raises(InvalidPrompt, match="1000"):
        prompt({"light": " ".join(f"{{v{number}}}" for number in range(6)), "variables": variables})


def test_a_value_for_several_templates_must_be_used_by_one():
    scenes = [parse_scene({"light": "{light}", "variables": [LIGHT]}), parse_scene({})]
    check_used(["light"], scenes)
    with pytest.raises(UnusedOverride, match="did you mean light"):
        check_used(["lights"], scenes)


@pytest.mark.parametrize(
    "name", ["", "Summer", "summer table", "summer_table", "../etc", "a@2", "-a", "a--b", "a" * 65]
)
def test_a_name_that_breaks_the_rule_is_refused(name):
    with pytest.raises(InvalidTemplate, match="for example summer-table"):
        check_template_name(name)
