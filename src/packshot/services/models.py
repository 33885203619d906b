"""Use cases of models: register a base, find a fine-tune, promote, roll back, tell where something comes from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from packshot.domain.catalog import DEFAULT_NAMESPACE, Category, check_in_use
from packshot.domain.errors import GateNotPassed, InvalidInput, NotFound, NothingServing
from packshot.domain.evaluation import Evaluation, Outcome, Verdict
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.models import AliasAction, AliasEvent, BaseModelRef, FineTune, rollback_target, serving
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.training import TrainingRun
from packshot.ports import BaseModels, Records
from packshot.services.catalog import category_at, new_id, now

_VERSIONED = re.compile(r"(?P<path>[^@]+)(?:@v?(?P<version>\d+))?")
_DIGEST = re.compile(r"[0-9a-f]{4,64}")

B = TypeVar("B", bound=BaseModelRef)


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Every ancestor of an image or a fine-tune; None and empty where the line begins later.

    No ``base`` = another's image API made it; the generation says which model. ``subjects`` are the lines of those that a
    composed picture shows, in its generation's order.
    """

    image: GeneratedImage | None
    generation: Generation | None
    fine_tune: FineTune | None
    category: Category | None
    run: TrainingRun | None
    reference_set: ReferenceSet | None
    references: tuple[ReferenceImage, ...]
    base: BaseModelRef | None
    evaluations: tuple[Evaluation, ...]
    alias_events: tuple[AliasEvent, ...]
    subjects: "tuple[Lineage, ...]" = ()


def register_base(records: Records, described: BaseModelRef) -> BaseModelRef:
    """The record of a base model; a known (source, digest) is returned as it is, new weights become a new record."""
    with records.transaction():
        known = records.find(BaseModelRef, source=described.source, digest=described.digest)
        if known:
            return known[0]
        records.add(described)
    return described


@dataclass(frozen=True, kw_only=True)
class RegisteredBase(BaseModelRef):
    """A base with what its files say while they are at hand: ``prediction_type``, such as epsilon or v_prediction."""

    prediction_type: str | None


def with_prediction_type(files: BaseModels, base: BaseModelRef) -> RegisteredBase:
    """The record, with what its files say."""
    return RegisteredBase(**vars(base), prediction_type=files.prediction_type(base))


def base_among(bases: Sequence[B], reference: str) -> B:
    """The base that ``reference`` names: by its source (the newest), its id, or the beginning of its digest.

    Raises:
        NotFound: none is registered under that name.
        InvalidInput: several digests begin so.
    """
    sources = {reference, str(Path(reference).expanduser().resolve())}
    named = [base for base in bases if base.source in sources or base.id == reference][-1:]
    found = named or [base for base in bases if _DIGEST.fullmatch(reference) and base.digest.startswith(reference)]
    if not found:
        raise NotFound(
            f"no base {reference!r} is registered; packshot base list shows all, packshot base add REF registers one"
        )
    if len(found) > 1:
        fitting = ", ".join(f"{base.source} ({base.digest[:12]})" for base in found)
        raise InvalidInput(f"{reference!r} fits several bases: {fitting}; write more of the digest, or the source")
    return found[0]


def trained_on(records: Records, base: BaseModelRef) -> list[str]:
    """Every fine-tune of ``base`` as ``PATH@VERSION``."""
    fine_tunes = records.find(FineTune, base_id=base.id)
    return [f"{records.get(Category, each.category_id).path}@{each.version}" for each in fine_tunes]


def registered_base(records: Records, source: str) -> BaseModelRef:
    """The newest registered base with exactly this source, or the one with this id. Looks at no file, unlike ``base_among``.

    Raises:
        NotFound: none is registered.
    """
    found = records.find(BaseModelRef, source=source) or records.find(BaseModelRef, id=source)
    if not found:
        raise NotFound(f"no base {source!r} is registered; register it with: packshot base add {source}")
    return found[-1]


