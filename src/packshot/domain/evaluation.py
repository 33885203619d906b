"""What a fine-tune is measured by, and the gate: pure functions over embeddings and scores.

An embedding is a tuple of floats of unit length, so a dot product is a cosine similarity. Does not know where
embeddings come from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import combinations
from math import isfinite
from statistics import fmean

from packshot.domain.errors import InvalidInput
from packshot.domain.models import Artifact
from packshot.domain.references import MIN_IMAGES_TO_HOLD_OUT

MAX_IMAGES_PER_SCENE = 50

Embedding = tuple[float, ...]

_LEAST_DISTANCE = 1e-6  # what rounding makes of the distance of equal pictures lies far below
_NOTHING_HELD_OUT = (
    "it rests on the training photos, the real ones each against the others, since none is held out; "
    f"from {MIN_IMAGES_TO_HOLD_OUT} photos up one in five is"
)

SCENES = (
    "on a wooden table, natural light",
    "on a marble counter, warm light",
    "on green grass, natural light",
    "on a checkered tablecloth, warm light",
    "on blue tiles, cool light",
    "in a wicker basket, natural light",
    "on a white background, natural light",
    "on a wooden cutting board, cool light",
)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """How pictures of one model, made for one category, did. Every score is a mean over the pictures.

    Attributes:
        subject_fidelity: cosine similarity to the held-out reference photos, or to the training photos where none is
            held out (DINO / CLIP-I of DreamBooth).
        prompt_adherence: cosine similarity of picture and scene prompt (CLIP-T of DreamBooth).
        diversity: 1 - cosine similarity between pictures of one prompt (DIV of DreamBooth).
        nearest_category_accuracy: share of pictures whose nearest category centroid is the right one.
        nearest_reference_distance: 1 - cosine similarity to the nearest training photo; near 0 = memorised.
        prior_drift: 1 - cosine similarity between class pictures of this model and of the bare base, seed by seed.
        prior_leak: cosine similarity of this model's class pictures to the references (PRES of DreamBooth).
    """

    subject_fidelity: float
    prompt_adherence: float
    diversity: float
    nearest_category_accuracy: float
    nearest_reference_distance: float
    prior_drift: float
    prior_leak: float


class Outcome(StrEnum):
    """What the gate says of a fine-tune."""

    PASSED = "passed"
    REVIEW = "review"
    REJECTED = "rejected"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The bounds of the gate, relative to what real photos and the bare base reach."""

    min_relative_fidelity: float = 0.85
    min_relative_adherence: float = 0.85
    min_nearest_category_accuracy: float = 0.7
    min_relative_reference_distance: float = 0.25


