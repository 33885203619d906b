import io
import json
import math
from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from fake_models import FakeGenerator
from photos import GREEN, RED
from PIL import Image

from packshot.domain.errors import NotFound
from packshot.domain.evaluation import Evaluation, Outcome, cosine
from packshot.domain.models import FineTune
from packshot.domain.references import ReferenceImage
from packshot.services.catalog import retire_category
from packshot.services.evaluation import REPORT, SHEET, Suite, evaluate, newest_evaluation

SUITE = Suite(
    scenes=("on grass", "on wood", "on tiles"), images_per_scene=2, class_images=3, inference_steps=1, seed=50
)


def measured(space, fine_tune, **options) -> Evaluation:
    options = {"suite": SUITE, **options}
    return evaluate(space.records, space.blobs, space.generator, space.judge, fine_tune, **options)


@pytest.fixture
def red(space) -> FineTune:
    """A fine-tune that has learnt red, of a category with held-out photos."""
    return space.fine_tune(space.category("fuji", 10, colour=RED))


def test_a_fine_tune_that_learnt_the_look_is_told_from_the_bare_base(space, red):
    space.category("gala", 10, colour=GREEN, start=100)
    evaluation = measured(space, red)
    tuned, base = evaluation.fine_tune, evaluation.base
    assert tuned.subject_fidelity > 0.95 > base.subject_fidelity
    assert tuned.nearest_category_accuracy == 1.0
    assert tuned.nearest_reference_distance < base.nearest_reference_distance
    assert tuned.prompt_adherence == base.prompt_adherence == pytest.approx(0.3)
    assert evaluation.real_fidelity > 0.95
    assert evaluation.rivals == ("produce/apple/gala",)


def test_class_pictures_that_stay_as_they_were_do_not_drift(space, red):
    evaluation = measured(space, red)
    assert evaluation.fine_tune.prior_drift == pytest.approx(0, abs=1e-9)
    assert evaluation.fine_tune.prior_leak == pytest.approx(evaluation.base.prior_leak)
    assert evaluation.base.prior_drift == 0


def test_a_fine_tune_that_learnt_nothing_is_rejected(space, red):
    grey = space.blobs.put(
        json.dumps({"phrase": red.trained_phrase, "colour": [128, 128, 128], "base": space.base().digest}).encode()
    )
    weights = replace(red.artifact("weights.safetensors"), sha256=grey)
    others = [artifact for artifact in red.artifacts if artifact.name != weights.name]
    learnt_nothing = replace(red, id="ft_grey", version=2, artifacts=(*others, weights))
    space.records.add(learnt_nothing)
    evaluation = measured(space, learnt_nothing)
    assert evaluation.verdict.outcome is not Outcome.PASSED
    assert "subject fidelity" in evaluation.verdict.reasons[0]


def test_a_judge_that_fails_leads_to_review(space, red):
    space.judge.adherences = math.nan
    evaluation = measured(space, red)
    assert evaluation.verdict.outcome is Outcome.REVIEW
    report = next(each for each in evaluation.artifacts if each.name == REPORT)
    content = json.loads(space.blobs.get(report.sha256), parse_constant=pytest.fail)
    assert content["fine_tune"]["prompt_adherence"] is None


def test_categories_of_the_same_class_are_the_rivals(space, red):
    space.category("gala", 5, colour=GREEN, start=100)
    space.category("cox", 3, start=200)
    assert measured(space, red).rivals == ("produce/apple/gala",)


def test_without_a_rival_the_bare_class_is_the_rival(space, red):
    evaluation = measured(space, red)
    assert evaluation.rivals == ("(generic apple)",)
    assert evaluation.fine_tune.nearest_category_accuracy == 1.0
    assert evaluation.base.nearest_category_accuracy == 0.0


def test_both_models_draw_the_same_scenes_each_by_its_own_name(space, red):
    measured(space, red)
    tuned = [f"a photo of a {red.trained_phrase} {scene}" for scene in SUITE.scenes]
    bare = [f"a photo of an apple {scene}" for scene in SUITE.scenes]
    assert space.generator.prompts == [*tuned, "a photo of an apple", *bare, "a photo of an apple"]


def test_equal_evaluations_have_equal_scores(space, red):
    one, two = measured(space, red), measured(space, red)
    assert (one.fine_tune, one.base, one.verdict) == (two.fine_tune, two.base, two.verdict)
    assert one.id != two.id


def test_the_record_says_which_judge_and_seed_and_is_the_newest(space, red):
    with pytest.raises(NotFound, match="version 1 was never evaluated"):
        newest_evaluation(space.records, red)
    measured(space, red)
    second = measured(space, red, suite=replace(SUITE, seed=51))
    assert (second.judge_digest, second.seed) == ("colour-judge-1", 51)
    assert newest_evaluation(space.records, red) == second


