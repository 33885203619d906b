"""Use cases of evaluation as a job: plan one, carry it out exactly once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice

from packshot.domain.catalog import Category
from packshot.domain.errors import Interrupted, NotFound
from packshot.domain.evaluation import Evaluation, EvaluationRun
from packshot.domain.jobs import Job, JobKind
from packshot.domain.models import BaseModelRef, FineTune
from packshot.ports import Blobs, Generator, Judge, Progress, Records
from packshot.services.catalog import new_id, now
from packshot.services.estimates import Estimate, cost_foreseen, foresee, model_of, recent
from packshot.services.evaluation import Suite, evaluate
from packshot.services.jobs import ReportProgress, Stop
from packshot.services.limits import num_unfinished


@dataclass(frozen=True, kw_only=True)
class PlannedEvaluation:
    """A planned evaluation with its job; ``resumed`` when an unfinished one that asks for the same goes on."""

    run: EvaluationRun
    job: Job
    resumed: bool


def plan_evaluation(
    records: Records,
    fine_tune: FineTune,
    *,
    images_per_scene: int,
    seed: int,
    priority: int = 0,
    admit: Callable[[], None] = lambda: None,
) -> PlannedEvaluation:
    """Queue an evaluation of ``fine_tune``, or find the unfinished one that this would repeat.

    The job takes the turns of the category's namespace. ``admit`` is called before it is added, and may refuse it by
    raising.

    Raises:
        InvalidInput: pictures or seed out of bounds.
    """
    run_id = new_id("eva")
    job = Job(
        id=new_id("job"),
        kind=JobKind.EVALUATION,
        subject_id=run_id,
        namespace=records.get(Category, fine_tune.category_id).namespace,
        priority=priority,
        created_at=now(),
    )
    run = EvaluationRun(
        id=run_id,
        fine_tune_id=fine_tune.id,
        images_per_scene=images_per_scene,
        seed=seed,
        job_id=job.id,
        created_at=now(),
    )
    with records.transaction():
        for same in records.find(
            EvaluationRun, fine_tune_id=fine_tune.id, images_per_scene=images_per_scene, seed=seed
        ):
            known = records.get(Job, same.job_id)
            if not known.finished:
                return PlannedEvaluation(run=same, job=known, resumed=True)
        admit()
        records.add(job, run)
    return PlannedEvaluation(run=run, job=job, resumed=False)


def estimate_evaluation(
    records: Records, fine_tune: FineTune, *, images_per_scene: int, seed: int, price_per_hour: float = 0
) -> Estimate:
    """What ``plan_evaluation`` with these would lead to; nothing is recorded. Evaluations on the same base tell the time.

    Raises:
        InvalidInput: as ``plan_evaluation``.
    """
    EvaluationRun(
        id="", fine_tune_id=fine_tune.id, images_per_scene=images_per_scene, seed=seed, job_id="", created_at=now()
    )
    suite = Suite(images_per_scene=images_per_scene, seed=seed)
    base = records.get(BaseModelRef, fine_tune.base_id)
    took = recent(records, JobKind.EVALUATION)
    rates = [
        took[run.job_id].seconds / Suite(images_per_scene=run.images_per_scene).num_pictures
        for run in records.find(EvaluationRun, job_id=[*took])
        if records.get(FineTune, run.fine_tune_id).base_id == base.id
    ]
    time = foresee({base.id: suite.num_pictures}, {base.id: rates})
    return Estimate(
        kind=JobKind.EVALUATION,
        models=(model_of(records, base, fine_tune), model_of(records, base, None)),
        pictures=suite.num_pictures,
        denoising_steps=suite.num_pictures * suite.inference_steps,
        jobs_ahead=num_unfinished(records),
        seconds=time.seconds,
        cost=cost_foreseen(time, price_per_hour),
        measured_jobs=time.measured_jobs,
    )


def run_evaluation(
    job: Job,
    records: Records,
    blobs: Blobs,
    generator: Generator,
    judge: Judge,
    *,
    report: ReportProgress,
    stop: Stop,
) -> Evaluation:
    """Carry out the evaluation of ``job``: recorded exactly once, however often it is tried.

    Raises:
        Interrupted: ``stop()`` became true; nothing is kept, as an evaluation is one measurement.
        StaleAttempt: another worker took over, or the job was canceled; nothing was recorded.
        CorruptArtifact, BaseModelRefused, JudgeUnusable: what it needs cannot be loaded.
    """
    run = records.get(EvaluationRun, job.subject_id)
    known = records.find(Evaluation, id=run.id)
    if known:
        return known[0]

    def checked(progress: Progress) -> None:
        report(progress)
        if stop():
            raise Interrupted(f"stopped at {progress.phase}, step {progress.step} of {progress.num_steps}")

    return evaluate(
        records,
        blobs,
        generator,
        judge,
        records.get(FineTune, run.fine_tune_id),
        suite=Suite(images_per_scene=run.images_per_scene, seed=run.seed),
        report=checked,
        evaluation_id=run.id,
        fence=(job.id, job.attempt),
    )


Asked = Evaluation | EvaluationRun


def evaluations_in(records: Records, namespace: str, *, after: str | None, limit: int) -> list[Asked]:
    """The evaluations of a namespace, the oldest first: those that were planned as jobs as their plans.

    At most ``limit``, behind the one with the id ``after``; raises NotFound where there is none.
    """
    place: tuple[datetime, str] | None = None
    if after is not None:
        planned = records.find(EvaluationRun, id=after, namespace=namespace)
        found = planned or records.find(Evaluation, id=after, namespace=namespace)
        if not found:
            raise NotFound(f"there is no evaluation with the id {after!r}")
        place = _place(found[0])

    def read(kind: type[EvaluationRun] | type[Evaluation]) -> Iterator[Asked]:
        last: str | None = None
        since = place and place[0]
        while True:
            chunk = records.find(
                kind, order=("created_at", "id"), after=last, limit=limit + 1, since=since, namespace=namespace
            )
            plans = {each.id for each in records.find(EvaluationRun, id=[each.id for each in chunk])}
            yield from (each for each in chunk if kind is EvaluationRun or each.id not in plans)
            if len(chunk) <= limit:
                return
            last = chunk[-1].id

    both = merge(read(EvaluationRun), read(Evaluation), key=_place)
    return list(islice((each for each in both if place is None or _place(each) > place), limit))


def _place(evaluation: Asked) -> tuple[datetime, str]:
    return evaluation.created_at, evaluation.id
