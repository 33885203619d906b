"""Which models answer a prompt: the identifiers that it names, and what their fine-tunes were trained with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from packshot.domain.catalog import DEFAULT_NAMESPACE, Category, check_in_use
from packshot.domain.composition import Box
from packshot.domain.errors import InvalidPrompt
from packshot.domain.generation import Generation, Subject, find_subjects, rewrite_prompt
from packshot.domain.models import BaseModelRef, FineTune
from packshot.domain.training_prompts import instance_prompt
from packshot.ports import Blobs, LoadedSubject, Records
from packshot.services.artifacts import load_fine_tune
from packshot.services.catalog import categories_meant
from packshot.services.composition import ResolvedSubject, compose
from packshot.services.models import serving_fine_tune


@dataclass(frozen=True, kw_only=True)
class ResolvedPrompt:
    """A prompt as a model reads it, with the models that answer it; several where it has ``subjects``."""

    prompt: str
    base: BaseModelRef
    fine_tune: FineTune | None
    subjects: tuple[ResolvedSubject, ...] = ()


def resolve_prompt(
    records: Records,
    prompt: str,
    *,
    bare_base: Callable[[], BaseModelRef],
    fine_tune: FineTune | None = None,
    category: Category | None = None,
    boxes: Sequence[Box] = (),
    namespace: str = DEFAULT_NAMESPACE,
) -> ResolvedPrompt:
    """Find the category that ``prompt`` names and rewrite the prompt to what its fine-tune was trained with.

    The serving version answers, or ``fine_tune`` where it is given. A prompt without an identifier is about
    ``category`` where that is given, and goes to ``bare_base``, which is asked for only then, where it is not.

    Several categories are composed, each in one of ``boxes``; where none are given, in columns from left to right.

    Raises:
        InvalidPrompt: see ``domain.generation.find_subjects``; or it names another category than ``category``, or not
            that of ``fine_tune``.
        InvalidComposition: see ``services.composition.compose``.
        NothingServing: the category has no promoted fine-tune.
        CategoryRetired: ``category`` is out of use.
    """
    if category:
        check_in_use(category)
    subjects = find_subjects(prompt, categories_meant(records, prompt, namespace))
    if boxes or len(subjects) > 1:
        if category and category.id not in [subject.category.id for subject in subjects]:
            raise InvalidPrompt(
                f"{category.identifier} was asked for, and is none of the prompt's subjects; write it there"
            )
        composed = compose(records, prompt, subjects, boxes, fine_tune)
        return ResolvedPrompt(prompt=composed.prompt, base=composed.base, fine_tune=None, subjects=composed.subjects)
    subject = subjects[0] if subjects else None
    if category:
        return _resolve_for(records, category, prompt, subject, fine_tune)
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


def _resolve_for(
    records: Records, category: Category, prompt: str, subject: Subject | None, fine_tune: FineTune | None
) -> ResolvedPrompt:
    if subject and subject.category.id != category.id:
        raise InvalidPrompt(
            f"the prompt names {subject.category.identifier}, and {category.identifier} was asked for; write one of them"
        )
    chosen = fine_tune or serving_fine_tune(records, category)
    assert chosen.category_id == category.id
    phrase = chosen.trained_phrase
    rewritten = (
        rewrite_prompt(prompt, subject, phrase) if subject else instance_prompt(prompt, category.class_noun, phrase)
    )
    return ResolvedPrompt(prompt=rewritten, base=records.get(BaseModelRef, chosen.base_id), fine_tune=chosen)


def resolved_again(records: Records, generation: Generation) -> ResolvedPrompt:
    """What ``generation`` was resolved to when it was queued."""
    assert generation.base_id, "another's image API answers it"
    return ResolvedPrompt(
        prompt=generation.resolved_prompt,
        base=records.get(BaseModelRef, generation.base_id),
        fine_tune=records.get(FineTune, generation.fine_tune_id) if generation.fine_tune_id else None,
        subjects=tuple(
            ResolvedSubject(placed=placed, fine_tune=records.get(FineTune, placed.fine_tune_id))
            for placed in generation.subjects
        ),
    )


def load_subjects(records: Records, blobs: Blobs, resolved: ResolvedPrompt) -> tuple[LoadedSubject, ...]:
    """The subjects of a composed picture with their weights, as ``load_fine_tune`` gives them."""
    return tuple(
        LoadedSubject(
            fine_tune=load_fine_tune(records, blobs, each.fine_tune),
            prompt=each.placed.resolved_prompt,
            box=each.placed.box,
        )
        for each in resolved.subjects
    )