def fine_tune_at(records: Records, reference: str, namespace: str = DEFAULT_NAMESPACE) -> FineTune:
    """The fine-tune that ``PATH`` (its newest version) or ``PATH@VERSION`` names.

    Raises:
        InvalidInput: not of that form.
        NotFound: no such category or version.
    """
    path, _ = split_version(reference)
    category = category_at(records, path, namespace)
    return version_among(records.find(FineTune, category_id=category.id), reference)


def split_version(reference: str) -> tuple[str, int | None]:
    """The path and the version in ``PATH`` or ``PATH@VERSION``.

    Raises:
        InvalidInput: not of that form.
    """
    parts = _VERSIONED.fullmatch(reference)
    if not parts:
        raise InvalidInput(f"{reference!r} names no fine-tune; write PATH or PATH@VERSION, for example produce/apple@2")
    return parts["path"], int(parts["version"]) if parts["version"] else None


def version_among(fine_tunes: Sequence[FineTune], reference: str) -> FineTune:
    """The one of a category's ``fine_tunes`` that ``PATH`` (the newest) or ``PATH@VERSION`` names.

    Raises:
        InvalidInput: as ``split_version``.
        NotFound: there is no such version.
    """
    path, number = split_version(reference)
    versions = {each.version: each for each in fine_tunes}
    if not versions:
        raise NotFound(f"{path} has no fine-tune yet; make one with: packshot train {path}")
    number = max(versions) if number is None else number
    if number not in versions:
        known = ", ".join(str(version) for version in sorted(versions))
        raise NotFound(f"{path} has no version {number}; its versions are {known}")
    return versions[number]


def next_version(records: Records, category_id: str) -> int:
    """The number of a category's next fine-tune; only inside a transaction is it still free afterwards."""
    versions = [each.version for each in records.find(FineTune, category_id=category_id)]
    return max(versions, default=0) + 1


def training_run_of(records: Records, fine_tune: FineTune) -> TrainingRun | None:
    """The run that ``fine_tune``, or the one that it was compressed from, was trained by; None for an import."""
    while fine_tune.compressed_from_id:
        fine_tune = records.get(FineTune, fine_tune.compressed_from_id)
    return records.get(TrainingRun, fine_tune.training_run_id) if fine_tune.training_run_id else None


def check_belongs(fine_tune: FineTune, category: Category) -> FineTune:
    """Return ``fine_tune`` if it is a version of ``category``.

    Raises:
        NotFound: it is one of another category.
    """
    if fine_tune.category_id != category.id:
        raise NotFound(f"{category.path} has no fine-tune with the id {fine_tune.id!r}")
    return fine_tune


def promote(records: Records, fine_tune: FineTune, *, reason: str = "") -> AliasEvent:
    """Put ``fine_tune`` into service for its category.

    One that the gate did not pass needs a ``reason``, which the event keeps.

    Raises:
        GateNotPassed: its newest verdict is not "passed", or it was never evaluated, and no reason is given.
        CategoryRetired: its category is out of use.
    """
    with records.transaction():
        category = check_in_use(records.get(Category, fine_tune.category_id))
        evaluations = records.find(Evaluation, fine_tune_id=fine_tune.id)
        verdict = evaluations[-1].verdict if evaluations else None
        if not reason.strip() and (verdict is None or verdict.outcome is not Outcome.PASSED):
            raise GateNotPassed(
                f"{_objection(f'{category.path}@{fine_tune.version}', verdict)}; "
                "to promote it all the same, say why with --reason TEXT"
            )
        return append_event(records, fine_tune.category_id, fine_tune.id, AliasAction.PROMOTE, reason)


def _objection(name: str, verdict: Verdict | None) -> str:
    """What speaks against promoting the fine-tune called ``name`` without a word."""
    if verdict is None:
        return f"{name} was never evaluated; do so with: packshot evaluate {name}"
    reasons = "; ".join(verdict.reasons)
    if verdict.outcome is Outcome.REJECTED:
        return f"the gate rejected {name}: {reasons}"
    return f"the gate leaves {name} to a person: {reasons}; look at its sheet"


