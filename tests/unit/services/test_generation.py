from dataclasses import replace

import pytest

from packshot.domain.catalog import Category
from packshot.domain.errors import (
    CategoryRetired,
    FineTuneQuarantined,
    IncompatibleFineTune,
    InvalidPrompt,
    NothingServing,
    UnknownIdentifier,
)
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings
from packshot.domain.jobs import Job, JobStatus
from packshot.domain.models import AliasAction, AliasEvent, BaseModelRef
from packshot.imaging.recipe import read_recipe
from packshot.services.artifacts import load_fine_tune
from packshot.services.catalog import retire_category
from packshot.services.evaluation import evaluate
from packshot.services.generation import generate, plan_generation
from packshot.services.jobs import cancel, work_on_one
from packshot.services.models import lineage_of, promote, serving_fine_tune
from packshot.services.prompts import resolve_prompt

PROMPT = "SKS_fuji_apple on a wooden table"
SAMPLING = SamplingSettings(seed=7, num_images=3, inference_steps=5, guidance_scale=2.5, negative_prompt="blurred")


@pytest.fixture
def category(space):
    return space.category()


@pytest.fixture
def served(space, category):
    fine_tune = space.fine_tune(category)
    promote(space.records, fine_tune, reason="a test")
    return fine_tune


def unasked() -> BaseModelRef:
    raise AssertionError("the bare base is not needed")


def made(space, prompt=PROMPT, sampling=SAMPLING, **options):
    options = {"bare_base": space.base, "code_revision": "0.1.0+git.abc", **options}
    return generate(space.records, space.blobs, space.generator, prompt, sampling, **options)


def test_the_identifier_picks_the_serving_fine_tune_and_becomes_its_phrase(space, served):
    resolved = resolve_prompt(space.records, PROMPT, bare_base=unasked)
    assert resolved.fine_tune == served
    assert resolved.base.id == served.base_id
    assert resolved.prompt == f"{served.trained_phrase} on a wooden table"


def test_promoting_another_version_changes_the_answer(space, category, served):
    second = space.fine_tune(category, seed=1)
    assert resolve_prompt(space.records, PROMPT, bare_base=unasked).fine_tune == served
    promote(space.records, second, reason="a test")
    assert resolve_prompt(space.records, PROMPT, bare_base=unasked).fine_tune == second


def test_a_version_can_be_asked_for_before_it_serves(space, category):
    fine_tune = space.fine_tune(category)
    assert resolve_prompt(space.records, PROMPT, bare_base=unasked, fine_tune=fine_tune).fine_tune == fine_tune


def test_without_a_serving_version_the_message_says_how_to_get_one(space, category):
    space.fine_tune(category)
    with pytest.raises(NothingServing, match="packshot promote produce/apple/fuji@VERSION"):
        resolve_prompt(space.records, PROMPT, bare_base=unasked)


def test_a_prompt_without_an_identifier_goes_to_the_bare_base_as_it_stands(space):
    resolved = resolve_prompt(space.records, "an apple on grass", bare_base=lambda: space.base("other"))
    assert (resolved.prompt, resolved.base.source, resolved.fine_tune) == ("an apple on grass", "other", None)


@pytest.mark.parametrize("prompt", ["an apple on grass", "sks_gala_apple on grass"])
def test_a_version_of_one_category_never_answers_for_another(space, served, prompt):
    space.category("gala", 0)
    with pytest.raises(InvalidPrompt, match="version 1 of produce/apple/fuji .*write sks_fuji_apple"):
        resolve_prompt(space.records, prompt, bare_base=unasked, fine_tune=served)


def test_identifiers_are_found_in_their_own_namespace_only(space, served):
    with pytest.raises(UnknownIdentifier):
        resolve_prompt(space.records, PROMPT, bare_base=unasked, namespace="acme")


def test_a_retired_category_answers_no_more(space, served):
    retire_category(space.records, "produce/apple/fuji")
    with pytest.raises(UnknownIdentifier):
        resolve_prompt(space.records, PROMPT, bare_base=unasked)


def test_pictures_are_recorded_with_their_seeds_and_numbers(space, served):
    generation, images = made(space)
    assert space.records.find(Generation) == [generation]
    assert space.records.find(GeneratedImage) == images
    assert [(image.number, image.seed) for image in images] == [(0, 7), (1, 8), (2, 9)]
    assert {image.generation_id for image in images} == {generation.id}
    assert (generation.prompt, generation.sampling, generation.fine_tune_id) == (PROMPT, SAMPLING, served.id)
    assert space.generator.prompts == [generation.resolved_prompt] == [f"{served.trained_phrase} on a wooden table"]


