"""Use case of composed pictures: a prompt that names several categories, to a version, a prompt and a box for each."""

from collections.abc import Sequence
from dataclasses import dataclass

from packshot.domain.composition import Box, PlacedSubject, layout
from packshot.domain.errors import InvalidComposition, InvalidPrompt
from packshot.domain.generation import Subject, prompt_about_one, rewrite_prompt
from packshot.domain.models import BaseModelRef, FineTune
from packshot.domain.training_choices import Method
from packshot.ports import Records
from packshot.services.models import serving_fine_tune


@dataclass(frozen=True, kw_only=True)
class ResolvedSubject:
    """A subject as it is recorded, with the version that paints it."""

    placed: PlacedSubject
    fine_tune: FineTune


@dataclass(frozen=True, kw_only=True)
class Composition:
    """What a prompt of several subjects is resolved to; the bare base reads ``prompt`` where no subject stands."""

    prompt: str
    base: BaseModelRef
    subjects: tuple[ResolvedSubject, ...]


def compose(
    records: Records, prompt: str, subjects: Sequence[Subject], boxes: Sequence[Box], fine_tune: FineTune | None = None
) -> Composition:
    """Place each of ``subjects`` with its serving version, or ``fine_tune`` for the one that it is of.

    Raises:
        InvalidComposition: as ``domain.composition.layout``; or they are not of one base, or one cannot stand beside others.
        InvalidPrompt: ``fine_tune`` is of none of them.
        NothingServing: a category has no promoted fine-tune.
    """
    placed = layout(len(subjects), boxes)
    if fine_tune and fine_tune.category_id not in [subject.category.id for subject in subjects]:
        raise InvalidPrompt(f"version {fine_tune.version} is of none of the subjects that the prompt names")
    versions = [
        fine_tune
        if fine_tune and fine_tune.category_id == subject.category.id
        else serving_fine_tune(records, subject.category)
        for subject in subjects
    ]
    for subject, version in zip(subjects, versions, strict=True):
        if version.method is Method.FULL:
            raise InvalidComposition(
                f"version {version.version} of {subject.category.path} is a whole denoiser and cannot stand beside others; "
                f"make an adapter of it: packshot compress {subject.category.path}@{version.version}"
            )
    bases = {version.base_id: records.get(BaseModelRef, version.base_id) for version in versions}
    if len(bases) > 1:
        of = ", ".join(
            f"{subject.category.identifier} on {bases[version.base_id].source}"
            for subject, version in zip(subjects, versions, strict=True)
        )
        raise InvalidComposition(f"one picture has one base, and these were trained on several: {of}")
    whole = prompt
    for subject in subjects:
        whole = rewrite_prompt(whole, subject, subject.category.class_noun)
    return Composition(
        prompt=whole,
        base=bases[versions[0].base_id],
        subjects=tuple(
            ResolvedSubject(
                placed=PlacedSubject(
                    fine_tune_id=version.id,
                    resolved_prompt=prompt_about_one(prompt, version.trained_phrase),
                    box=box,
                ),
                fine_tune=version,
            )
            for version, box in zip(versions, placed, strict=True)
        ),
    )
