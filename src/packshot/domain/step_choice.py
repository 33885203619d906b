"""How many steps a training takes where it is not told: an explicit rule over scores of what it has learned so far.

Does not know how pictures are made or judged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from packshot.domain.errors import JudgeUnusable

# Looks in a row without a better one, after which a training ends.
PATIENCE = 3

# By how much a later look must be better, so that steps are not spent on the judge's noise.
LEAST_GAIN = 0.01

# No training ends before this share of the steps that it may take: many only begin to show the product then.
LEAST_SHARE = 0.25

# What fidelity can gain is taken for at least this, lest a division blow up noise where the judge hardly tells the
# bare base from real photos.
_LEAST_ROOM = 0.05


@dataclass(frozen=True, kw_only=True)
class LookScores:
    """Scores of the pictures that were made after ``step`` steps.

    Attributes:
        step: Steps behind the look; 0 is the base before anything was learned.
        fidelity: Mean cosine similarity of the product's pictures to photos of it that no batch holds.
        adherence: Mean cosine similarity of the product's pictures to what their prompts ask for.
        drift: 1 - cosine similarity of the class pictures to those of step 0, seed by seed.
    """

    step: int
    fidelity: float
    adherence: float
    drift: float


@dataclass(frozen=True, kw_only=True)
class StepChoice:
    """The best look so far. ``ended`` = the training needs no further step; ``reasons`` say why, in words."""

    step: int
    ended: bool
    reasons: tuple[str, ...]


def check_finite(scores: LookScores) -> LookScores:
    """Return ``scores`` if all are numbers.

    Raises:
        JudgeUnusable: one is NaN or infinite.
    """
    if not all(isfinite(value) for value in (scores.fidelity, scores.adherence, scores.drift)):
        raise JudgeUnusable(
            f"the judge's scores after step {scores.step} are no numbers, so the steps cannot be chosen; give --steps "
            "a number, or set PACKSHOT_JUDGE_EMBEDDER and PACKSHOT_JUDGE_CLIP to other models"
        )
    return scores


def merit(scores: LookScores, first: LookScores, real_fidelity: float) -> float:
    """Share of fidelity gained - share of adherence lost - drift; 0 for the bare base, 1 for a perfect fine-tune.

    Fidelity is measured between what the base reaches (``first``, the look at step 0) and what real photos of the
    product reach among themselves, and counts no further than that; adherence is measured by the base's, and what is
    gained there does not make up for a loss elsewhere. So all three are shares and do not depend on a judge's scale.
    """
    room = max(real_fidelity - first.fidelity, _LEAST_ROOM)
    gained = min((scores.fidelity - first.fidelity) / room, 1.0)
    lost = max(first.adherence - scores.adherence, 0.0) / max(abs(first.adherence), _LEAST_ROOM)
    return gained - lost - scores.drift


def choose_step(looks: Sequence[LookScores], real_fidelity: float, max_steps: int) -> StepChoice:
    """Choose among ``looks``, of which the first is that of step 0, in a training of ``max_steps`` at the most.

    The best look has the highest merit; a later one must be better by ``LEAST_GAIN``. The base itself cannot be chosen.
    The training ends at ``max_steps``, or once ``PATIENCE`` looks after the best one were no better, and not before
    ``LEAST_SHARE`` of ``max_steps``.
    """
    assert looks and looks[0].step == 0, "the first look is that of the base"
    first, learned = looks[0], looks[1:]
    if not learned:
        return StepChoice(step=0, ended=False, reasons=("nothing is learned yet",))
    best, best_place = learned[0], 0
    for place, each in enumerate(learned):
        if merit(each, first, real_fidelity) > merit(best, first, real_fidelity) + LEAST_GAIN:
            best, best_place = each, place
    last = learned[-1]
    since = len(learned) - 1 - best_place
    patient = since < PATIENCE or last.step < LEAST_SHARE * max_steps
    reached = last.step >= max_steps
    value = merit(best, first, real_fidelity)
    reasons = [
        f"step {best.step} has the highest merit, {value:.3f} = fidelity {best.fidelity:.3f} (base "
        f"{first.fidelity:.3f}, real photos {real_fidelity:.3f}), adherence {best.adherence:.3f} (base "
        f"{first.adherence:.3f}), drift {best.drift:.3f}"
    ]
    if value <= 0:
        reasons.append("it is no better than the bare base: look at the pictures before you use it")
    if not patient:
        reasons.append(f"ended at step {last.step}: {since} looks after it were no better by {LEAST_GAIN:g}")
    elif reached:
        reasons.append(f"all {max_steps} steps were taken" + ("" if since else "; more might be better still"))
    return StepChoice(step=best.step, ended=reached or not patient, reasons=tuple(reasons))


def hold_out_count(num_photos: int) -> int:
    """How many of the photos to learn from are held out to choose the steps: one in five, at least one."""
    return max(1, num_photos // 5)
