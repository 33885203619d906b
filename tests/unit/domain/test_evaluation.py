import math
from dataclasses import fields, replace

import pytest

from packshot.domain.evaluation import (
    Gate,
    Outcome,
    Scores,
    Yardstick,
    centroid,
    cosine,
    diversity,
    drift,
    judge,
    mean_similarity,
    measure_real,
    nearest,
    nearest_distance,
)

X, Y, NEGATIVE_X = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)
DIAGONAL = (math.sqrt(0.5), math.sqrt(0.5))
HALF = math.sqrt(0.5)

GOOD = Scores(
    subject_fidelity=0.8,
    prompt_adherence=0.3,
    diversity=0.2,
    nearest_category_accuracy=0.9,
    nearest_reference_distance=0.2,
    prior_drift=0.1,
    prior_leak=0.3,
)
BASE = replace(GOOD, subject_fidelity=0.4, nearest_category_accuracy=0.3)
REAL = Yardstick(fidelity=0.9, reference_distance=0.2, num_held_out=2)


def verdict(scores: Scores, base: Scores = BASE, real: Yardstick = REAL):
    return judge(scores, base, real, Gate())


def test_cosine_and_mean_similarity_by_hand():
    assert cosine(X, DIAGONAL) == pytest.approx(HALF)
    assert mean_similarity([X, Y], [X, DIAGONAL]) == pytest.approx((1 + HALF + 0 + HALF) / 4)


def test_vectors_of_two_lengths_are_a_bug():
    with pytest.raises(ValueError, match="zip"):
        cosine((1.0, 0.0, 0.0), X)


def test_diversity_compares_within_a_prompt_only():
    assert diversity([[X, Y], [X, X]]) == pytest.approx(1 - (0 + 1) / 2)
    assert diversity([[X, Y, DIAGONAL]]) == pytest.approx(1 - (0 + HALF + HALF) / 3)
    assert diversity([[X], [Y]]) == 0


def test_drift_goes_seed_by_seed():
    assert drift([X, Y], [X, Y]) == 0
    assert drift([X, Y], [Y, X]) == 1
    assert drift([X, X], [NEGATIVE_X, X]) == 1


def test_nearest_distance_looks_at_the_nearest_reference_of_each_picture():
    assert nearest_distance([X, DIAGONAL], [X, NEGATIVE_X]) == pytest.approx((0 + 1 - HALF) / 2)


def test_real_photos_are_measured_by_the_held_out_ones():
    real = measure_real([X, DIAGONAL], [Y])
    assert (real.fidelity, real.num_held_out) == (pytest.approx((0 + HALF) / 2), 1)
    assert real.reference_distance == pytest.approx(1 - HALF)


def test_without_held_out_photos_each_is_measured_by_the_others_and_never_by_itself():
    real = measure_real([X, DIAGONAL, Y], [])
    assert (real.fidelity, real.num_held_out) == (pytest.approx((HALF + 0 + HALF) / 3), 0)
    assert real.reference_distance == pytest.approx(1 - HALF)


def test_a_centroid_is_the_unit_vector_of_the_mean():
    assert centroid([X, Y]) == pytest.approx(DIAGONAL)
    assert centroid([X, NEGATIVE_X]) == (0.0, 0.0)


def test_the_nearest_centroid_wins_and_the_first_name_a_tie():
    assert nearest(X, {"b": DIAGONAL, "a": Y}) == "b"
    assert nearest(DIAGONAL, {"y": Y, "x": X}) == "x"


def test_good_scores_pass_without_reasons():
    assert verdict(GOOD).outcome is Outcome.PASSED
    assert verdict(GOOD).reasons == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"subject_fidelity": 0.76}, "subject fidelity 0.760 is below 0.765"),
        ({"prompt_adherence": 0.2}, "prompt adherence 0.200 is below 0.255"),
        ({"nearest_category_accuracy": 0.69}, "nearest-category accuracy 0.690 is below 0.700"),
        ({"nearest_reference_distance": 0.04}, "distance to the nearest training photo 0.040 is below 0.050"),
    ],
)
def test_one_weak_score_goes_to_review_with_its_reason(change, reason):
    judged = verdict(replace(GOOD, **change))
    assert judged.outcome is Outcome.REVIEW
    assert judged.reasons == (reason,)


def test_a_score_at_its_bound_passes():
    at_the_bound = replace(
        GOOD,
        subject_fidelity=0.85 * REAL.fidelity,
        prompt_adherence=0.85 * BASE.prompt_adherence,
        nearest_category_accuracy=0.7,
        nearest_reference_distance=0.25 * REAL.reference_distance,
    )
    assert verdict(at_the_bound).outcome is Outcome.PASSED


def test_no_better_than_the_bare_base_is_rejected():
    judged = verdict(replace(GOOD, subject_fidelity=0.4))
    assert judged.outcome is Outcome.REJECTED
    assert "bare base" in judged.reasons[-1]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", [*(field.name for field in fields(Scores)), "real fidelity", "real reference_distance"]
)
@pytest.mark.parametrize("whose", ["fine-tune", "base"])
def test_the_gate_fails_closed_on_a_score_that_is_no_number(name, whose, broken):
    scores, base, real = GOOD, BASE, REAL
    if name.startswith("real "):
        real = replace(real, **{name.removeprefix("real "): broken})
    elif whose == "base":
        base = replace(base, **{name: broken})
    else:
        scores = replace(scores, **{name: broken})
    judged = verdict(scores, base, real)
    assert judged.outcome is Outcome.REVIEW
    assert "not a finite number" in judged.reasons[0]


ALONE = replace(REAL, num_held_out=0)


@pytest.mark.parametrize(
    ("scores", "outcome"),
    [
        (GOOD, Outcome.PASSED),
        (replace(GOOD, nearest_reference_distance=0.04), Outcome.REVIEW),
        (replace(GOOD, subject_fidelity=0.4), Outcome.REJECTED),
        (replace(GOOD, diversity=math.nan), Outcome.REVIEW),
    ],
)
def test_every_verdict_without_held_out_photos_says_what_it_rests_on(scores, outcome):
    judged = verdict(scores, real=ALONE)
    assert judged.outcome is outcome
    assert "none is held out; from 8 photos up" in judged.reasons[-1]
    assert judged.reasons[:-1] == verdict(scores).reasons


@pytest.mark.parametrize("distance", [0.0, -1e-16, 1e-16])
def test_real_photos_that_the_judge_cannot_tell_apart_pass_no_memorisation_check(distance):
    judged = verdict(
        replace(GOOD, nearest_reference_distance=distance), real=replace(REAL, reference_distance=distance)
    )
    assert judged.outcome is Outcome.REVIEW
    assert "memorised" in judged.reasons[0]


@pytest.mark.parametrize(("reached", "passes"), [(-0.2, True), (-0.23, True), (-0.24, False)])
def test_a_negative_yardstick_is_reached_by_itself_and_a_little_below(reached, passes):
    base = replace(BASE, prompt_adherence=-0.2)
    assert (verdict(replace(GOOD, prompt_adherence=reached), base).outcome is Outcome.PASSED) is passes
