"""Prompts of several identifiers: what they are resolved to, recorded as, and refused for."""

from dataclasses import replace

import pytest

from packshot.domain.catalog import Category
from packshot.domain.composition import Box
from packshot.domain.errors import InvalidComposition, InvalidPrompt, NothingServing, PackshotError
from packshot.domain.generation import Generation, SamplingSettings
from packshot.domain.training_choices import Method
from packshot.imaging.recipe import read_recipe
from packshot.services.catalog import add_category
from packshot.services.generation import generate, plan_generation
from packshot.services.jobs import check_succeeded, work_on_one
from packshot.services.models import lineage_of, promote
from packshot.services.prompts import resolve_prompt

PROMPT = "SKS_fuji_apple next to sks_gala_apple in a basket"
BOXES = (Box.of((0, 0, 0.5, 1)), Box.of((0.5, 0, 1, 1)))
SAMPLING = SamplingSettings(seed=7, num_images=2)
CODE = "0.1.0+git.abc"


@pytest.fixture
def served(space):
    """Two fine-tunes that serve."""
    fine_tunes = []
    for variety in ("fuji", "gala"):
        fine_tunes.append(space.fine_tune(space.category(variety)))
        promote(space.records, fine_tunes[-1], reason="a test")
    return fine_tunes


def test_each_subject_has_its_version_its_prompt_and_a_column_in_order_of_mention(space, served):
    resolved = resolve_prompt(space.records, PROMPT, bare_base=space.base)
    assert (resolved.prompt, resolved.fine_tune) == ("apple next to apple in a basket", None)
    assert [each.fine_tune for each in resolved.subjects] == served
    assert [each.placed.box for each in resolved.subjects] == list(BOXES)
    assert [each.placed.resolved_prompt for each in resolved.subjects] == [
        f"{fine_tune.trained_phrase} in a basket" for fine_tune in served
    ]


def test_one_subject_may_have_a_box_too(space, served):
    resolved = resolve_prompt(space.records, "sks_gala_apple on grass", bare_base=space.base, boxes=BOXES[:1])
    (gala,) = resolved.subjects
    assert (gala.fine_tune, gala.placed.box) == (served[1], BOXES[0])


def test_a_version_can_be_asked_for_of_one_subject(space, served):
    newer = space.fine_tune(_category(space, served[0]), seed=1)
    resolved = resolve_prompt(space.records, PROMPT, bare_base=space.base, fine_tune=newer)
    assert [each.fine_tune for each in resolved.subjects] == [newer, served[1]]


def _category(space, fine_tune):
    return space.records.get(Category, fine_tune.category_id)


def test_what_cannot_stand_in_one_picture_is_refused_with_the_reason(space, served):
    def refused(match, error: type[PackshotError] = InvalidComposition, prompt=PROMPT, **options):
        with pytest.raises(error, match=match):
            resolve_prompt(space.records, prompt, bare_base=space.base, **options)

    refused("1 boxes are given, and the prompt names 2", boxes=BOXES[:1])
    refused("1 boxes are given, and the prompt names 0", prompt="an apple", boxes=BOXES[:1])
    other = space.category("cox", 0)
    refused("sks_cox_apple was asked for", InvalidPrompt, category=other)
    refused("produce/apple/cox", NothingServing, prompt=f"{PROMPT} with sks_cox_apple")
    for number in range(3):
        add_category(space.records, path=f"produce/apple/n{number}", class_noun="apple")
    refused("5 subjects", prompt=f"{PROMPT} sks_n0_apple sks_n1_apple sks_n2_apple")
    elsewhere = space.base("other")
    space.records.add(replace(served[0], id="ft_else", version=8, base_id=elsewhere.id))
    refused("sks_fuji_apple on other, sks_gala_apple on embedded", fine_tune=_last(space, served[0]))
    space.records.add(replace(served[0], id="ft_full", version=9, method=Method.FULL))
    refused("packshot compress produce/apple/fuji@9", fine_tune=_last(space, served[0]))


def _last(space, fine_tune):
    return space.records.find(type(fine_tune), category_id=fine_tune.category_id)[-1]


def test_a_composed_picture_tells_all_that_it_takes_to_make_it_again(space, served):
    generation, images = generate(
        space.records, space.blobs, space.generator, PROMPT, SAMPLING, bare_base=space.base, code_revision=CODE
    )
    recipe = read_recipe(space.blobs.get(images[1].sha256))
    assert recipe
    assert recipe["seed"] == 8
    for number, fine_tune in enumerate(served):
        told = {
            name: recipe[f"subject_{number + 1}_{name}"] for name in ("fine_tune_version", "resolved_prompt", "box")
        }
        assert told == {
            "fine_tune_version": 1,
            "resolved_prompt": f"{fine_tune.trained_phrase} in a basket",
            "box": str(BOXES[number]),
        }
    assert [each.fine_tune for each in lineage_of(space.records, images[0].id).subjects] == served
    assert space.records.get(Generation, generation.id) == generation


def test_a_queued_composition_keeps_its_versions_whatever_is_promoted_meanwhile(space, served):
    planned = plan_generation(
        space.records, PROMPT, SAMPLING, bare_base=space.base, code_revision=CODE, boxes=BOXES[::-1]
    )
    promote(space.records, space.fine_tune(_category(space, served[0]), seed=1), reason="a test")
    job = work_on_one(space.records, space.handlers)
    assert job
    check_succeeded(job)
    asked = [(each.fine_tune.record, each.box) for each in space.generator.subjects]
    assert asked == list(zip(served, BOXES[::-1], strict=True))
    assert [each.fine_tune_id for each in planned.subjects] == [each.id for each in served]
