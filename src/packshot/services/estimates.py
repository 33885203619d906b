"""Use case of a dry run: what a request would make, and what finished jobs say of its time and price.

Looks at records alone: no model is loaded, and nothing is recorded.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from packshot.domain.catalog import Category
from packshot.domain.generation import Generation, SamplingSettings
from packshot.domain.jobs import JobKind, JobStatus
from packshot.domain.models import BaseModelRef, FineTune, ForeignModel
from packshot.domain.usage import Usage, price_of
from packshot.ports import Records
from packshot.services.limits import num_unfinished
from packshot.services.prompts import ResolvedPrompt

RECENT_JOBS = 50
_REQUESTS_LOOKED_AT = 100  # of one job: a batch begins with every template, so they tell what it was made of


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What a batch cannot make, or could not, and why: the name of an error and its message."""

    category: str
    template: str
    error: str
    message: str


@dataclass(frozen=True, kw_only=True)
class EstimatedModel:
    """What would do a part of the work: a version of a category on its base, a bare base, or another's image API.

    A training has no version yet, but the reference set that it would learn from.
    """

    category: str | None = None
    version: int | None = None
    fine_tune_id: str | None = None
    reference_set_version: int | None = None
    base: str | None = None
    base_id: str | None = None
    foreign_model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a request would lead to; nothing is recorded.

    ``pictures`` are made in ``denoising_steps`` in all; those of a training are its class images, unless an earlier one has
    left them. ``training_images`` go forward and backward once each, in ``training_steps``. ``failures`` are what could not
    be made, ``jobs_ahead`` the unfinished jobs of everybody.

    ``seconds`` of compute, without the time in the queue, are what ``measured_jobs`` of the newest finished ones of this
    kind took, for as much; None where none is like this one. ``cost`` is what the usage report would say of that; None
    where it hangs on unknown seconds.
    """

    kind: JobKind
    models: tuple[EstimatedModel, ...]
    pictures: int = 0
    denoising_steps: int = 0
    training_steps: int = 0
    training_images: int = 0
    failures: tuple[Failure, ...] = ()
    jobs_ahead: int
    seconds: float | None
    cost: float | None
    measured_jobs: int


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Pictures that one model would make."""

    resolved: ResolvedPrompt | ForeignModel
    sampling: SamplingSettings


@dataclass(frozen=True, kw_only=True)
class Took:
    """What all attempts at a finished job took and gave."""

    seconds: float
    num_images: int
    num_steps: int


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """The time of some work, by that of so many jobs; None where no job tells."""

    seconds: float | None
    measured_jobs: int


def estimate_pictures(
    records: Records,
    kind: JobKind,
    wanted: Sequence[Wanted],
    failures: Sequence[Failure] = (),
    *,
    price_per_hour: float,
) -> Estimate:
    """What making the ``wanted`` pictures would lead to; jobs on the same base, of the same size, tell the time."""
    work: Counter[Hashable] = Counter()
    pictures = denoising_steps = 0
    fees = 0.0
    for each in wanted:
        number, steps = each.sampling.num_images, _units(each.resolved, each.sampling)
        if isinstance(each.resolved, ForeignModel):
            work[each.resolved.reference] += number * steps
            fees += number * each.resolved.price_per_image
        else:
            work[_load(each.resolved.base.id, len(each.resolved.subjects), each.sampling)] += number * steps
            denoising_steps += number * steps
        pictures += number
    time = foresee(work, _rates_of_pictures(records, work) if work else {})
    return Estimate(
        kind=kind,
        models=_models(records, [each.resolved for each in wanted]),
        pictures=pictures,
        denoising_steps=denoising_steps,
        failures=tuple(failures),
        jobs_ahead=num_unfinished(records),
        seconds=time.seconds,
        cost=cost_foreseen(time, price_per_hour, fees),
        measured_jobs=time.measured_jobs,
    )


def foresee(work: Mapping[Hashable, float], rates: Mapping[Hashable, Sequence[float]]) -> Foreseen:
    """The time of ``work``, amounts by what it is like, at the median of the ``rates`` of the like."""
    measured = sum(len(rates.get(key, ())) for key in work)
    if any(not rates.get(key) for key in work):
        return Foreseen(seconds=None, measured_jobs=measured)
    return Foreseen(seconds=sum(amount * median(rates[key]) for key, amount in work.items()), measured_jobs=measured)


