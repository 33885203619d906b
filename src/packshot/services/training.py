"""Use cases of training: plan a run as a job, carry it out, publish the fine-tune. Knows no tensor."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packshot.domain.catalog import Category, check_in_use
from packshot.domain.errors import NotFound
from packshot.domain.generation import Subject, rewrite_prompt
from packshot.domain.jobs import Job, JobKind
from packshot.domain.models import Artifact, BaseModelRef, FineTune
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.training import TrainingConfig, TrainingRun
from packshot.domain.training_choices import HorizontalFlip
from packshot.domain.training_prompts import trained_phrase, trained_token
from packshot.imaging.plots import loss_plot
from packshot.ports import Blobs, Judge, Records, TrainedWeights, Trainer, TrainingExample, TrainingTask
from packshot.services.catalog import new_id, now
from packshot.services.jobs import ReportProgress, Stop
from packshot.services.mirroring import flip_for
from packshot.services.models import next_version
from packshot.services.step_choice import choice_files, scoring, split_examples
from packshot.services.validation import validation_files, validation_samples

WEIGHTS = "weights.safetensors"
METRICS = "metrics.jsonl"
LOSS_PLOT = "loss.png"

GetJudge = Callable[[], Judge]


@dataclass(frozen=True, kw_only=True)
class PlannedTraining:
    """A run with its job; ``resumed`` when an unfinished run with the same parents and configuration goes on."""

    run: TrainingRun
    job: Job
    resumed: bool


def newest_set(records: Records, category: Category) -> ReferenceSet:
    """The newest frozen reference set of ``category``.

    Raises:
        NotFound: none is frozen.
    """
    sets = records.find(ReferenceSet, category_id=category.id)
    if not sets:
        raise NotFound(
            f"{category.path} has no frozen reference set; freeze one with: packshot references freeze {category.path}"
        )
    return max(sets, key=lambda each: each.version)


def plan_training(
    records: Records,
    category: Category,
    base: BaseModelRef,
    config: TrainingConfig,
    code_revision: str,
    *,
    namespace: str | None = None,
    priority: int = 0,
    admit: Callable[[], None] = lambda: None,
) -> PlannedTraining:
    """Queue a training of the newest reference set, or find the unfinished run that this would repeat.

    The job takes the turns of ``namespace``, without it those of the category's. ``admit`` is called before a job is
    added, and may refuse it by raising.

    Raises:
        NotFound: no frozen reference set.
        CategoryRetired: the category is out of use.
        UnknownIdentifier: a validation prompt names another category.
    """
    check_in_use(category)
    frozen = newest_set(records, category)
    validation_samples(category, config, phrase=category.class_noun)
    with records.transaction():
        same = records.find(TrainingRun, category_id=category.id, reference_set_id=frozen.id, base_id=base.id)
        for run in same:
            job = records.get(Job, run.job_id)
            if run.config == config and not job.finished:
                return PlannedTraining(run=run, job=job, resumed=True)
        admit()
        run_id = new_id("run")
        job = Job(
            id=new_id("job"),
            kind=JobKind.TRAINING,
            subject_id=run_id,
            namespace=category.namespace if namespace is None else namespace,
            priority=priority,
            created_at=now(),
        )
        run = TrainingRun(
            id=run_id,
            category_id=category.id,
            reference_set_id=frozen.id,
            base_id=base.id,
            config=config,
            code_revision=code_revision,
            job_id=job.id,
            created_at=now(),
        )
        records.add(job, run)
    return PlannedTraining(run=run, job=job, resumed=False)


def run_training(
    job: Job,
    records: Records,
    blobs: Blobs,
    trainer: Trainer,
    *,
    code_revision: str,
    workdir: Path,
    cachedir: Path,
    report: ReportProgress,
    stop: Stop,
    judge: GetJudge,
) -> FineTune:
    """Carry out the training of ``job`` and publish its fine-tune: exactly once, however often it is tried.

    What is kept in ``workdir`` to go on from stays until ``sweep_checkpoints``. The fine-tune keeps ``code_revision``,
    which differs from the run's where a run was taken up by other code than planned it. ``judge`` is called where the
    steps or mirroring are chosen, and only then.

    Raises:
        CategoryRetired: the category was taken out of use since the training was planned.
        Interrupted: ``stop()`` became true; a checkpoint is kept in ``workdir``.
        StaleAttempt: another worker took over; nothing was published.
    """
    task = prepare_training(job, records, blobs, judge, workdir=workdir, cachedir=cachedir)
    if isinstance(task, FineTune):
        return task
    trained = trainer.train(task, report=report, stop=stop)
    return publish_training(job, records, blobs, task, trained, code_revision=code_revision)


def prepare_training(
    job: Job, records: Records, blobs: Blobs, judge: GetJudge, *, workdir: Path, cachedir: Path
) -> TrainingTask | FineTune:
    """The task of ``job``, or the fine-tune that an earlier attempt at it has published.

    Raises:
        CategoryRetired: the category was taken out of use since the training was planned.
        CorruptArtifact, NotFound: a photo of the set is damaged or gone.
        JudgeUnusable: the steps or mirroring are to be chosen, and the judge cannot be found or loaded.
    """
    run = records.get(TrainingRun, job.subject_id)
    category = records.get(Category, run.category_id)
    published = records.find(FineTune, training_run_id=run.id)
    if published:
        return published[0]
    check_in_use(category)
    frozen = records.get(ReferenceSet, run.reference_set_id)
    token = trained_token(category.identifier, frozen.digest)
    phrase = trained_phrase(token, category.class_noun)
    examples = _examples(records, blobs, category, frozen, phrase)
    judged = None
    if run.config.choose_steps:
        examples, held_out = split_examples(examples)
        judged = scoring(judge(), examples, held_out, category.class_noun, phrase)
    config = run.config
    if config.horizontal_flip is HorizontalFlip.AUTO:
        config = dataclasses.replace(config, horizontal_flip=flip_for(judge(), examples))
    return TrainingTask(
        base=records.get(BaseModelRef, run.base_id),
        examples=examples,
        class_noun=category.class_noun,
        token=token,
        trained_phrase=phrase,
        config=config,
        workdir=workdir / run.id,
        cachedir=cachedir,
        validation=validation_samples(category, run.config, phrase),
        scoring=judged,
    )


def publish_training(
    job: Job, records: Records, blobs: Blobs, task: TrainingTask, trained: TrainedWeights, *, code_revision: str
) -> FineTune:
    """Record what was trained as the category's next version.

    Raises:
        StaleAttempt: another worker took over; nothing was published.
    """
    run = records.get(TrainingRun, job.subject_id)
    title = records.get(Category, run.category_id).path
    artifacts = _store(blobs, run.config, trained, title)
    with records.transaction(fence=(job.id, job.attempt)):
        fine_tune = FineTune(
            id=new_id("ft"),
            category_id=run.category_id,
            version=next_version(records, run.category_id),
            training_run_id=run.id,
            base_id=run.base_id,
            method=run.config.method,
            token=task.token,
            trained_phrase=task.trained_phrase,
            artifacts=artifacts,
            code_revision=code_revision,
            created_at=now(),
        )
        records.add(fine_tune)
    return fine_tune


def sweep_checkpoints(records: Records, workdir: Path) -> None:
    """Remove what runs keep in ``workdir`` to go on from, of those that never will: their jobs have ended."""
    for folder in workdir.glob("*"):
        jobs = records.find(Job, subject_id=folder.name)
        if jobs and all(job.finished for job in jobs):
            shutil.rmtree(folder, ignore_errors=True)


def _examples(
    records: Records, blobs: Blobs, category: Category, frozen: ReferenceSet, phrase: str
) -> tuple[TrainingExample, ...]:
    """The training photos; the identifier in a caption becomes ``phrase``, as it does in a caller's prompt."""
    subject = Subject(category=category, spelling=category.identifier)
    images = [records.get(ReferenceImage, id_) for id_ in frozen.image_ids if id_ not in frozen.held_out_ids]
    return tuple(
        TrainingExample(
            image=blobs.get(image.image or ""),
            caption=rewrite_prompt(image.caption, subject, phrase),
            mask=blobs.get(image.mask) if image.mask else None,
        )
        for image in sorted(images, key=lambda image: image.image or "")
    )


def _store(blobs: Blobs, config: TrainingConfig, trained: TrainedWeights, title: str) -> tuple[Artifact, ...]:
    files = {
        **trained.files,
        METRICS: "".join(json.dumps(dict(row)) + "\n" for row in trained.metrics).encode(),
        LOSS_PLOT: loss_plot(trained.metrics),
    }
    if trained.scored:
        files |= choice_files(trained.scored)
    if trained.validation:
        files |= validation_files(config, trained.validation, title)
    return tuple(
        Artifact(name=name, sha256=blobs.put(data), num_bytes=len(data)) for name, data in sorted(files.items())
    )


def fine_tune_of(records: Records, run: TrainingRun) -> FineTune:
    """The fine-tune that ``run`` published.

    Raises:
        NotFound: it has published none.
    """
    found = records.find(FineTune, training_run_id=run.id)
    if not found:
        raise NotFound(f"run {run.id} has published no fine-tune")
    return found[0]
