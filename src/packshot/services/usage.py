"""Use cases of usage: note what an attempt at a job took and gave, and sum that up per category and team."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from math import fsum

from packshot.domain.catalog import Category
from packshot.domain.evaluation import EvaluationRun
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.domain.models import FineTune
from packshot.domain.training import TrainingRun
from packshot.domain.usage import Cost, Usage, price_of
from packshot.ports import Records, Tally
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
class NamespaceUsage:
    """What a team cost."""

    namespace: str
    usage: Cost


@dataclass(frozen=True, kw_only=True)
class UsageReport:
    """What was used from ``since`` to just before ``until`` (None = ever), per category, per team and in all."""

    since: datetime | None
    until: datetime | None
    price_per_hour: float
    categories: tuple[CategoryUsage, ...]
    namespaces: tuple[NamespaceUsage, ...]
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
    records: Records,
    *,
    price_per_hour: float,
    namespace: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> UsageReport:
    """The sums of one namespace, or of all where none is given, from ``since`` to just before ``until``."""
    chosen = {} if namespace is None else {"namespace": namespace}
    found = records.tally(Usage, ("namespace", "category_id", "kind"), _SUMS, since=since, until=until, **chosen)
    ids = {each.key[1] for each in found if each.key[1]}
    categories = {each.id: each for each in records.find(Category, id=[*ids])}

    def rows(by: slice) -> dict[tuple[str | None, ...], Cost]:
        keys = dict.fromkeys(each.key[by] for each in found)
        return {key: _summed([each for each in found if each.key[by] == key], price_per_hour) for key in keys}

    return UsageReport(
        since=since,
        until=until,
        price_per_hour=price_per_hour,
        categories=tuple(
            CategoryUsage(
                namespace=owner or "",
                category=categories[id_].identifier if id_ else None,
                path=categories[id_].path if id_ else None,
                usage=cost,
            )
            for (owner, id_), cost in rows(slice(2)).items()
        ),
        namespaces=tuple(
            NamespaceUsage(namespace=owner or "", usage=cost) for (owner,), cost in rows(slice(1)).items()
        ),
        total=_summed(found, price_per_hour),
    )


def _summed(tallies: Sequence[Tally], price_per_hour: float) -> Cost:
    """``tallies`` are of _SUMS, by a key that ends with the kind of job."""
    num_images, num_steps, seconds, fees = (fsum(each.sums[place] for each in tallies) for place in range(len(_SUMS)))
    return Cost(
        num_images=round(num_images),
        num_steps=round(num_steps),
        training_seconds=fsum(each.sums[2] for each in tallies if each.key[-1] == JobKind.TRAINING),
        seconds=seconds,
        fees=fees,
        cost=price_of(seconds, fees, price_per_hour),
    )
