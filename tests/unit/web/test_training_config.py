"""Configurations over HTTP: presets, chosen steps and validation prompts as plain values."""

from typing import Any

from api import IDENTIFIER, Platform


def configured(platform: Platform, **config: Any) -> Any:
    started = platform.call("POST", "/v1/trainings", json={"category": IDENTIFIER, "config": config}, status=202)
    return started["config"]


def test_a_preset_is_a_key_like_any_other(platform):
    platform.frozen()
    draft = configured(platform, preset="draft", seed=3)
    assert (draft["steps"], draft["choose_steps"], draft["seed"]) == (125, False, 3)
    assert "preset" not in draft
    best = configured(platform, preset="best", steps=30)
    assert (best["steps"], best["choose_steps"]) == (30, True)


def test_steps_may_be_auto_and_prompts_are_parted_by_bars(platform):
    platform.frozen()
    given = configured(platform, steps="auto", validation_prompts="{product} on grass | an apple")
    assert (given["choose_steps"], given["validation_prompts"]) == (True, ["{product} on grass", "an apple"])


def test_an_unknown_preset_is_a_problem_that_names_the_known_ones(platform):
    platform.frozen()
    body = {"category": IDENTIFIER, "config": {"preset": "fast"}}
    problem = platform.call("POST", "/v1/trainings", json=body, status=422)
    assert "draft, standard, best" in problem["detail"]
