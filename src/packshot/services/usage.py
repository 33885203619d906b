"""Use cases of usage: note what an attempt at a job took and gave, and sum that up per category."""

from dataclasses import dataclass
from datetime import datetime

from packshot.domain.catalog import Category
from packshot.domain.evaluation import EvaluationRun
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.domain.models import FineTune
from packshot.domain.training import TrainingRun
from packshot.domain.usage import Cost, Usage, cost_of
from packshot.ports import Records
from packshot.services.catalog import new_id, now

_SUMS = ("num_images", "num_steps", "seconds", "fees")


@dataclass(frozen=True, kw_only=True)
class CategoryUsage:
    """What a category cost its team; no ``category`` = pictures of a bare base, and batches of several categories."""

    namespace: str
    category: str | None
    path: str | None
    usage: Cost


@dataclass(frozen=True, kw_only=True)
class UsageReport:
    """What was used ``since`` then (None = ever), per category and in all."""

    since: datetime | None
    price_per_hour: float
    categories: tuple[CategoryUsage, ...]
    total: Cost


def usage_of(records: Records, job: Job, status: JobStatus, *, num_steps: int, seconds: float) -> Usage:
    """What the attempt at ``job`` that left it in ``status`` took and gave: the pictures that none before it gave."""
    generations = records.find(Generation, job_id=job.id)
    category = _category_of(records, job, generations)
    made = sum(len(records.find(GeneratedImage, generation_id=each.id)) for each in generations)
    new = made - sum(each.num_images for each in records.find(Usage, job_id=job.id))
    return Usage(
        id=new_id("use"),
        namespace=category.namespace if category else generations[0].namespace if generations else job.namespace,
        category_id=category.id if category else None,
        job_id=job.id,
        kind=job.kind,
        status=status,
        num_images=new,
        num_steps=num_steps,
        seconds=seconds,
        fees=new * sum(each.foreign_model.price_per_image for each in generations if each.foreign_model),
        created_at=now(),
    )


def usage_at_once(generation: Generation, fine_tune: FineTune | None, *, num_images: int, seconds: float) -> Usage:
    """What pictures took that were made without the queue."""
    foreign = generation.foreign_model
    return Usage(
        id=new_id("use"),
        namespace=generation.namespace,
        category_id=fine_tune.category_id if fine_tune else None,
        job_id=None,
        kind=JobKind.FOREIGN_GENERATION if foreign else JobKind.GENERATION,
        status=JobStatus.SUCCEEDED,
        num_images=num_images,
        num_steps=0,
        seconds=seconds,
        fees=num_images * foreign.price_per_image if foreign else 0.0,
        created_at=generation.created_at,
    )


def _category_of(records: Records, job: Job, generations: list[Generation]) -> Category | None:
    """The one category that ``job`` is about."""
    runs = records.find(TrainingRun, job_id=job.id)
    if runs:
        return records.get(Category, runs[0].category_id)
    answering = {each.fine_tune_id for each in (*generations, *records.find(EvaluationRun, job_id=job.id))}
    ids = {records.get(FineTune, id_).category_id if id_ else None for id_ in answering}
    (only,) = ids if len(ids) == 1 else (None,)
    return records.get(Category, only) if only else None


def report_usage(
    records: Records, *, price_per_hour: float, namespace: str | None = None, since: datetime | None = None
) -> UsageReport:
    """The sums of one namespace, or of all where none is given."""
    chosen = {} if namespace is None else {"namespace": namespace}
    rows: list[CategoryUsage] = []
    for each in records.tally(Usage, ("namespace", "category_id"), _SUMS, since=since, **chosen):
        owner, category_id = each.key
        category = records.get(Category, category_id) if category_id else None
        num_images, num_steps, seconds, fees = each.sums
        rows.append(
            CategoryUsage(
                namespace=owner or "",
                category=category.identifier if category else None,
                path=category.path if category else None,
                usage=cost_of(num_images, num_steps, seconds, fees, price_per_hour),
            )
        )
    totals = records.tally(Usage, (), _SUMS, since=since, **chosen)
    num_images, num_steps, seconds, fees = totals[0].sums if totals else (0, 0, 0, 0)
    return UsageReport(
        since=since,
        price_per_hour=price_per_hour,
        categories=tuple(rows),
        total=cost_of(num_images, num_steps, seconds, fees, price_per_hour),
    )
