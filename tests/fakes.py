"""The ports in memory, for unit tests of services. They behave as ``tests/contracts`` says."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, cast

from packshot.domain import jobs
from packshot.domain.access import ApiKey, AuditEntry, Quota, Reply
from packshot.domain.batches import Batch, BatchItem, ItemFailure
from packshot.domain.catalog import Category, fold_look_alikes
from packshot.domain.engine_work import EngineWork
from packshot.domain.errors import (
    AddressRefused,
    CategoryExists,
    Conflict,
    CorruptArtifact,
    IdentifierTaken,
    InvalidInput,
    NotFound,
)
from packshot.domain.evaluation import Evaluation, EvaluationRun
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.domain.models import AliasEvent, BaseModelRef, FineTune
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.templates import Template
from packshot.domain.training import TrainingRun
from packshot.domain.urls import MAX_URL_LENGTH, check_url
from packshot.domain.usage import Usage
from packshot.domain.webhooks import Delivery, Webhook
from packshot.ports import Fence, R, Record, Search, Tally, Wanted

# Parents stand before their children, as in the database.
PARENTS: Mapping[type[Record], tuple[tuple[str, type[Record]], ...]] = {
    Category: (),
    BaseModelRef: (),
    Job: (),
    ReferenceImage: (("category_id", Category),),
    ReferenceSet: (
        ("category_id", Category),
        ("image_ids", ReferenceImage),
        ("held_out_ids", ReferenceImage),
    ),
    TrainingRun: (
        ("category_id", Category),
        ("reference_set_id", ReferenceSet),
        ("base_id", BaseModelRef),
        ("job_id", Job),
    ),
    FineTune: (
        ("category_id", Category),
        ("training_run_id", TrainingRun),
        ("base_id", BaseModelRef),
        ("compressed_from_id", FineTune),
    ),
    AliasEvent: (("category_id", Category), ("fine_tune_id", FineTune)),
    EvaluationRun: (("fine_tune_id", FineTune), ("job_id", Job)),
    Evaluation: (("fine_tune_id", FineTune),),
    Template: (),
    Generation: (
        ("base_id", BaseModelRef),
        ("fine_tune_id", FineTune),
        ("job_id", Job),
        ("template_id", Template),
    ),
    GeneratedImage: (("generation_id", Generation),),
    Batch: (("job_id", Job),),
    BatchItem: (
        ("batch_id", Batch),
        ("category_id", Category),
        ("template_id", Template),
        ("generation_id", Generation),
    ),
    ItemFailure: (("batch_id", Batch), ("item_id", BatchItem)),
    ApiKey: (),
    Reply: (),
    Usage: (("category_id", Category), ("job_id", Job)),
    AuditEntry: (),
    Quota: (),
    Webhook: (),
    Delivery: (("webhook_id", Webhook), ("job_id", Job)),
    EngineWork: (),
}
_ORDER = {kind: place for place, kind in enumerate(PARENTS)}


class InMemoryRecords:
    """Records in dictionaries, in order of creation. A transaction holds a lock, as SQLite's writers do."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._kinds: dict[type[Record], dict[str, Record]] = {kind: {} for kind in PARENTS}
        self._turns: dict[str, int] = {}

    @contextmanager
    def transaction(self, fence: Fence | None = None) -> Iterator[None]:
        with self._lock:
            before = {kind: dict(records) for kind, records in self._kinds.items()}
            try:
                if fence is not None:
                    jobs.check_attempt(self.get(Job, fence[0]), fence[1])
                yield
            except BaseException:
                self._kinds = before
                raise

    def add(self, *records: Record) -> None:
        with self.transaction():
            for record in sorted(records, key=lambda record: _ORDER[type(record)]):
                if record.id in self._kinds[type(record)]:
                    raise Conflict(f"there is a {type(record).__name__} with id {record.id!r} already")
                self._check(record)
                self._kinds[type(record)][record.id] = record

    def replace(self, record: Record) -> None:
        if not isinstance(record, Category | ReferenceImage | Job | ApiKey | Webhook | Delivery | EngineWork):
            raise Conflict(f"a {type(record).__name__} never changes")
        with self.transaction():
            self.get(type(record), record.id)
            self._check(record)
            self._kinds[type(record)][record.id] = record

    def remove(self, record: ReferenceImage | ItemFailure) -> None:
        with self.transaction():
            self.get(type(record), record.id)
            if isinstance(record, ReferenceImage) and any(
                record.id in (*frozen.image_ids, *frozen.held_out_ids) for frozen in self.find(ReferenceSet)
            ):
                raise Conflict(f"{record.file_name} is part of a frozen reference set")
            del self._kinds[type(record)][record.id]

    def get(self, kind: type[R], id_: str) -> R:
        with self._lock:
            if id_ not in self._kinds[kind]:
                raise NotFound(f"there is no {kind.__name__} with the id {id_!r}")
            return cast(R, self._kinds[kind][id_])

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
        with self._lock:
            records = cast(list[Any], list(self._kinds[kind].values()))
            found = [each for each in records if all(self._is(each, *pair) for pair in equal.items())]
        if since is not None:
            found = [each for each in found if each.created_at >= since]
        if search is not None:
            wanted = search.text.lower()
            found = [each for each in found if any(wanted in getattr(each, name).lower() for name in search.fields)]
        found.sort(key=lambda each: [getattr(each, name) for name in order])
        if newest_first:
            found.reverse()
        ids = [each.id for each in found]
        if after is not None and after not in ids:
            raise NotFound(f"there is no {after!r} in this list")
        start = 0 if after is None else ids.index(after) + 1
        return found[start:][:limit]

    def _is(self, record: Any, name: str, wanted: Wanted) -> bool:
        while name == "namespace" and not hasattr(record, name):
            owned = hasattr(record, "category_id")
            record = self.get(Category, record.category_id) if owned else self.get(FineTune, record.fine_tune_id)
        value = getattr(record, name)
        return value == wanted if wanted is None or isinstance(wanted, str | int) else value in wanted

    def claim(
        self,
        worker: str,
        now: datetime,
        lease: timedelta,
        *,
        job_id: str | None = None,
        given_up: Callable[[Job], None] = lambda _: None,
    ) -> Job | None:
        with self.transaction():
            while (job := self._next(now, job_id)) is not None:
                claimed = jobs.claim(job, worker, now, lease)
                self.replace(claimed)
                if claimed.status is JobStatus.RUNNING:
                    return claimed
                given_up(claimed)
        return None

    def _next(self, now: datetime, job_id: str | None) -> Job | None:
        open_ = [job for job in self.find(Job) if jobs.claimable(job, now)]
        if job_id is not None:
            return self.get(Job, job_id) if self.get(Job, job_id) in open_ else None
        deserted = [job for job in open_ if job.status is JobStatus.RUNNING]
        if deserted or not open_:
            return next(iter(deserted), None)
        namespace = jobs.whose_turn({job.namespace for job in open_}, self._turns)
        self._turns[namespace] = max(self._turns.values(), default=0) + 1
        return max((job for job in open_ if job.namespace == namespace), key=lambda job: job.priority)

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
        groups: dict[tuple[str | None, ...], list[Any]] = {}
        for record in self.find(kind, **equal):
            at = getattr(record, "created_at", None)
            if (since is None or at >= since) and (until is None or at < until):
                key = tuple(None if value is None else str(value) for value in (getattr(record, name) for name in by))
                groups.setdefault(key, []).append(record)
        return [
            Tally(
                key=key,
                count=len(found),
                sums=tuple(float(sum(getattr(each, name) for each in found)) for name in sums),
            )
            for key, found in sorted(groups.items(), key=lambda group: [(part is not None, part) for part in group[0]])
        ]

    def _check(self, record: Record) -> None:
        others = [other for other in self._kinds[type(record)].values() if other.id != record.id]
        for key, error in _UNIQUE.get(type(record), ()):
            if any(key(other) == key(record) for other in others):
                raise error(f"there is another one like {record!r} already")
        for name, kind in PARENTS[type(record)]:
            value = getattr(record, name)
            for id_ in value if isinstance(value, tuple) else (value,):
                if id_ is not None and id_ not in self._kinds[kind]:
                    raise NotFound(f"{record!r} points at a {kind.__name__} that does not exist: {id_!r}")