def test_the_report_is_json_with_every_score(space, red):
    evaluation = measured(space, red)
    report = next(each for each in evaluation.artifacts if each.name == REPORT)
    content = json.loads(space.blobs.get(report.sha256))
    assert content["fine_tune"] == vars(evaluation.fine_tune)
    assert content["base"] == vars(evaluation.base)
    assert content["verdict"]["outcome"] == evaluation.verdict.outcome
    assert content["suite"]["scenes"] == list(SUITE.scenes)
    assert content["fine_tune_id"] == red.id


def test_the_sheet_shows_references_base_and_fine_tune(space, red):
    sheet = next(each for each in measured(space, red).artifacts if each.name == SHEET)
    with Image.open(io.BytesIO(space.blobs.get(sheet.sha256))) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    height, width, _ = pixels.shape
    assert width > 3 * 100
    assert height > 4 * 100
    reddish = (pixels[..., 0] > 150) & (pixels[..., 1] < 100)
    greyish = np.ptp(pixels, axis=2) + np.abs(pixels[..., 0] - 128) < 60
    assert reddish.mean() > 0.2
    assert greyish.mean() > 0.1


@pytest.mark.parametrize("count", [5, 7])
def test_with_few_photos_none_is_compared_with_itself_and_the_verdict_says_what_it_rests_on(space, count):
    evaluation = measured(space, space.fine_tune(space.category("fuji", count)))
    pngs = [space.blobs.get(image.image or "") for image in space.records.find(ReferenceImage)]
    photos = space.judge.embed(pngs, [None] * count)
    pairs = [[cosine(one, other) for other in photos if other is not one] for one in photos]
    assert evaluation.real_fidelity == pytest.approx(fmean(fmean(each) for each in pairs), abs=1e-12)
    assert evaluation.real_reference_distance == pytest.approx(fmean(1 - max(each) for each in pairs), abs=1e-12)
    assert "rests on the training photos" in evaluation.verdict.reasons[-1]


def test_a_fine_tune_of_few_photos_that_copies_them_does_not_pass(space):
    fine_tune = space.fine_tune(space.category("fuji", 6))
    copies = [space.blobs.get(image.image or "") for image in space.records.find(ReferenceImage)]

    class Copier(FakeGenerator):
        def generate(self, base, fine_tune, prompts, sampling, *, report):
            made = super().generate(base, fine_tune, prompts, sampling, report=report)
            return copies[: len(made)] if fine_tune and len(prompts) > 1 else made

    space.generator = Copier()
    evaluation = measured(space, fine_tune)
    assert evaluation.verdict.outcome is Outcome.REVIEW
    assert "distance to the nearest training photo" in evaluation.verdict.reasons[0]


def test_progress_names_who_is_drawing(space, red):
    phases: list[str] = []
    measured(space, red, report=lambda progress: phases.append(progress.phase))
    assert list(dict.fromkeys(phases)) == ["pictures of the fine-tune", "pictures of the bare base"]
    assert len(phases) == 2 * (3 * 2 + 3)


def test_nothing_is_recorded_when_a_model_fails(space, red):
    space.generator.failure = MemoryError()
    with pytest.raises(MemoryError):
        measured(space, red)
    assert space.records.find(Evaluation) == []


def test_a_retired_category_is_no_rival(space, red):
    space.category("gala", 5, colour=GREEN, start=100)
    retire_category(space.records, "produce/apple/gala")
    assert measured(space, red).rivals == ("(generic apple)",)


def test_a_model_whose_class_pictures_change_has_drifted_and_leaked(space, red):
    class LeakyGenerator(FakeGenerator):
        def generate(self, base, fine_tune, prompts, sampling, *, report):
            if fine_tune:
                prompts = [prompt.replace("an apple", f"a {fine_tune.record.trained_phrase}") for prompt in prompts]
            return super().generate(base, fine_tune, prompts, sampling, report=report)

    space.generator = LeakyGenerator()
    scores = measured(space, red).fine_tune
    assert scores.prior_drift > 0.5
    assert scores.prior_leak > 0.9


def test_both_models_draw_with_the_same_seeds_steps_and_guidance(space, red):
    asked = []

    class Recorder(FakeGenerator):
        def generate(self, base, fine_tune, prompts, sampling, *, report):
            asked.append((fine_tune is not None, sampling))
            return super().generate(base, fine_tune, prompts, sampling, report=report)

    space.generator = Recorder()
    measured(space, red)
    assert [whose for whose, _ in asked] == [True, True, False, False]
    assert [sampling for _, sampling in asked[:2]] == [sampling for _, sampling in asked[2:]]
    assert [(sampling.seed, sampling.num_images) for _, sampling in asked[:2]] == [(50, 2), (50, 3)]
