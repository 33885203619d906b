"""Base models, fine-tunes and the alias events that put them into service. Does not know how weights are loaded."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby

from packshot.domain.errors import NothingServing
from packshot.domain.training_choices import Method

EMBEDDED_BASE = "embedded"


@dataclass(frozen=True, kw_only=True)
class BaseModelRef:
    """A base model: what the user wrote, and the digest of the very weights that this stands for.

    ``source`` is ``embedded``, a folder or a hub id; ``digest`` is the sha256 over the sorted list of (file name,
    file sha256) of its configuration and weight files; ``resolution`` is its native edge in pixels.
    """

    id: str
    source: str
    revision: str
    digest: str
    family: str
    resolution: int
    registered_at: datetime


@dataclass(frozen=True, kw_only=True)
class ForeignModel:
    """A model behind an image API. ``settings`` are those that it is told; ``price_per_image`` held when it was asked."""

    provider: str
    name: str
    settings: tuple[str, ...]
    price_per_image: float

    @property
    def reference(self) -> str:
        """What a caller writes: ``openai/gpt-image-1``."""
        return f"{self.provider}/{self.name}"


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """One stored file of a fine-tune or an evaluation: its name for people, its blob digest for machines."""

    name: str
    sha256: str
    num_bytes: int


class ExportFormat(StrEnum):
    """The layouts that a fine-tune is exported in and imported from; ``safetensors`` is the file as it is stored."""

    DIFFUSERS = "diffusers"
    KOHYA = "kohya"
    SAFETENSORS = "safetensors"


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A file that was imported. It is not kept; what its headers said is in the fine-tune's ``source.json``."""

    name: str
    sha256: str
    num_bytes: int


@dataclass(frozen=True, kw_only=True)
class Import:
    """Files of another program, or an export of ours, that became a fine-tune."""

    layout: ExportFormat
    files: tuple[SourceFile, ...]


@dataclass(frozen=True, kw_only=True)
class FineTune:
    """One version of a category. Never changes; ``trained_phrase`` is what its base's text encoder reads.

    Exactly one of ``training_run_id``, ``imported`` and ``compressed_from_id`` (another fine-tune) says where it comes
    from. ``token`` is empty where the phrase is made of the base's own words. ``code_revision`` finished the work: where
    it is not the one that a training was planned with, the weights may differ from those of an uninterrupted run.
    """

    id: str
    category_id: str
    version: int
    training_run_id: str | None = None
    imported: Import | None = None
    compressed_from_id: str | None = None
    base_id: str
    method: Method
    token: str
    trained_phrase: str
    artifacts: tuple[Artifact, ...]
    code_revision: str
    created_at: datetime

    def __post_init__(self) -> None:
        origins = (self.training_run_id, self.imported, self.compressed_from_id)
        assert sum(origin is not None for origin in origins) == 1, f"{self.id} must have one origin, and has {origins}"

    def artifact(self, name: str) -> Artifact:
        """The artifact called ``name``; a fine-tune always has ``weights.safetensors``."""
        return next(artifact for artifact in self.artifacts if artifact.name == name)


class AliasAction(StrEnum):
    """What moved an alias."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, kw_only=True)
class AliasEvent:
    """The ``serving`` alias of a category moved to a fine-tune, or away from a damaged one. Events are only appended.

    ``fine_tune_id`` serves from then on; where the action is ``quarantine`` it does not serve, until it is promoted again.
    ``number`` counts the events of a category from 1; the highest one decides.
    """

    id: str
    category_id: str
    number: int
    fine_tune_id: str
    action: AliasAction
    reason: str
    created_at: datetime


def serving(events: Iterable[AliasEvent]) -> str | None:
    """The id of the fine-tune that serves a category with these alias events, or None."""
    stack = _stack(events)
    return stack[-1] if stack else None


def is_quarantined(fine_tune_id: str, events: Iterable[AliasEvent]) -> bool:
    """Whether the last of these alias events about a fine-tune says that it is damaged."""
    about = [event for event in events if event.fine_tune_id == fine_tune_id]
    newest = max(about, key=lambda event: event.number, default=None)
    return newest is not None and newest.action is AliasAction.QUARANTINE


def rollback_target(events: Sequence[AliasEvent], category_path: str) -> str:
    """The id of the fine-tune that served before the current one: promotions and rollbacks act as a stack.

    Promoting what serves already changes nothing, so it does not count.

    Raises:
        NothingServing: nothing was promoted, or nothing before the current one.
    """
    stack = _stack(events)
    if len(stack) < 2:
        state = "serves its first version" if stack else "serves nothing yet"
        raise NothingServing(f"{category_path} {state}; there is no earlier one to roll back to")
    return stack[-2]


def _stack(events: Iterable[AliasEvent]) -> list[str]:
    """The ids of what serves, last, and of what a rollback would bring back, without what is quarantined."""
    stack: list[str] = []
    for event in sorted(events, key=lambda event: event.number):
        if event.action is AliasAction.ROLLBACK:
            stack.pop()
        elif event.action is AliasAction.QUARANTINE:
            sound = [each for each in stack if each != event.fine_tune_id]
            stack = [each for each, _ in groupby(sound)]
        elif stack[-1:] != [event.fine_tune_id]:
            stack.append(event.fine_tune_id)
    return stack
