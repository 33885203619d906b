import math
from dataclasses import fields, replace

import pytest

from packshot.domain.evaluation import (
    Gate,
    Outcome,
    Scores,
    centroid,
    cosine,
    diversity,
    drift,
    judge,
    mean_similarity,
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
REAL_FIDELITY, REAL_DISTANCE = 0.9, 0.2


def verdict(scores: Scores, base: Scores = BASE, fidelity: float = REAL_FIDELITY, distance: float = REAL_DISTANCE):
    return judge(scores, base, fidelity, distance, Gate())


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
        subject_fidelity=0.85 * REAL_FIDELITY,
        prompt_adherence=0.85 * BASE.prompt_adherence,
        nearest_category_accuracy=0.7,
        nearest_reference_distance=0.25 * REAL_DISTANCE,
    )
    assert verdict(at_the_bound).outcome is Outcome.PASSED


def test_no_better_than_the_bare_base_is_rejected():
    judged = verdict(replace(GOOD, subject_fidelity=0.4))
    assert judged.outcome is Outcome.REJECTED
    assert "bare base" in judged.reasons[-1]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [*(field.name for field in fields(Scores)), "real_fidelity", "real_distance"])
@pytest.mark.parametrize("whose", ["fine-tune", "base"])
def test_the_gate_fails_closed_on_a_score_that_is_no_number(name, whose, broken):
    scores, base, real = GOOD, BASE, {"fidelity": REAL_FIDELITY, "distance": REAL_DISTANCE}
    if name.startswith("real_"):
        real[name.removeprefix("real_")] = broken
    elif whose == "base":
        base = replace(base, **{name: broken})
    else:
        scores = replace(scores, **{name: broken})
    judged = verdict(scores, base, **real)
    assert judged.outcome is Outcome.REVIEW
    assert "not a finite number" in judged.reasons[0]
