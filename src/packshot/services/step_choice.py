"""What a training that chooses its own steps is judged by: photos that it does not learn from, pictures, and scores."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from packshot.domain.evaluation import SCENES, Embedding, drift, mean_similarity
from packshot.domain.models import FineTune
from packshot.domain.step_choice import LookScores, StepChoice, check_finite, hold_out_count
from packshot.domain.training_prompts import class_prompt, with_article
from packshot.imaging.plots import choice_plot
from packshot.ports import Blobs, Judge, Sample, ScoredTraining, Scoring, TrainingExample
from packshot.services.json_text import to_json

REPORT = "steps.json"
PLOT = "steps.png"

# The seeds of an evaluation's pictures begin at 1000, and a choice must not be made by the pictures that judge it.
_SEED = 500_000
_NUM_CLASS_PICTURES = 4
NUM_PICTURES = len(SCENES) + _NUM_CLASS_PICTURES


def split_examples(
    examples: Sequence[TrainingExample],
) -> tuple[tuple[TrainingExample, ...], tuple[TrainingExample, ...]]:
    """Photos to learn from, and those held out to choose the steps by: in the order of the set, so by their pixels.

    What a frozen set holds out is in neither: a choice by those would flatter the evaluation that they are for.
    """
    count = hold_out_count(len(examples))
    return tuple(examples[count:]), tuple(examples[:count])


def scoring(
    judge: Judge,
    learned_from: Sequence[TrainingExample],
    held_out: Sequence[TrainingExample],
    class_noun: str,
    phrase: str,
) -> Scoring:
    """One picture of the product in each scene of an evaluation, four of the class; how ``judge`` scores them.

    Raises:
        JudgeUnusable: it cannot be found or loaded.
    """
    photos = _embed(judge, [each.image for each in held_out])
    known = _embed(judge, [each.image for each in learned_from])
    prompts = [f"a photo of {with_article(phrase)} {scene}" for scene in SCENES]
    of_class = [Sample(prompt=class_prompt(class_noun), seed=_SEED + number) for number in range(_NUM_CLASS_PICTURES)]
    score = _Score(judge=judge, photos=photos, prompts=[f"a photo of {with_article(class_noun)} {s}" for s in SCENES])
    return Scoring(
        samples=(*(Sample(prompt=prompt, seed=_SEED) for prompt in prompts), *of_class),
        score=score,
        real_fidelity=mean_similarity(known, photos),
    )


@dataclass(frozen=True, kw_only=True)
class _Score:
    """Scores a look: its pictures of the product, one for each of ``prompts``, then those of the class."""

    judge: Judge
    photos: Sequence[Embedding]
    prompts: Sequence[str]

    def __call__(self, step: int, first: Sequence[bytes], now: Sequence[bytes]) -> LookScores:
        count = len(self.prompts)
        product = now[:count]
        return check_finite(
            LookScores(
                step=step,
                fidelity=mean_similarity(_embed(self.judge, product), self.photos),
                adherence=fmean(self.judge.adherence(product, self.prompts)),
                drift=drift(_embed(self.judge, first[count:]), _embed(self.judge, now[count:])),
            )
        )


def _embed(judge: Judge, images: Sequence[bytes]) -> list[Embedding]:
    return judge.embed(images, [None] * len(images))


def choice_of(blobs: Blobs, fine_tune: FineTune) -> StepChoice | None:
    """How the steps of ``fine_tune`` were chosen; None where they were told."""
    found = [each for each in fine_tune.artifacts if each.name == REPORT]
    if not found:
        return None
    told = json.loads(blobs.get(found[0].sha256))["choice"]
    return StepChoice(step=told["step"], ended=told["ended"], reasons=tuple(told["reasons"]))


def choice_files(scored: ScoredTraining) -> dict[str, bytes]:
    """The choice with its reasons as JSON, and a plot of the scores over the steps."""
    return {REPORT: to_json(scored).encode(), PLOT: choice_plot(scored.looks, scored.choice.step)}