def roll_back(records: Records, category: Category, *, reason: str = "") -> AliasEvent:
    """Put the version back into service that served ``category`` before the current one.

    Raises:
        NothingServing: there is none.
        CategoryRetired: the category is out of use.
    """
    check_in_use(category)
    with records.transaction():
        events = records.find(AliasEvent, category_id=category.id)
        target = rollback_target(events, category.path)
        return append_event(records, category.id, target, AliasAction.ROLLBACK, reason)


def append_event(records: Records, category_id: str, fine_tune_id: str, action: AliasAction, reason: str) -> AliasEvent:
    """Record the next alias event of a category; only inside a transaction is its number still free."""
    event = AliasEvent(
        id=new_id("ale"),
        category_id=category_id,
        number=len(records.find(AliasEvent, category_id=category_id)) + 1,
        fine_tune_id=fine_tune_id,
        action=action,
        reason=reason,
        created_at=now(),
    )
    records.add(event)
    return event


def serving_fine_tune(records: Records, category: Category) -> FineTune:
    """The fine-tune that serves ``category``.

    Raises:
        NothingServing: none was promoted, or all that were are quarantined.
    """
    events = records.find(AliasEvent, category_id=category.id)
    served = serving(events)
    if served is None and events:
        raise NothingServing(
            f"the weights of every version of {category.path} that was promoted are damaged: {events[-1].reason}; "
            f"then: packshot promote {category.path}@VERSION"
        )
    if served is None:
        raise NothingServing(
            f"{category.path} serves no fine-tune yet; train one with: packshot train {category.path}, "
            f"then: packshot promote {category.path}@VERSION"
        )
    return records.get(FineTune, served)


def lineage_of(records: Records, reference: str, namespace: str = DEFAULT_NAMESPACE) -> Lineage:
    """Where an image (by id) or a fine-tune (``PATH[@VERSION]``) comes from.

    Raises:
        NotFound: there is no such thing.
    """
    if reference.startswith("img_"):
        image = records.get(GeneratedImage, reference)
        generation = records.get(Generation, image.generation_id)
        fine_tune = records.get(FineTune, generation.fine_tune_id) if generation.fine_tune_id else None
        base = records.get(BaseModelRef, generation.base_id) if generation.base_id else None
        subjects = tuple(
            lineage_of_fine_tune(records, records.get(FineTune, subject.fine_tune_id))
            for subject in generation.subjects
        )
        return replace(_lineage(records, image, generation, fine_tune, base), subjects=subjects)
    return lineage_of_fine_tune(records, fine_tune_at(records, reference, namespace))


def lineage_of_fine_tune(records: Records, fine_tune: FineTune) -> Lineage:
    """Where ``fine_tune`` comes from."""
    return _lineage(records, None, None, fine_tune, records.get(BaseModelRef, fine_tune.base_id))


def _lineage(
    records: Records,
    image: GeneratedImage | None,
    generation: Generation | None,
    fine_tune: FineTune | None,
    base: BaseModelRef | None,
) -> Lineage:
    run = training_run_of(records, fine_tune) if fine_tune else None
    frozen = records.get(ReferenceSet, run.reference_set_id) if run else None
    return Lineage(
        image=image,
        generation=generation,
        fine_tune=fine_tune,
        category=records.get(Category, fine_tune.category_id) if fine_tune else None,
        run=run,
        reference_set=frozen,
        references=tuple(records.get(ReferenceImage, id_) for id_ in frozen.image_ids) if frozen else (),
        base=base,
        evaluations=tuple(records.find(Evaluation, fine_tune_id=fine_tune.id)) if fine_tune else (),
        alias_events=tuple(records.find(AliasEvent, fine_tune_id=fine_tune.id)) if fine_tune else (),
    )