def cost_foreseen(time: Foreseen, price_per_hour: float, fees: float = 0) -> float | None:
    """The cost of that time and of ``fees``, as the usage report has it; None where it hangs on unknown seconds."""
    if time.seconds is None and price_per_hour:
        return None
    return price_of(time.seconds or 0, fees, price_per_hour)


def recent(records: Records, *kinds: JobKind) -> dict[str, Took]:
    """What the newest jobs that succeeded took, by their ids; those of every namespace, as all share the machines."""
    newest = records.find(
        Usage,
        newest_first=True,
        limit=RECENT_JOBS,
        kind=[kind.value for kind in kinds],
        status=JobStatus.SUCCEEDED.value,
    )
    attempts: defaultdict[str, list[Usage]] = defaultdict(list)
    for each in records.find(Usage, job_id=[each.job_id for each in newest if each.job_id]):
        attempts[each.job_id or ""].append(each)
    return {
        job_id: Took(
            seconds=sum(each.seconds for each in all_),
            num_images=sum(each.num_images for each in all_),
            num_steps=sum(each.num_steps for each in all_),
        )
        for job_id, all_ in attempts.items()
    }


def _rates_of_pictures(records: Records, work: Iterable[Hashable]) -> Mapping[Hashable, Sequence[float]]:
    """Seconds per step of a picture (or per picture, where others make it) of the newest jobs, by what they made."""
    foreign = any(isinstance(key, str) for key in work)
    kinds = (JobKind.FOREIGN_GENERATION,) if foreign else (JobKind.GENERATION, JobKind.BATCH)
    rates: defaultdict[Hashable, list[float]] = defaultdict(list)
    for job_id, took in recent(records, *kinds).items():
        made = records.find(Generation, job_id=job_id, limit=_REQUESTS_LOOKED_AT)
        alike = {_of(each) for each in made}
        if len(alike) == 1 and took.num_images:
            ((key, units),) = alike
            rates[key].append(took.seconds / (took.num_images * units))
    return rates


def _of(made: Generation) -> tuple[Hashable, int]:
    if made.foreign_model:
        return made.foreign_model.reference, _units(made.foreign_model, made.sampling)
    return _load(made.base_id or "", len(made.subjects), made.sampling), _units(None, made.sampling)


def _load(base_id: str, num_subjects: int, sampling: SamplingSettings) -> Hashable:
    """What the time of a step of a picture depends on most."""
    return base_id, num_subjects, sampling.width, sampling.height, sampling.guidance_scale > 1


def _units(by: ResolvedPrompt | ForeignModel | None, sampling: SamplingSettings) -> int:
    """The steps that are taken for a picture; 1 where another's image API makes it."""
    if isinstance(by, ForeignModel):
        return 1
    steps = sampling.inference_steps
    return int(steps * sampling.strength) if sampling.layout else steps


def _models(records: Records, resolved: Sequence[ResolvedPrompt | ForeignModel]) -> tuple[EstimatedModel, ...]:
    """Each model that would answer, once, in order."""
    found: dict[tuple[str, str | None], EstimatedModel] = {}
    for each in resolved:
        if isinstance(each, ForeignModel):
            found[each.reference, None] = EstimatedModel(foreign_model=each.reference)
            continue
        for fine_tune in [subject.fine_tune for subject in each.subjects] or [each.fine_tune]:
            key = (each.base.id, fine_tune.id if fine_tune else None)
            if key not in found:
                found[key] = model_of(records, each.base, fine_tune)
    return tuple(found.values())


def model_of(records: Records, base: BaseModelRef, fine_tune: FineTune | None) -> EstimatedModel:
    """``fine_tune`` on ``base``, or that alone."""
    return EstimatedModel(
        category=records.get(Category, fine_tune.category_id).identifier if fine_tune else None,
        version=fine_tune.version if fine_tune else None,
        fine_tune_id=fine_tune.id if fine_tune else None,
        base=base.source,
        base_id=base.id,
    )