_UNIQUE: Mapping[type[Record], tuple[tuple[Callable[[Any], object], type[Conflict]], ...]] = {
    Category: (
        (lambda category: (category.namespace, category.path), CategoryExists),
        (lambda category: (category.namespace, fold_look_alikes(category.identifier)), IdentifierTaken),
    ),
    ReferenceSet: ((lambda frozen: (frozen.category_id, frozen.version), Conflict),),
    BaseModelRef: ((lambda base: (base.digest, base.source), Conflict),),
    FineTune: ((lambda fine_tune: (fine_tune.category_id, fine_tune.version), Conflict),),
    AliasEvent: ((lambda event: (event.category_id, event.number), Conflict),),
    Template: ((lambda template: (template.namespace, template.name, template.version), Conflict),),
    GeneratedImage: ((lambda image: (image.generation_id, image.number), Conflict),),
    BatchItem: ((lambda item: (item.batch_id, item.number), Conflict),),
    ItemFailure: ((lambda failure: failure.item_id, Conflict),),
    ApiKey: ((lambda key: key.sha256, Conflict),),
    Reply: ((lambda reply: (reply.namespace, reply.key), Conflict),),
}


class InMemoryBlobs:
    """Blobs in a dictionary; ``damage`` flips one bit."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def put(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self._blobs[sha256] = bytes(data)
        return sha256

    def get(self, sha256: str) -> bytes:
        if sha256 not in self._blobs:
            raise NotFound(f"there is no blob {sha256!r}")
        data = self._blobs[sha256]
        if hashlib.sha256(data).hexdigest() != sha256:
            raise CorruptArtifact(f"the blob {sha256} is damaged")
        return data

    def damage(self, sha256: str) -> None:
        data = self._blobs[sha256]
        self._blobs[sha256] = bytes([data[0] ^ 1]) + data[1:]

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._blobs

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._blobs))


class CannedFetcher:
    """Has ``files`` by their URLs; the URLs that were asked for are in ``asked``."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.asked: list[str] = []

    def fetch(self, url: str, max_bytes: int) -> bytes:
        self.asked.append(url)
        try:
            check_url(url, of="a picture", max_length=MAX_URL_LENGTH)
        except InvalidInput as error:
            raise AddressRefused(str(error)) from error
        if url not in self.files:
            raise AddressRefused("it answers 404 instead of a picture")
        return self.files[url][:max_bytes]


class InlineExecutor:
    """Runs a job in this very call, with the given function."""

    def __init__(self, run: Callable[[str], None]) -> None:
        self._run = run
        self.started: list[tuple[JobKind, str]] = []

    def start(self, kind: JobKind, job_id: str) -> str:
        self.started.append((kind, job_id))
        self._run(job_id)
        return "this process"
