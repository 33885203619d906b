"""Use cases of other people's image APIs: the same request for pictures, answered by a model that is not ours.

Pictures are recorded, priced and inscribed as ours are. What such a model cannot honour is refused before it is asked.
"""

import time
from collections.abc import Collection, Sequence

from packshot.domain.catalog import DEFAULT_NAMESPACE, Category
from packshot.domain.errors import CapabilityMissing, NotFound
from packshot.domain.generation import GeneratedImage, Generation, SamplingSettings, find_subject
from packshot.domain.jobs import Job, JobKind
from packshot.domain.models import ForeignModel
from packshot.domain.providers import SIZE, Provider, check_capable, split_reference
from packshot.imaging.recipe import Inscribe, with_recipe
from packshot.ports import Blobs, ForeignGenerator, Records
from packshot.services.catalog import new_id, now
from packshot.services.generation_jobs import Recipe, carry_out, keep_pictures, queue_generation
from packshot.services.jobs import ReportProgress, Stop, no_report
from packshot.services.usage import usage_at_once


def foreign_model(
    records: Records,
    providers: Sequence[Provider],
    model: str,
    prompt: str,
    sampling: SamplingSettings,
    given: Collection[str],
    *,
    namespace: str = DEFAULT_NAMESPACE,
) -> ForeignModel:
    """The model that ``model`` (PROVIDER/NAME) names, if it can answer ``prompt`` with the settings that were ``given``.

    Raises:
        InvalidInput: no such reference; or see ``domain.generation.find_subject``.
        NotFound: no provider of that name is configured.
        CapabilityMissing: the prompt names a category, whose fine-tune the model has not; or as ``check_capable``.
    """
    provider_name, name = split_reference(model)
    known = {each.name: each for each in providers}
    if provider_name not in known:
        names = ", ".join(sorted(known)) or "none"
        raise NotFound(
            f"no provider {provider_name!r} is configured (known: {names}); declare it in the workspace's providers.toml"
        )
    subject = find_subject(prompt, records.find(Category, namespace=namespace))
    if subject:
        raise CapabilityMissing(
            f"{model} has not the fine-tune of {subject.category.identifier}; describe the product in words, or leave the model out"
        )
    return check_capable(known[provider_name], name, sampling, given)


def generate_foreign(
    records: Records,
    blobs: Blobs,
    generator: ForeignGenerator,
    model: ForeignModel,
    prompt: str,
    sampling: SamplingSettings,
    *,
    code_revision: str,
    namespace: str = DEFAULT_NAMESPACE,
    inscribe: Inscribe = with_recipe,
    report: ReportProgress = no_report,
) -> tuple[Generation, list[GeneratedImage]]:
    """Have ``model`` answer ``prompt`` at once, and record the pictures.

    Raises:
        ProviderUnusable, ProviderRefused: see ``ports.ForeignGenerator``.
    """
    generation = _generation(model, prompt, sampling, code_revision, namespace, job_id=None)
    started = time.monotonic()
    images = _make(blobs, generator, generation, model, report, inscribe)
    usage = usage_at_once(generation, None, num_images=len(images), seconds=time.monotonic() - started)
    records.add(generation, *images, usage)
    return generation, images


def plan_foreign_generation(
    records: Records,
    model: ForeignModel,
    prompt: str,
    sampling: SamplingSettings,
    *,
    code_revision: str,
    namespace: str = DEFAULT_NAMESPACE,
    priority: int = 0,
) -> Generation:
    """Queue a request that ``model`` is to answer."""
    generation = _generation(model, prompt, sampling, code_revision, namespace, job_id=new_id("job"))
    return queue_generation(records, generation, JobKind.FOREIGN_GENERATION, priority)


def run_foreign_generation(
    job: Job,
    records: Records,
    blobs: Blobs,
    generator: ForeignGenerator,
    *,
    inscribe: Inscribe = with_recipe,
    report: ReportProgress,
    stop: Stop,
) -> None:
    """Have the pictures of ``job`` made.

    Raises:
        Interrupted, StaleAttempt: see ``generation_jobs.carry_out``.
        ProviderUnusable, ProviderRefused: see ``ports.ForeignGenerator``.
    """

    def make(generation: Generation, checked: ReportProgress) -> list[GeneratedImage]:
        assert generation.foreign_model
        return _make(blobs, generator, generation, generation.foreign_model, checked, inscribe)

    carry_out(job, records, make, report=report, stop=stop)


def _generation(
    model: ForeignModel,
    prompt: str,
    sampling: SamplingSettings,
    code_revision: str,
    namespace: str,
    *,
    job_id: str | None,
) -> Generation:
    return Generation(
        id=new_id("gen"),
        namespace=namespace,
        prompt=prompt,
        resolved_prompt=prompt,
        foreign_model=model,
        fine_tune_id=None,
        sampling=sampling,
        code_revision=code_revision,
        job_id=job_id,
        created_at=now(),
    )


def _make(
    blobs: Blobs,
    generator: ForeignGenerator,
    generation: Generation,
    model: ForeignModel,
    report: ReportProgress,
    inscribe: Inscribe,
) -> list[GeneratedImage]:
    pngs = generator.generate(model, generation.prompt, generation.sampling, request_id=generation.id, report=report)

    def made_of(number: int) -> tuple[int | None, Recipe]:
        seed = generation.sampling.seed + number if "seed" in model.settings else None
        return seed, _recipe(generation, model, seed)

    return keep_pictures(blobs, generation, pngs, inscribe, numbers=range(len(pngs)), made_of=made_of)


def _recipe(generation: Generation, model: ForeignModel, seed: int | None) -> dict[str, str | int | float]:
    """What the model was told. Holds nothing that differs between two equal requests."""
    recipe: dict[str, str | int | float] = {"prompt": generation.prompt, "model": model.reference}
    for name in model.settings:
        if name == SIZE:
            recipe["size"] = f"{generation.sampling.width}x{generation.sampling.height}"
        else:
            recipe[name] = getattr(generation.sampling, name)
    if seed is not None:
        recipe["seed"] = seed
    return recipe | {"code_revision": generation.code_revision}