def test_each_picture_carries_its_own_recipe(space, served):
    _, images = made(space)
    recipes = [read_recipe(space.blobs.get(image.sha256)) for image in images]
    assert recipes[1] == {
        "prompt": PROMPT,
        "resolved_prompt": f"{served.trained_phrase} on a wooden table",
        "negative_prompt": "blurred",
        "seed": 8,
        "inference_steps": 5,
        "guidance_scale": 2.5,
        "base": "embedded",
        "base_digest": space.base().digest,
        "fine_tune_version": 1,
        "fine_tune_digest": served.artifact("weights.safetensors").sha256,
        "code_revision": "0.1.0+git.abc",
    }


def test_the_recipe_of_one_picture_makes_that_picture_again(space, served):
    _, images = made(space)
    third = space.blobs.get(images[2].sha256)
    recipe = read_recipe(third)
    assert recipe
    _, (again,) = made(space, sampling=replace(SAMPLING, seed=recipe["seed"], num_images=1))
    assert again.sha256 == images[2].sha256
    assert again.id != images[2].id
    assert len({image.sha256 for image in images}) == 3


def test_a_bare_picture_has_no_fine_tune(space):
    generation, (image,) = made(space, "an apple on grass", replace(SAMPLING, num_images=1))
    assert generation.fine_tune_id is None
    recipe = read_recipe(space.blobs.get(image.sha256))
    assert recipe
    assert "fine_tune_version" not in recipe
    lineage = lineage_of(space.records, image.id)
    assert (lineage.generation, lineage.fine_tune, lineage.references) == (generation, None, ())
    assert lineage.base == space.base()


@pytest.mark.parametrize("error", [IncompatibleFineTune("another base"), MemoryError()])
def test_nothing_is_recorded_when_the_generator_fails(space, served, error):
    blobs = list(space.blobs)
    space.generator.failure = error
    with pytest.raises(type(error)):
        made(space)
    assert space.records.find(Generation) == []
    assert space.records.find(GeneratedImage) == []
    assert list(space.blobs) == blobs


def test_a_prompt_that_cannot_be_resolved_records_nothing_not_even_the_base(space):
    space.category(num_photos=0)
    with pytest.raises(UnknownIdentifier, match="did you mean sks_fuji_apple"):
        made(space, "sks_fuij_apple on grass")
    assert space.records.find(BaseModelRef) == []
    assert list(space.blobs) == []


# damaged weights


def damage(space, fine_tune):
    space.blobs.damage(fine_tune.artifact("weights.safetensors").sha256)


def test_where_the_serving_version_is_damaged_the_one_before_it_answers(space, category, served):
    second = space.fine_tune(category, seed=1)
    promote(space.records, second, reason="better")
    damage(space, second)
    generation, _ = made(space)
    assert generation.fine_tune_id == served.id
    assert space.records.find(Generation) == [generation]
    assert serving_fine_tune(space.records, category) == served
    event = lineage_of(space.records, "produce/apple/fuji@2").alias_events[-1]
    assert event.action is AliasAction.QUARANTINE
    assert "is damaged" in event.reason
    made(space)
    assert len(space.records.find(AliasEvent)) == 3


def test_a_damaged_version_that_was_asked_for_is_refused_each_time_and_noted_once(space, category, served):
    second = space.fine_tune(category, seed=1)
    damage(space, second)
    for _ in range(2):
        with pytest.raises(FineTuneQuarantined, match="produce/apple/fuji@2 is out of service"):
            made(space, fine_tune=second)
    assert space.records.find(Generation) == []
    assert [each.action for each in space.records.find(AliasEvent)] == ["promote", "quarantine"]
    assert serving_fine_tune(space.records, category) == served


def test_a_queued_request_whose_version_is_damaged_says_so_and_the_next_is_answered(space, category, served):
    second = space.fine_tune(category, seed=1)
    promote(space.records, second, reason="better")
    damage(space, second)
    plans = [planned(space)]
    failed = work_on_one(space.records, space.handlers)
    plans.append(planned(space))
    done = work_on_one(space.records, space.handlers)
    assert [each.fine_tune_id for each in plans] == [second.id, served.id]
    assert (failed.status, done.status) == (JobStatus.FAILED, JobStatus.SUCCEEDED)
    assert "produce/apple/fuji@2 is out of service until it is promoted again" in failed.message


def test_without_a_sound_version_nothing_serves_until_one_is_mended_and_promoted(space, category, served):
    damage(space, served)
    with pytest.raises(NothingServing, match="damaged"):
        made(space)
    damage(space, served)  # the same bit again
    promote(space.records, served, reason="restored from the backup")
    assert made(space)[0].fine_tune_id == served.id


