"""Where records are kept, and what is asked of them."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from packshot.domain.access import ApiKey, AuditEntry, Quota, Reply
from packshot.domain.batches import Batch, BatchItem, ItemFailure
from packshot.domain.catalog import Category
from packshot.domain.engine_work import EngineWork
from packshot.domain.evaluation import Evaluation, EvaluationRun
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job
from packshot.domain.models import AliasEvent, BaseModelRef, FineTune
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.templates import Template
from packshot.domain.training import TrainingRun
from packshot.domain.usage import Usage
from packshot.domain.webhooks import Delivery, Webhook

Record = (
    Category
    | ReferenceImage
    | ReferenceSet
    | BaseModelRef
    | TrainingRun
    | FineTune
    | EvaluationRun
    | Evaluation
    | AliasEvent
    | Template
    | Generation
    | GeneratedImage
    | Batch
    | BatchItem
    | ItemFailure
    | Job
    | ApiKey
    | Reply
    | Usage
    | AuditEntry
    | Quota
    | Webhook
    | Delivery
    | EngineWork
)
R = TypeVar("R", bound=Record)
Fence = tuple[str, int]  # (job id, attempt)
Wanted = str | int | None | Sequence[str]  # the value of a field, or some of which it has one


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many records have the same ``key`` values, and the sums of some of their numbers."""

    key: tuple[str | None, ...]
    count: int
    sums: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Search:
    """Those records of which one of ``fields`` contains ``text``, in whatever case."""

    text: str
    fields: tuple[str, ...]


class Records(Protocol):
    """The database. Outside a transaction each call is one of its own."""

    def transaction(self, fence: Fence | None = None) -> AbstractContextManager[None]:
        """All or nothing. With a fence, raises StaleAttempt (and writes nothing) once another attempt took over."""
        ...

    def add(self, *records: Record) -> None:
        """Append records. Raises Conflict where an id or a unique key exists, NotFound where a parent does not."""
        ...

    def replace(self, record: Record) -> None:
        """Write a Category, ReferenceImage, Job, ApiKey, Webhook, Delivery or EngineWork anew; others never change.

        Raises NotFound.
        """
        ...

    def remove(self, record: ReferenceImage | ItemFailure) -> None:
        """Forget the failure of an item, or a reference image; raises Conflict where a frozen set holds that one."""
        ...

    def get(self, kind: type[R], id_: str) -> R:
        """The record with this id. Raises NotFound."""
        ...

    def find(
        self,
        kind: type[R],
        /,
        *,
        order: Sequence[str] = (),
        after: str | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        since: datetime | None = None,
        search: Search | None = None,
        **equal: Wanted,
    ) -> list[R]:
        """The records whose fields equal the given values, or one of the values where those are a list.

        They come by the fields ``order``, then in order of creation, or the other way round ``newest_first``; ``after`` is the id of the one to go on behind, and
        raises NotFound where it is none of them. ``since`` leaves out what was created before. The ``namespace`` of a
        record without one is that of its category.
        """
        ...

    def tally(
        self,
        kind: type[R],
        by: Sequence[str],
        sums: Sequence[str] = (),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        **equal: Wanted,
    ) -> list[Tally]:
        """Records counted and summed per value of the fields ``by``, sorted by them, None first.

        ``since`` leaves out what was created before, ``until`` what was created then or after.
        """
        ...

    def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        *,
        job_id: str | None = None,
        given_up: Callable[[Job], None] = lambda _: None,
    ) -> Job | None:
        """Take a claimable job (or just ``job_id``) for ``worker``; exactly one claimer wins.

        Deserted jobs come first, the oldest before the others. Then namespaces take turns (``domain.jobs.whose_turn``),
        and in its turn a namespace has the job of the highest priority, the oldest of these. Each job that failed since too many workers died on it is told to
        ``given_up``, in the same transaction.
        """
        ...
