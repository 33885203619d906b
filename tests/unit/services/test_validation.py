"""What a training shows of itself, and what it is judged by where it chooses its own steps."""

import io
import json

import pytest
from PIL import Image

from packshot.domain.errors import UnknownIdentifier
from packshot.domain.references import ReferenceImage
from packshot.domain.training import TrainingRun
from packshot.services.models import training_run_of
from packshot.services.training import newest_set

PROMPTS = ("a {product} on grass", "sks_fuji_apple in a bowl", "an apple")


def test_validation_prompts_reach_the_trainer_with_the_phrase_for_the_product(space):
    fine_tune = space.fine_tune(space.category(), validation_prompts=PROMPTS, seed=5)
    phrase = fine_tune.trained_phrase
    (task,) = space.trainer.tasks
    assert [each.prompt for each in task.validation] == [f"a {phrase} on grass", f"{phrase} in a bowl", "an apple"]
    assert {each.seed for each in task.validation} == {5}
    assert task.scoring is None


def test_a_run_keeps_a_sheet_of_its_prompts_by_steps(space):
    category = space.category()
    fine_tune = space.fine_tune(category, validation_prompts=PROMPTS)
    sheet = Image.open(io.BytesIO(space.blobs.get(fine_tune.artifact("validation.png").sha256)))
    assert sheet.height > 3 * 192
    assert 2 * 192 < sheet.width < 4 * 192
    names = [each.name for each in fine_tune.artifacts if each.name.startswith("validation-")]
    assert names == [f"validation-00000{step}-0{number}.png" for step in (0, 3) for number in (1, 2, 3)]
    assert not any("validation" in each.name for each in space.fine_tune(category).artifacts)


def test_a_validation_prompt_for_another_category_is_refused_before_anything_is_recorded(space):
    space.category("gala", start=50)
    with pytest.raises(UnknownIdentifier, match="sks_gala_apple"):
        space.plan(space.category(), validation_prompts=("sks_gala_apple on grass",))
    assert space.records.find(TrainingRun) == []


def test_photos_that_choose_the_steps_are_in_no_batch_and_not_those_of_the_evaluation(space):
    category = space.category("fuji", 12)
    frozen = newest_set(space.records, category)
    space.fine_tune(category)
    space.fine_tune(category, choose_steps=True)
    plain, choosing = space.trainer.tasks
    assert (len(plain.examples), len(choosing.examples)) == (10, 8)
    held_out = [each.image for each in plain.examples if each not in choosing.examples]
    assert len(held_out) == 2
    by_id = {image.id: space.blobs.get(image.image or "") for image in space.records.find(ReferenceImage)}
    of_evaluation = {by_id[id_] for id_ in frozen.held_out_ids}
    assert of_evaluation.isdisjoint({*held_out, *(each.image for each in choosing.examples)})
    seen: list[bytes] = []
    embed = space.judge.embed
    space.judge.embed = lambda images, masks: seen.extend(images) or embed(images, masks)
    space.fine_tune(category, choose_steps=True, seed=1)
    assert set(held_out) <= set(seen)
    assert of_evaluation.isdisjoint(seen)


def test_a_training_that_chooses_its_steps_is_scored_against_them_and_keeps_choice_and_plot(space):
    category = space.category()
    fine_tune = space.fine_tune(category, choose_steps=True)
    report = json.loads(space.blobs.get(fine_tune.artifact("steps.json").sha256))
    base, learnt = report["looks"]
    assert (base["step"], base["drift"]) == (0, 0.0)
    assert learnt["fidelity"] > base["fidelity"] + 0.1
    assert learnt["drift"] < 0.05
    assert report["choice"]["step"] == 3
    assert report["real_fidelity"] > 0.9
    assert "step 3 has the highest merit" in report["choice"]["reasons"][0]
    assert space.blobs.get(fine_tune.artifact("steps.png").sha256).startswith(b"\x89PNG")
    assert training_run_of(space.records, fine_tune).config.choose_steps


def test_the_judge_is_asked_for_nothing_where_the_steps_are_told(space):
    space.judge = None
    assert space.fine_tune(space.category()).version == 1
