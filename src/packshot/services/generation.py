"""Use case of generation: a caller's prompt in, recorded pictures with their recipe out."""

from collections.abc import Callable
from dataclasses import dataclass

from packshot.domain.catalog import DEFAULT_NAMESPACE, Category
from packshot.domain.errors import InvalidPrompt
from packshot.domain.generation import (
    GeneratedImage,
    Generation,
    SamplingSettings,
    find_subject,
    rewrite_prompt,
)
from packshot.domain.models import BaseModelRef, FineTune
from packshot.imaging.recipe import with_recipe
from packshot.ports import Blobs, Generator, LoadedFineTune, Records
from packshot.services.catalog import new_id, now
from packshot.services.jobs import ReportProgress, no_report
from packshot.services.models import serving_fine_tune
from packshot.services.training import WEIGHTS


@dataclass(frozen=True, kw_only=True)
class ResolvedPrompt:
    """A prompt as a model reads it, with the models that answer it."""

    prompt: str
    base: BaseModelRef
    fine_tune: FineTune | None


def resolve_prompt(
    records: Records,
    prompt: str,
    *,
    bare_base: Callable[[], BaseModelRef],
    fine_tune: FineTune | None = None,
    namespace: str = DEFAULT_NAMESPACE,
) -> ResolvedPrompt:
    """Find the category that ``prompt`` names and rewrite the prompt to what its fine-tune was trained with.

    The serving version answers, or ``fine_tune`` where it is given. A prompt without an identifier goes to
    ``bare_base``, which is asked for only then.

    Raises:
        InvalidPrompt: see ``domain.generation.find_subject``; or it does not name the category of ``fine_tune``.
        NothingServing: the category has no promoted fine-tune.
    """
    subject = find_subject(prompt, records.find(Category, namespace=namespace))
    if fine_tune and (subject is None or subject.category.id != fine_tune.category_id):
        wanted = records.get(Category, fine_tune.category_id)
        raise InvalidPrompt(
            f"version {fine_tune.version} of {wanted.path} cannot answer a prompt that does not name it; "
            f"write {wanted.identifier} in the prompt"
        )
    if subject is None:
        return ResolvedPrompt(prompt=prompt, base=bare_base(), fine_tune=None)
    chosen = fine_tune or serving_fine_tune(records, subject.category)
    return ResolvedPrompt(
        prompt=rewrite_prompt(prompt, subject, chosen.trained_phrase),
        base=records.get(BaseModelRef, chosen.base_id),
        fine_tune=chosen,
    )


def load_fine_tune(blobs: Blobs, fine_tune: FineTune) -> LoadedFineTune:
    """``fine_tune`` with its weights, whose digest is checked on the way.

    Raises:
        CorruptArtifact: the stored bytes are not the ones that were published.
    """
    return LoadedFineTune(record=fine_tune, weights=blobs.get(fine_tune.artifact(WEIGHTS).sha256))


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
    namespace: str = DEFAULT_NAMESPACE,
    report: ReportProgress = no_report,
) -> tuple[Generation, list[GeneratedImage]]:
    """Answer ``prompt`` and record every picture with its lineage.

    Raises:
        InvalidPrompt, NothingServing: as ``resolve_prompt``.
        IncompatibleFineTune, CorruptArtifact, BaseModelRefused: the models cannot be loaded.
    """
    resolved = resolve_prompt(records, prompt, bare_base=bare_base, fine_tune=fine_tune, namespace=namespace)
    loaded = load_fine_tune(blobs, resolved.fine_tune) if resolved.fine_tune else None
    pngs = generator.generate(resolved.base, loaded, [resolved.prompt], sampling, report=report)
    generation = Generation(
        id=new_id("gen"),
        prompt=prompt,
        resolved_prompt=resolved.prompt,
        base_id=resolved.base.id,
        fine_tune_id=resolved.fine_tune.id if resolved.fine_tune else None,
        sampling=sampling,
        code_revision=code_revision,
        created_at=now(),
    )
    images: list[GeneratedImage] = []
    for number, png in enumerate(pngs):
        recipe = _recipe(generation, resolved, sampling.seed + number)
        images.append(
            GeneratedImage(
                id=new_id("img"),
                generation_id=generation.id,
                number=number,
                seed=sampling.seed + number,
                sha256=blobs.put(with_recipe(png, recipe)),
            )
        )
    records.add(generation, *images)
    return generation, images


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
    if resolved.fine_tune:
        recipe["fine_tune_version"] = resolved.fine_tune.version
        recipe["fine_tune_digest"] = resolved.fine_tune.artifact(WEIGHTS).sha256
        recipe["resolved_prompt"] = generation.resolved_prompt
    return recipe
