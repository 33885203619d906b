"""The rule by which a training chooses its own steps."""

from collections.abc import Sequence

import pytest

from packshot.domain.errors import JudgeUnusable
from packshot.domain.step_choice import LookScores, StepChoice, check_finite, choose_step, hold_out_count, merit


def look(step: int, fidelity: float, adherence: float = 0.6, drift: float = 0.0) -> LookScores:
    return LookScores(step=step, fidelity=fidelity, adherence=adherence, drift=drift)


def chosen(fidelities: Sequence[float], max_steps: int = 1000) -> StepChoice:
    looks = [look(10 * number, fidelity) for number, fidelity in enumerate(fidelities)]
    return choose_step(looks, 1.0, max_steps)


BASE = look(0, 0.5)


def test_the_base_has_no_merit_and_a_perfect_fine_tune_has_one():
    assert merit(BASE, BASE, 0.8) == 0
    assert merit(look(9, 0.8), BASE, 0.8) == pytest.approx(1)


def test_fidelity_beyond_that_of_real_photos_counts_no_more():
    assert merit(look(9, 0.95), BASE, 0.8) == pytest.approx(1)


def test_lost_adherence_and_drift_count_against_it_and_gained_adherence_does_not_count():
    assert merit(look(9, 0.8, adherence=0.3), BASE, 0.8) == pytest.approx(0.5)
    assert merit(look(9, 0.8, adherence=0.9), BASE, 0.8) == pytest.approx(1)
    assert merit(look(9, 0.8, drift=0.25), BASE, 0.8) == pytest.approx(0.75)


def test_a_judge_that_hardly_tells_base_from_photos_does_not_blow_up_noise():
    assert merit(look(9, 0.51), BASE, 0.5001) == pytest.approx(0.2)


def test_nothing_is_chosen_before_anything_is_learned():
    assert chosen([0.5]) == StepChoice(step=0, ended=False, reasons=("nothing is learned yet",))


def test_the_base_itself_is_never_chosen():
    choice = chosen([0.5, 0.3, 0.2])
    assert choice.step == 10
    assert any("no better than the bare base" in reason for reason in choice.reasons)


@pytest.mark.parametrize(("then", "step"), [(0.7004, 10), (0.706, 20)])
def test_a_later_look_must_be_better_by_more_than_noise(then, step):
    assert chosen([0.5, 0.7, then]).step == step


def test_three_looks_without_a_better_one_end_it_and_two_do_not():
    rising = [0.5, 0.6, 0.7]
    assert not chosen([*rising, 0.7, 0.7], 60).ended
    ended = chosen([*rising, 0.7, 0.7, 0.6], 60)
    assert (ended.step, ended.ended) == (20, True)
    assert "ended at step 50: 3 looks after it were no better" in ended.reasons[-1]


def test_it_does_not_end_before_a_quarter_of_the_steps():
    looks = [0.5, 0.7, 0.6, 0.6, 0.6]
    assert not chosen(looks, 161).ended
    assert chosen(looks, 160).ended


def test_it_ends_with_the_last_step_and_says_when_more_might_be_better():
    best_last = chosen([0.5, 0.6, 0.7], 20)
    assert (best_last.step, best_last.ended) == (20, True)
    assert best_last.reasons[-1] == "all 20 steps were taken; more might be better still"
    assert chosen([0.5, 0.7, 0.6], 20).reasons[-1] == "all 20 steps were taken"


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["fidelity", "adherence", "drift"])
def test_scores_that_are_no_numbers_are_refused(broken, name):
    scores = look(20, **{"fidelity": 0.5, name: broken})
    with pytest.raises(JudgeUnusable, match="after step 20 are no numbers"):
        check_finite(scores)
    assert check_finite(BASE) is BASE


def test_a_fifth_of_the_photos_is_held_out_and_at_least_one():
    assert [hold_out_count(count) for count in (2, 5, 9, 10, 24)] == [1, 1, 1, 2, 4]
