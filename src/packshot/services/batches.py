"""Use cases of batches: plan one as a job, tell how it stands. ``batch_jobs`` makes the pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from packshot.domain.batches import Batch, BatchItem, ItemFailure, check_size
from packshot.domain.catalog import DEFAULT_NAMESPACE, Category
from packshot.domain.errors import Interrupted, PackshotError, StaleAttempt, WorkspaceUnusable
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings
from packshot.domain.jobs import Job, JobKind
from packshot.domain.models import BaseModelRef
from packshot.domain.templates import RenderedScene, Template, check_used
from packshot.domain.variables import Value
from packshot.ports import Records
from packshot.services.catalog import new_id, now
from packshot.services.estimates import Estimate, Failure, Wanted, estimate_pictures
from packshot.services.generation import new_generation
from packshot.services.prompts import ResolvedPrompt, resolve_prompt
from packshot.services.templates import render_for

# They end or delay the whole batch, whatever the category.
NOT_OF_THE_ITEM = (Interrupted, StaleAttempt, WorkspaceUnusable)


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """What to make: every category in every scene. ``own_settings`` of ``sampling`` go before the templates'."""

    categories: Sequence[Category]
    templates: Sequence[Template]
    variables: Mapping[str, Value]
    sampling: SamplingSettings
    own_settings: Sequence[str] = ()
    namespace: str = DEFAULT_NAMESPACE


@dataclass(frozen=True, kw_only=True)
class PlannedBatch:
    """A batch with its job; ``resumed`` when an unfinished one that asks for the same goes on."""

    batch: Batch
    job: Job
    resumed: bool


@dataclass(frozen=True, kw_only=True)
class ItemState:
    """One item with all that belongs to it, as far as it is made."""

    item: BatchItem
    category: Category
    template: Template
    generation: Generation | None
    images: tuple[GeneratedImage, ...]
    failure: ItemFailure | None


def plan_batch(
    records: Records,
    request: BatchRequest,
    code_revision: str,
    *,
    priority: int = 0,
    admit: Callable[[], None] = lambda: None,
) -> PlannedBatch:
    """Queue a batch, or find the unfinished one that this would repeat.

    Which version answers each category is settled now. A category that cannot be answered is a failure of its items,
    and the others go on. ``admit`` is called before a job is added, and may refuse it by raising.

    Raises:
        InvalidInput: nothing to make, or more than a batch may have.
        InvalidVariables, InvalidPrompt: the templates cannot be rendered with these variables.
    """
    request = _checked(request)
    with records.transaction():
        known = _unfinished(records, request)
        if known:
            return known
        admit()
        batch_id, job_id = new_id("bat"), new_id("job")
        batch = Batch(
            id=batch_id,
            namespace=request.namespace,
            sampling=request.sampling,
            own_settings=tuple(sorted(request.own_settings)),
            variables=tuple(sorted(request.variables.items())),
            code_revision=code_revision,
            job_id=job_id,
            created_at=now(),
        )
        job = Job(
            id=job_id,
            kind=JobKind.BATCH,
            subject_id=batch_id,
            namespace=request.namespace,
            priority=priority,
            created_at=now(),
        )
        records.add(job, batch)
        for number, (category, template) in enumerate(_pairs(request)):
            _add_item(records, request, batch, number, category, template)
    return PlannedBatch(batch=batch, job=job, resumed=False)


def estimate_batch(records: Records, request: BatchRequest, *, price_per_hour: float = 0) -> Estimate:
    """What ``plan_batch`` with the same request would lead to; nothing is recorded.

    Raises:
        InvalidInput, InvalidVariables, InvalidPrompt: as ``plan_batch``.
    """
    request = _checked(request)
    wanted: list[Wanted] = []
    failures: list[Failure] = []
    for category, template in _pairs(request):
        rendered = _rendered(request, category, template)
        try:
            resolved = _resolve(records, request, category, rendered)
        except NOT_OF_THE_ITEM:
            raise
        except PackshotError as error:
            failures.append(
                Failure(
                    category=category.path, template=template.reference, error=type(error).__name__, message=str(error)
                )
            )
        else:
            sampling = rendered.completing(request.sampling, request.own_settings)
            wanted.append(Wanted(resolved=resolved, sampling=sampling))
    return estimate_pictures(records, JobKind.BATCH, wanted, failures, price_per_hour=price_per_hour)


