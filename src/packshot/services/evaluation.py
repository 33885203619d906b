"""Use case of evaluation: a fine-tune and its bare base on the same prompts and seeds, measured and shown."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from packshot.domain.catalog import Category
from packshot.domain.errors import NotFound
from packshot.domain.evaluation import (
    SCENES,
    Embedding,
    Evaluation,
    Gate,
    Scores,
    centroid,
    diversity,
    drift,
    mean_similarity,
    measure_real,
    nearest,
    nearest_distance,
)
from packshot.domain.evaluation import judge as judge_scores
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import Artifact, BaseModelRef, FineTune
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.training_prompts import class_prompt, with_article
from packshot.imaging.sheets import Row, comparison_sheet
from packshot.ports import Blobs, Fence, Generator, Judge, LoadedFineTune, Progress, Records
from packshot.services.artifacts import load_fine_tune
from packshot.services.catalog import new_id, now
from packshot.services.jobs import ReportProgress, no_report
from packshot.services.json_text import to_json
from packshot.services.models import training_run_of
from packshot.services.training import newest_set

REPORT = "report.json"
SHEET = "sheet.png"


@dataclass(frozen=True, kw_only=True)
class Suite:
    """What is generated for an evaluation: ``images_per_scene`` pictures in each scene, and class pictures."""

    scenes: tuple[str, ...] = SCENES
    images_per_scene: int = 5
    class_images: int = 16
    inference_steps: int = 20
    guidance_scale: float = 4.0
    seed: int = 1000

    @property
    def num_pictures(self) -> int:
        """How many are made, by the fine-tune and by its bare base."""
        return 2 * (len(self.scenes) * self.images_per_scene + self.class_images)


@dataclass(frozen=True, kw_only=True)
class _Photos:
    """The reference photos of a category, encoded and embedded; none may be held out."""

    training: tuple[bytes, ...]
    training_embeddings: tuple[Embedding, ...]
    held_out_embeddings: tuple[Embedding, ...]

    @property
    def compared(self) -> tuple[Embedding, ...]:
        """The photos that pictures are compared with: the held-out ones where there are any."""
        return self.held_out_embeddings or self.training_embeddings


@dataclass(frozen=True, kw_only=True)
class _Pictures:
    """What one model made: pictures scene by scene, and of the plain class, with embeddings and adherences."""

    by_scene: tuple[tuple[bytes, ...], ...]
    embeddings: tuple[tuple[Embedding, ...], ...]
    adherence: tuple[float, ...]
    class_embeddings: tuple[Embedding, ...]

    @property
    def flat(self) -> tuple[Embedding, ...]:
        return tuple(embedding for scene in self.embeddings for embedding in scene)


def evaluate(
    records: Records,
    blobs: Blobs,
    generator: Generator,
    judge: Judge,
    fine_tune: FineTune,
    *,
    suite: Suite | None = None,
    gate: Gate | None = None,
    report: ReportProgress = no_report,
    evaluation_id: str | None = None,
    fence: Fence | None = None,
) -> Evaluation:
    """Measure ``fine_tune`` against its bare base; the record, a JSON report and a sheet are kept.

    As the work of a job it is recorded under the planned ``evaluation_id``, if the job's ``fence`` still holds.

    Nearest-category accuracy chooses among the live categories of the same class noun that have a frozen set; without
    any, among all other categories; without those, between the references and the bare base's class pictures.

    Raises:
        NotFound: an imported fine-tune of a category that has no frozen reference set.
        CorruptArtifact, BaseModelRefused: what it needs cannot be loaded.
        StaleAttempt: the ``fence`` does not hold any more; nothing was recorded.
    """
    suite, gate = suite or Suite(), gate or Gate()
    category = records.get(Category, fine_tune.category_id)
    base = records.get(BaseModelRef, fine_tune.base_id)
    photos = _photos(records, blobs, judge, _compared_with(records, fine_tune, category))
    make = _maker(generator, judge, base, category, suite, report)
    tuned = make(load_fine_tune(records, blobs, fine_tune), fine_tune.trained_phrase)
    bare = make(None, category.class_noun)
    rivals = _rivals(records, blobs, judge, category) or {f"(generic {category.class_noun})": bare.class_embeddings}
    centroids = {name: centroid(embeddings) for name, embeddings in rivals.items()}
    centroids[category.path] = centroid(photos.training_embeddings)
    tuned_scores, bare_scores = (_score(each, photos, bare, centroids, category.path) for each in (tuned, bare))
    real = measure_real(photos.training_embeddings, photos.held_out_embeddings)
    evaluation = Evaluation(
        id=evaluation_id or new_id("eva"),
        fine_tune_id=fine_tune.id,
        judge_digest=judge.digest,
        seed=suite.seed,
        fine_tune=tuned_scores,
        base=bare_scores,
        real_fidelity=real.fidelity,
        real_reference_distance=real.reference_distance,
        rivals=tuple(sorted(rivals)),
        verdict=judge_scores(tuned_scores, bare_scores, real, gate),
        artifacts=(),
        created_at=now(),
    )
    sheet = _sheet(category, fine_tune, suite, photos, bare, tuned)
    artifacts = (_store(blobs, REPORT, _report(evaluation, suite)), _store(blobs, SHEET, sheet))
    evaluation = dataclasses.replace(evaluation, artifacts=artifacts)
    with records.transaction(fence=fence):
        records.add(evaluation)
    return evaluation


def newest_evaluation(records: Records, fine_tune: FineTune) -> Evaluation:
    """The newest evaluation of ``fine_tune``.

    Raises:
        NotFound: it was never evaluated.
    """
    found = records.find(Evaluation, fine_tune_id=fine_tune.id)
    if not found:
        raise NotFound(f"version {fine_tune.version} was never evaluated; do so with: packshot evaluate PATH@VERSION")
    return found[-1]


def embedded_references(records: Records, blobs: Blobs, judge: Judge, category: Category) -> Sequence[Embedding]:
    """The photos of the category's newest set that a training sees, as the judge sees them.

    Raises:
        NotFound: nothing was frozen.
    """
    return _photos(records, blobs, judge, newest_set(records, category)).training_embeddings


def _compared_with(records: Records, fine_tune: FineTune, category: Category) -> ReferenceSet:
    """The set that the fine-tune was trained on; an imported one is compared with the newest."""
    run = training_run_of(records, fine_tune)
    return records.get(ReferenceSet, run.reference_set_id) if run else newest_set(records, category)


def _photos(records: Records, blobs: Blobs, judge: Judge, frozen: ReferenceSet) -> _Photos:
    images = [records.get(ReferenceImage, id_) for id_ in frozen.image_ids]
    pngs = [blobs.get(image.image or "") for image in images]
    embeddings = judge.embed(pngs, [None] * len(pngs))
    held_out = [image.id in frozen.held_out_ids for image in images]
    return _Photos(
        training=tuple(png for png, held in zip(pngs, held_out, strict=True) if not held),
        training_embeddings=tuple(each for each, held in zip(embeddings, held_out, strict=True) if not held),
        held_out_embeddings=tuple(each for each, held in zip(embeddings, held_out, strict=True) if held),
    )


def _rivals(records: Records, blobs: Blobs, judge: Judge, category: Category) -> Mapping[str, Sequence[Embedding]]:
    others = [
        other
        for other in records.find(Category, namespace=category.namespace)
        if other.id != category.id and other.retired_at is None and records.find(ReferenceSet, category_id=other.id)
    ]
    same_class = [other for other in others if other.class_noun == category.class_noun]
    return {other.path: embedded_references(records, blobs, judge, other) for other in same_class or others}


def _maker(
    generator: Generator,
    judge: Judge,
    base: BaseModelRef,
    category: Category,
    suite: Suite,
    report: ReportProgress,
) -> Callable[[LoadedFineTune | None, str], _Pictures]:
    """A function that has a model, told by its phrase, make and the judge embed the pictures of the suite."""
    settings = SamplingSettings(
        seed=suite.seed,
        num_images=suite.images_per_scene,
        inference_steps=suite.inference_steps,
        guidance_scale=suite.guidance_scale,
    )

    def make(fine_tune: LoadedFineTune | None, phrase: str) -> _Pictures:
        who = "fine-tune" if fine_tune else "bare base"

        def relay(progress: Progress) -> None:
            report(dataclasses.replace(progress, phase=f"pictures of the {who}"))

        prompts = [f"a photo of {with_article(phrase)} {scene}" for scene in suite.scenes]
        pictures = generator.generate(base, fine_tune, prompts, settings, report=relay)
        class_pictures = generator.generate(
            base,
            fine_tune,
            [class_prompt(category.class_noun)],
            dataclasses.replace(settings, num_images=suite.class_images),
            report=relay,
        )
        embeddings = judge.embed(pictures, [None] * len(pictures))
        plain = [f"a photo of {with_article(category.class_noun)} {scene}" for scene in suite.scenes]
        each = suite.images_per_scene
        starts = range(0, len(pictures), each)
        return _Pictures(
            by_scene=tuple(tuple(pictures[start : start + each]) for start in starts),
            embeddings=tuple(tuple(embeddings[start : start + each]) for start in starts),
            adherence=tuple(judge.adherence(pictures, [prompt for prompt in plain for _ in range(each)])),
            class_embeddings=tuple(judge.embed(class_pictures, [None] * len(class_pictures))),
        )

    return make


def _score(made: _Pictures, photos: _Photos, bare: _Pictures, centroids: Mapping[str, Embedding], path: str) -> Scores:
    return Scores(
        subject_fidelity=mean_similarity(made.flat, photos.compared),
        prompt_adherence=fmean(made.adherence),
        diversity=diversity(made.embeddings),
        nearest_category_accuracy=fmean(nearest(image, centroids) == path for image in made.flat),
        nearest_reference_distance=nearest_distance(made.flat, photos.training_embeddings),
        prior_drift=drift(bare.class_embeddings, made.class_embeddings),
        prior_leak=mean_similarity(made.class_embeddings, photos.training_embeddings),
    )


def _report(evaluation: Evaluation, suite: Suite) -> bytes:
    return to_json({**vars(evaluation), "suite": suite}).encode()


def _sheet(
    category: Category, fine_tune: FineTune, suite: Suite, photos: _Photos, bare: _Pictures, tuned: _Pictures
) -> bytes:
    rows = [
        Row(label="references", images=photos.training[: len(suite.scenes)]),
        Row(label=f"bare base: {category.class_noun}", images=[scene[0] for scene in bare.by_scene]),
        *(
            Row(label=f"{category.identifier} v{fine_tune.version}", images=[scene[number] for scene in tuned.by_scene])
            for number in range(min(2, suite.images_per_scene))
        ),
    ]
    return comparison_sheet(rows, column_labels=suite.scenes, title=f"{category.path}, version {fine_tune.version}")


def _store(blobs: Blobs, name: str, data: bytes) -> Artifact:
    return Artifact(name=name, sha256=blobs.put(data), num_bytes=len(data))
