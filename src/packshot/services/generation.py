"""Use cases of generation: a caller's prompt in, recorded pictures with their recipe out, at once or as a job."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from packshot.domain.catalog import DEFAULT_NAMESPACE, Category
from packshot.domain.composition import Box
from packshot.domain.errors import FineTuneQuarantined
from packshot.domain.generation import (
    GeneratedImage,
    Generation,
    SamplingSettings,
)
from packshot.domain.jobs import Job, JobKind
from packshot.domain.models import BaseModelRef, FineTune
from packshot.domain.templates import Template
from packshot.imaging.decode import decode_reference
from packshot.imaging.recipe import Inscribe, with_recipe
from packshot.ports import Blobs, Generator, Records
from packshot.services.artifacts import load_fine_tune
from packshot.services.catalog import new_id, now
from packshot.services.generation_jobs import Recipe, carry_out, keep_pictures, queue_generation
from packshot.services.jobs import ReportProgress, Stop, no_report
from packshot.services.prompts import ResolvedPrompt, load_subjects, resolve_prompt, resolved_again
from packshot.services.training import WEIGHTS
from packshot.services.usage import usage_at_once


def generate(
    records: Records,
    blobs: Blobs,
    generator: Generator,
    prompt: str,
    sampling: SamplingSettings,
    *,
    bare_base: Callable[[], BaseModelRef],
    code_revision: str,
    fine_tune: FineTune | None = None,
    category: Category | None = None,
    boxes: Sequence[Box] = (),
    template: Template | None = None,
    namespace: str = DEFAULT_NAMESPACE,
    inscribe: Inscribe = with_recipe,
    report: ReportProgress = no_report,
) -> tuple[Generation, list[GeneratedImage]]:
    """Answer ``prompt`` and record every picture with its lineage; ``template`` is what it was rendered from.

    Where the serving version turns out to be damaged, the one before it answers.

    Raises:
        InvalidPrompt, InvalidComposition, NothingServing, CategoryRetired: as ``resolve_prompt``.
        IncompatibleFineTune, CorruptArtifact, BaseModelRefused: the models cannot be loaded.
    """
    while True:
        resolved = resolve_prompt(
            records,
            prompt,
            bare_base=bare_base,
            fine_tune=fine_tune,
            category=category,
            boxes=boxes,
            namespace=namespace,
        )
        generation = new_generation(
            prompt, resolved, sampling, code_revision, namespace, job_id=None, template=template
        )
        started = time.monotonic()
        try:
            images = make_images(records, blobs, generator, generation, resolved, report, inscribe)
        except FineTuneQuarantined:
            if fine_tune:
                raise
        else:
            record_at_once(records, generation, resolved, images, time.monotonic() - started)
            return generation, images


def record_at_once(
    records: Records,
    generation: Generation,
    resolved: ResolvedPrompt,
    images: Sequence[GeneratedImage],
    seconds: float,
) -> None:
    """Record a request that was answered without the queue, and what it took."""
    usage = usage_at_once(generation, resolved.fine_tune, num_images=len(images), seconds=seconds)
    records.add(generation, *images, usage)


def plan_generation(
    records: Records,
    prompt: str,
    sampling: SamplingSettings,
    *,
    bare_base: Callable[[], BaseModelRef],
    code_revision: str,
    fine_tune: FineTune | None = None,
    category: Category | None = None,
    boxes: Sequence[Box] = (),
    template: Template | None = None,
    namespace: str = DEFAULT_NAMESPACE,
    priority: int = 0,
) -> Generation:
    """Queue a request: which version answers is settled now, whatever is promoted before its pictures are made.

    ``template`` is what the prompt was rendered from.

    Raises:
        InvalidPrompt, InvalidComposition, NothingServing, CategoryRetired: as ``resolve_prompt``.
    """
    with records.transaction():
        resolved = resolve_prompt(
            records,
            prompt,
            bare_base=bare_base,
            fine_tune=fine_tune,
            category=category,
            boxes=boxes,
            namespace=namespace,
        )
        generation = new_generation(
            prompt, resolved, sampling, code_revision, namespace, job_id=new_id("job"), template=template
        )
        return queue_generation(records, generation, JobKind.GENERATION, priority)


def run_generation(
    job: Job,
    records: Records,
    blobs: Blobs,
    generator: Generator,
    *,
    inscribe: Inscribe = with_recipe,
    report: ReportProgress,
    stop: Stop,
) -> list[GeneratedImage]:
    """Make the pictures of ``job``.

    Raises:
        Interrupted, StaleAttempt: see ``generation_jobs.carry_out``.
        IncompatibleFineTune, CorruptArtifact, BaseModelRefused: the models cannot be loaded.
    """

    def make(generation: Generation, checked: ReportProgress) -> list[GeneratedImage]:
        resolved = resolved_again(records, generation)
        return make_images(records, blobs, generator, generation, resolved, checked, inscribe)

    return carry_out(job, records, make, report=report, stop=stop)


def new_generation(
    prompt: str,
    resolved: ResolvedPrompt,
    sampling: SamplingSettings,
    code_revision: str,
    namespace: str,
    *,
    job_id: str | None,
    template: Template | None,
) -> Generation:
    """The record of a request that is answered by what it was ``resolved`` to."""
    return Generation(
        id=new_id("gen"),
        namespace=namespace,
        prompt=prompt,
        resolved_prompt=resolved.prompt,
        base_id=resolved.base.id,
        fine_tune_id=resolved.fine_tune.id if resolved.fine_tune else None,
        sampling=sampling,
        code_revision=code_revision,
        job_id=job_id,
        template_id=template.id if template else None,
        subjects=tuple(subject.placed for subject in resolved.subjects),
        created_at=now(),
    )


def make_images(
    records: Records,
    blobs: Blobs,
    generator: Generator,
    generation: Generation,
    resolved: ResolvedPrompt,
    report: ReportProgress,
    inscribe: Inscribe,
    *,
    numbers: range | None = None,
) -> list[GeneratedImage]:
    """The pictures of ``generation``, all or those with these ``numbers``: stored with their recipes, not recorded yet.

    Raises:
        IncompatibleFineTune, CorruptArtifact, BaseModelRefused: the models cannot be loaded.
    """
    wanted = range(generation.sampling.num_images) if numbers is None else numbers
    sampling = replace(generation.sampling, seed=generation.sampling.seed + wanted.start, num_images=len(wanted))
    loaded = load_fine_tune(records, blobs, resolved.fine_tune) if resolved.fine_tune else None
    pngs = generator.generate(
        resolved.base,
        loaded,
        [resolved.prompt],
        sampling,
        report=report,
        caller=generation.namespace,
        layout=blobs.get(sampling.layout) if sampling.layout else None,
        subjects=load_subjects(records, blobs, resolved),
    )
    return keep_images(blobs, generation, resolved, pngs, inscribe, numbers=wanted)


def keep_layout(blobs: Blobs, data: bytes, file_name: str) -> str:
    """Store a picture for others to begin from; returns the name that ``SamplingSettings.layout`` takes.

    Raises:
        ImageRefused: it cannot be read safely.
    """
    return blobs.put(read_layout(data, file_name))


def read_layout(data: bytes, file_name: str) -> bytes:
    """The PNG of a picture that others begin from; raises as ``keep_layout``."""
    return decode_reference(data, file_name).png


def keep_images(
    blobs: Blobs,
    generation: Generation,
    resolved: ResolvedPrompt,
    pngs: Sequence[bytes],
    inscribe: Inscribe,
    *,
    numbers: range,
) -> list[GeneratedImage]:
    """The pictures ``numbers`` of ``generation``, stored with their recipes, not recorded yet."""

    def made_of(number: int) -> tuple[int, Recipe]:
        seed = generation.sampling.seed + number
        return seed, _recipe(generation, resolved, seed)

    return keep_pictures(blobs, generation, pngs, inscribe, numbers=numbers, made_of=made_of)


def _recipe(generation: Generation, resolved: ResolvedPrompt, seed: int) -> dict[str, str | int | float]:
    """What it takes to make the picture again. Holds nothing that differs between two equal requests."""
    sampling = generation.sampling
    recipe: dict[str, str | int | float] = {
        "prompt": generation.prompt,
        "negative_prompt": sampling.negative_prompt,
        "seed": seed,
        "inference_steps": sampling.inference_steps,
        "guidance_scale": sampling.guidance_scale,
        "base": resolved.base.source,
        "base_digest": resolved.base.digest,
        "code_revision": generation.code_revision,
    }
    if sampling.layout:
        recipe |= {"layout": sampling.layout, "strength": sampling.strength}
    if sampling.scheduler:
        recipe["scheduler"] = sampling.scheduler
    if resolved.fine_tune:
        recipe["fine_tune_version"] = resolved.fine_tune.version
        recipe["fine_tune_digest"] = resolved.fine_tune.artifact(WEIGHTS).sha256
        recipe["resolved_prompt"] = generation.resolved_prompt
    for number, subject in enumerate(resolved.subjects, start=1):
        recipe |= {
            "resolved_prompt": generation.resolved_prompt,
            f"subject_{number}_fine_tune_version": subject.fine_tune.version,
            f"subject_{number}_fine_tune_digest": subject.fine_tune.artifact(WEIGHTS).sha256,
            f"subject_{number}_resolved_prompt": subject.placed.resolved_prompt,
            f"subject_{number}_box": str(subject.placed.box),
        }
    return recipe