def items_of(records: Records, batch: Batch) -> list[ItemState]:
    """The items of ``batch`` in order."""
    failures = {failure.item_id: failure for failure in records.find(ItemFailure, batch_id=batch.id)}
    generations = {generation.id: generation for generation in records.find(Generation, job_id=batch.job_id)}
    items = records.find(BatchItem, order=("number",), batch_id=batch.id)
    categories = {each.id: each for each in records.find(Category, id=[*{item.category_id for item in items}])}
    templates = {each.id: each for each in records.find(Template, id=[*{item.template_id for item in items}])}
    made = [item.generation_id for item in items if item.generation_id]
    images: dict[str, list[GeneratedImage]] = {each: [] for each in made}
    for image in records.find(GeneratedImage, order=("number",), generation_id=made):
        images[image.generation_id].append(image)
    return [
        ItemState(
            item=item,
            category=categories[item.category_id],
            template=templates[item.template_id],
            generation=generations[item.generation_id] if item.generation_id else None,
            images=tuple(images[item.generation_id]) if item.generation_id else (),
            failure=failures.get(item.id),
        )
        for item in items
    ]


def failures_of(items: Sequence[ItemState]) -> list[Failure]:
    """What of a batch could not be made, in the order of its ``items``."""
    return [
        Failure(
            category=state.category.path,
            template=state.template.reference,
            error=state.failure.error,
            message=state.failure.message,
        )
        for state in items
        if state.failure
    ]


def _checked(request: BatchRequest) -> BatchRequest:
    """``request`` with every category and template once, if all of it can be rendered."""
    categories = list({category.id: category for category in request.categories}.values())
    templates = list({template.id: template for template in request.templates}.values())
    request = replace(request, categories=categories, templates=templates)
    check_size(len(categories), len(templates), request.sampling)
    check_used(request.variables, [template.scene for template in templates])
    for category, template in _pairs(request):
        _rendered(request, category, template)
    return request


def _pairs(request: BatchRequest) -> list[tuple[Category, Template]]:
    """Category by category, so that each fine-tune is loaded once."""
    return [(category, template) for category in request.categories for template in request.templates]


def _rendered(request: BatchRequest, category: Category, template: Template) -> RenderedScene:
    """``template`` for ``category``, with those of the variables that it has."""
    names = {variable.name for variable in template.scene.variables}
    return render_for(template, category, {name: value for name, value in request.variables.items() if name in names})


def _resolve(records: Records, request: BatchRequest, category: Category, rendered: RenderedScene) -> ResolvedPrompt:
    def no_base() -> BaseModelRef:
        raise AssertionError("a rendered prompt always has a subject")

    return resolve_prompt(records, rendered.prompt, bare_base=no_base, category=category, namespace=request.namespace)


def _unfinished(records: Records, request: BatchRequest) -> PlannedBatch | None:
    wanted = [(category.id, template.id) for category, template in _pairs(request)]
    for batch in records.find(Batch, namespace=request.namespace):
        job = records.get(Job, batch.job_id)
        same = (batch.sampling, batch.own_settings, batch.variables) == (
            request.sampling,
            tuple(sorted(request.own_settings)),
            tuple(sorted(request.variables.items())),
        )
        if same and not job.finished:
            items = records.find(BatchItem, order=("number",), batch_id=batch.id)
            if [(item.category_id, item.template_id) for item in items] == wanted:
                return PlannedBatch(batch=batch, job=job, resumed=True)
    return None


def _add_item(
    records: Records, request: BatchRequest, batch: Batch, number: int, category: Category, template: Template
) -> None:
    rendered = _rendered(request, category, template)
    item = BatchItem(
        id=new_id("itm"),
        batch_id=batch.id,
        number=number,
        category_id=category.id,
        template_id=template.id,
        generation_id=None,
    )
    try:
        resolved = _resolve(records, request, category, rendered)
    except NOT_OF_THE_ITEM:
        raise
    except PackshotError as error:
        records.add(item, failed_item(item, error))
        return
    generation = new_generation(
        rendered.prompt,
        resolved,
        rendered.completing(request.sampling, request.own_settings),
        batch.code_revision,
        batch.namespace,
        job_id=batch.job_id,
        template=template,
    )
    records.add(generation, replace(item, generation_id=generation.id))


def failed_item(item: BatchItem, error: PackshotError) -> ItemFailure:
    """The record of what kept ``item`` from being made."""
    return ItemFailure(
        id=new_id("fai"),
        batch_id=item.batch_id,
        item_id=item.id,
        error=type(error).__name__,
        message=str(error),
        created_at=now(),
    )
