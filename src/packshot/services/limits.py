"""Use cases of fair use: how fast a key may ask, and how many jobs a namespace may have."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from packshot.domain.access import Quota
from packshot.domain.catalog import check_namespace
from packshot.domain.errors import QuotaExceeded, RateLimited
from packshot.domain.jobs import Job, JobStatus
from packshot.ports import Records
from packshot.services.catalog import new_id, now

_MAX_BUCKETS = 10_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What holds for a namespace."""

    requests_per_minute: int
    max_unfinished_jobs: int


def set_quota(
    records: Records, namespace: str, *, requests_per_minute: int | None, max_unfinished_jobs: int | None
) -> Quota:
    """Give ``namespace`` limits of its own; None = those of the settings again.

    Raises:
        InvalidInput: a malformed namespace, or a limit below one.
    """
    quota = Quota(
        id=new_id("quo"),
        namespace=check_namespace(namespace),
        requests_per_minute=requests_per_minute,
        max_unfinished_jobs=max_unfinished_jobs,
        created_at=now(),
    )
    records.add(quota)
    return quota


def limits_of(records: Records, namespace: str, settings: Limits) -> Limits:
    """The newest quota of ``namespace``, with ``settings`` where it says nothing."""
    quotas = records.find(Quota, namespace=namespace)
    if not quotas:
        return settings
    newest = quotas[-1]
    return Limits(
        requests_per_minute=newest.requests_per_minute or settings.requests_per_minute,
        max_unfinished_jobs=newest.max_unfinished_jobs or settings.max_unfinished_jobs,
    )


def check_room(records: Records, namespace: str, limits: Limits) -> None:
    """Check that ``namespace`` may have one more job; call it in the transaction that adds it.

    Raises:
        QuotaExceeded: it has too many that are not finished.
    """
    there = num_unfinished(records, namespace=namespace)
    if there >= limits.max_unfinished_jobs:
        raise QuotaExceeded(
            f"{namespace} has {there} unfinished jobs and may have {limits.max_unfinished_jobs}; "
            "wait for some to end or cancel them, or ask the operator for a larger quota"
        )


def num_unfinished(records: Records, **equal: str) -> int:
    """How many jobs wait or run, of all or of those that are like that."""
    unfinished = [JobStatus.QUEUED.value, JobStatus.RUNNING.value]
    tally = records.tally(Job, (), since=None, until=None, status=unfinished, **equal)
    return sum(each.count for each in tally)


class RequestRates:
    """A bucket of permits per key, which refills steadily; a full one lasts for a minute's requests at once.

    Counts within one process; ``clock`` gives seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str, per_minute: int) -> None:
        """Use one permit of ``key``.

        Raises:
            RateLimited: none is left; it says when there will be one.
        """
        with self._lock:
            at = self._clock()
            permits, since = self._buckets.pop(key, (float(per_minute), at))
            permits = min(per_minute, permits + (at - since) * per_minute / 60)
            self._buckets[key] = (permits - 1 if permits >= 1 else permits, at)
            if len(self._buckets) > _MAX_BUCKETS:
                del self._buckets[next(iter(self._buckets))]
        if permits < 1:
            raise RateLimited(
                f"this key may make {per_minute} requests per minute; come again later, or ask the operator for more",
                math.ceil((1 - permits) * 60 / per_minute),
            )