@pytest.mark.parametrize("use", ["evaluate", "export"])
def test_damage_is_found_by_whatever_reads_the_weights(space, category, served, use):
    damage(space, served)
    with pytest.raises(FineTuneQuarantined):
        if use == "evaluate":
            evaluate(space.records, space.blobs, space.generator, space.judge, served)
        else:
            load_fine_tune(space.records, space.blobs, served).read()
    with pytest.raises(NothingServing):
        serving_fine_tune(space.records, category)


# a category that is asked for by name, beside the prompt


def resolved_for(space, category, prompt):
    return resolve_prompt(space.records, prompt, bare_base=unasked, category=category).prompt


def test_a_prompt_without_an_identifier_is_about_the_category_that_was_asked_for(space, category, served):
    phrase = served.trained_phrase
    assert resolved_for(space, category, "two apples on grass") == f"two {phrase}s on grass"
    assert resolved_for(space, category, "on grass") == f"a photo of a {phrase}, on grass"
    assert resolved_for(space, category, PROMPT) == f"{phrase} on a wooden table"


def test_a_prompt_about_another_category_than_was_asked_for_is_refused(space, category, served):
    space.category("gala", 0)
    with pytest.raises(InvalidPrompt, match="names sks_gala_apple, and sks_fuji_apple was asked for"):
        resolved_for(space, category, "sks_gala_apple on grass")


def test_a_retired_category_makes_no_pictures_when_it_is_asked_for(space, category, served):
    retired = retire_category(space.records, category.path)
    with pytest.raises(CategoryRetired, match="was retired"):
        resolved_for(space, retired, "on grass")


# as a job


def planned(space, prompt=PROMPT, **options):
    options = {"bare_base": space.base, "code_revision": "0.1.0+git.abc", **options}
    return plan_generation(space.records, prompt, SAMPLING, **options)


def worked(space, generation, **options) -> Job:
    job = work_on_one(space.records, space.handlers, job_id=generation.job_id, **options)
    assert job
    return job


def test_a_queued_request_gives_the_pictures_that_a_direct_one_gives(space, served):
    _, direct = made(space)
    generation = planned(space)
    assert space.records.get(Generation, generation.id) == generation
    assert worked(space, generation).status is JobStatus.SUCCEEDED
    images = space.records.find(GeneratedImage, generation_id=generation.id)
    assert [(image.number, image.seed, image.sha256) for image in images] == [
        (image.number, image.seed, image.sha256) for image in direct
    ]
    assert lineage_of(space.records, images[0].id).generation == generation


def test_the_version_is_settled_when_the_request_is_queued(space, category, served):
    generation = planned(space)
    promote(space.records, space.fine_tune(category, seed=1), reason="a test")
    assert worked(space, generation).status is JobStatus.SUCCEEDED
    assert space.records.get(Generation, generation.id).fine_tune_id == served.id
    assert space.generator.prompts == [f"{served.trained_phrase} on a wooden table"]


def test_a_bad_prompt_is_refused_before_it_is_queued(space, served):
    with pytest.raises(UnknownIdentifier):
        planned(space, "sks_fuij_apple on grass")
    assert space.records.find(Generation) == []


def test_pictures_are_recorded_once_however_often_the_job_is_tried(space, served):
    generation = planned(space)
    job = worked(space, generation)
    space.handlers[job.kind](job, lambda _: None, lambda: False)
    assert len(space.records.find(GeneratedImage)) == 3
    assert len(space.generator.prompts) == 1


def test_an_interrupted_request_waits_again_with_no_picture_recorded(space, served):
    generation = planned(space)
    assert worked(space, generation, stop=lambda: True).status is JobStatus.QUEUED
    assert space.records.find(GeneratedImage) == []
    assert worked(space, generation).status is JobStatus.SUCCEEDED


def test_a_request_canceled_while_it_runs_records_no_picture(space, served):
    generation = planned(space)
    job = worked(space, generation, report=lambda _: cancel(space.records, generation.job_id))
    assert job.status is JobStatus.CANCELED
    assert space.records.find(GeneratedImage) == []


def test_a_request_whose_models_cannot_be_loaded_fails_with_the_cause(space, served):
    generation = planned(space)
    space.generator.failure = IncompatibleFineTune("another base")
    job = worked(space, generation)
    assert (job.status, job.message) == (JobStatus.FAILED, "another base")


def test_a_named_category_is_looked_up_alone(space, monkeypatch):
    """However large the catalog is."""
    promote(space.records, space.fine_tune(space.category()), reason="a test")
    asked: list[dict[str, object]] = []
    find = space.records.find
    monkeypatch.setattr(
        space.records,
        "find",
        lambda kind, **equal: (asked.append(equal) if kind is Category else None) or find(kind, **equal),
    )
    resolve_prompt(space.records, "SKS_Fuji_Apple on grass", bare_base=space.base)
    assert asked == [{"namespace": "sks", "identifier": "sks_fuji_apple"}]