@dataclass(frozen=True, kw_only=True)
class Yardstick:
    """What real photos of the product reach among themselves; no photo is ever compared with itself.

    Attributes:
        fidelity: cosine similarity of the training photos to the held-out ones.
        reference_distance: 1 - cosine similarity of a held-out photo to the nearest training photo.
        num_held_out: 0 where both are leave-one-out means over the training photos.
    """

    fidelity: float
    reference_distance: float
    num_held_out: int


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's outcome with its reasons and what it rests on, in words a reviewer can act on."""

    outcome: Outcome
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One measured comparison of a fine-tune with its bare base.

    ``real_fidelity`` and ``real_reference_distance`` are those of the ``Yardstick``; ``rivals`` are the paths of the
    other categories that nearest-category accuracy chose among.
    """

    id: str
    fine_tune_id: str
    judge_digest: str
    seed: int
    fine_tune: Scores
    base: Scores
    real_fidelity: float
    real_reference_distance: float
    rivals: tuple[str, ...]
    verdict: Verdict
    artifacts: tuple[Artifact, ...]
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class EvaluationRun:
    """An evaluation that was asked for as a job; the ``Evaluation`` that comes of it has the same id."""

    id: str
    fine_tune_id: str
    images_per_scene: int
    seed: int
    job_id: str
    created_at: datetime

    def __post_init__(self) -> None:
        """Check every bound.

        Raises:
            InvalidInput: a value out of its range.
        """
        for name, low, high in (("images_per_scene", 1, MAX_IMAGES_PER_SCENE), ("seed", 0, 2**32 - 1)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidInput(f"{name} is {value!r}; it must lie between {low} and {high}")


def cosine(left: Embedding, right: Embedding) -> float:
    """Cosine similarity of two unit vectors of one length."""
    return sum(a * b for a, b in zip(left, right, strict=True))


def mean_similarity(lefts: Sequence[Embedding], rights: Sequence[Embedding]) -> float:
    """Mean cosine similarity over all pairs."""
    return fmean(cosine(left, right) for left in lefts for right in rights)


def diversity(groups: Sequence[Sequence[Embedding]]) -> float:
    """1 - mean pairwise cosine similarity within each group (pictures of one prompt); 0 for groups of one."""
    pairs = [cosine(a, b) for group in groups for a, b in combinations(group, 2)]
    return 1 - fmean(pairs) if pairs else 0.0


def drift(before: Sequence[Embedding], after: Sequence[Embedding]) -> float:
    """1 - mean cosine similarity of pictures made by two models from the same prompts and seeds, pair by pair."""
    return 1 - fmean(cosine(a, b) for a, b in zip(before, after, strict=True))


def nearest_distance(images: Sequence[Embedding], references: Sequence[Embedding]) -> float:
    """Mean over the images of 1 - cosine similarity to the nearest reference."""
    return fmean(1 - max(cosine(image, reference) for reference in references) for image in images)


def measure_real(training: Sequence[Embedding], held_out: Sequence[Embedding]) -> Yardstick:
    """What the real photos reach: held-out against training photos, or each training photo against the others."""
    if held_out:
        return Yardstick(
            fidelity=mean_similarity(training, held_out),
            reference_distance=nearest_distance(held_out, training),
            num_held_out=len(held_out),
        )
    splits = [([photo], [*training[:place], *training[place + 1 :]]) for place, photo in enumerate(training)]
    return Yardstick(
        fidelity=fmean(mean_similarity(photo, others) for photo, others in splits),
        reference_distance=fmean(nearest_distance(photo, others) for photo, others in splits),
        num_held_out=0,
    )


def centroid(embeddings: Sequence[Embedding]) -> Embedding:
    """The unit vector in the direction of the mean."""
    mean = [fmean(column) for column in zip(*embeddings, strict=True)]
    norm = sum(value * value for value in mean) ** 0.5 or 1.0
    return tuple(value / norm for value in mean)


def nearest(image: Embedding, centroids: Mapping[str, Embedding]) -> str:
    """The name of the centroid nearest to ``image``; the first name in order wins a tie."""
    return max(sorted(centroids), key=lambda name: cosine(image, centroids[name]))


def judge(evaluated: Scores, base: Scores, real: Yardstick, gate: Gate) -> Verdict:
    """The verdict on a fine-tune. Fails closed: what cannot be measured goes to review."""
    rests_on = () if real.num_held_out else (_NOTHING_HELD_OUT,)
    numbers = (*vars(evaluated).values(), *vars(base).values(), *vars(real).values())
    if not all(isfinite(value) for value in numbers):
        broken = "a score is not a finite number; the judge may have failed"
        return Verdict(outcome=Outcome.REVIEW, reasons=(broken, *rests_on))
    checks = (
        ("subject fidelity", evaluated.subject_fidelity, _share(gate.min_relative_fidelity, real.fidelity)),
        ("prompt adherence", evaluated.prompt_adherence, _share(gate.min_relative_adherence, base.prompt_adherence)),
        (
            "nearest-category accuracy",
            evaluated.nearest_category_accuracy,
            gate.min_nearest_category_accuracy,
        ),
        (
            "distance to the nearest training photo",
            evaluated.nearest_reference_distance,
            _share(gate.min_relative_reference_distance, real.reference_distance),
        ),
    )
    reasons = [f"{name} {value:.3f} is below {low:.3f}" for name, value, low in checks if value < low]
    if real.reference_distance < _LEAST_DISTANCE:
        reasons.append("the judge cannot tell the real photos apart, so it would not see that they were memorised")
    if not reasons:
        return Verdict(outcome=Outcome.PASSED, reasons=rests_on)
    worse_than_base = evaluated.subject_fidelity <= base.subject_fidelity
    if worse_than_base:
        reasons.append("the bare base resembles the references as well")
    return Verdict(outcome=Outcome.REJECTED if worse_than_base else Outcome.REVIEW, reasons=(*reasons, *rests_on))


def _share(share: float, real: float) -> float:
    """The least value that reaches ``share`` of ``real``: short of it by 1 - share of its size, whatever its sign."""
    return real - (1 - share) * abs(real)
