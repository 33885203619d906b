"""A worker that makes the pictures of several jobs at once, so that the engine can mix them. Knows no kind of model.

Whatever else is to be done is done alone, in the thread that asks for work: no further pictures are taken on meanwhile,
so nobody waits for ever, neither for pictures nor for a training.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Self

from packshot.domain.jobs import Job, JobKind
from packshot.ports import Progress, Records
from packshot.services.clocks import SharedClock
from packshot.services.jobs import (
    DEFAULT_LEASE,
    Handler,
    ReportProgressOf,
    Stop,
    Tidy,
    leave_as_it_is,
    never_stop,
    no_report_of,
    take,
    work_on_claimed,
)

PICTURES = frozenset({JobKind.GENERATION, JobKind.BATCH})


@dataclass(kw_only=True)
class Worker:
    """Works on at most ``num_at_once`` jobs that make pictures at the same time; use it as a context.

    ``otherwise`` carries out a claimed job of another kind, with whatever goes with it, and returns them as they ended.
    """

    records: Records
    handlers: Mapping[JobKind, Handler]
    otherwise: Callable[[Job], list[Job]]
    num_at_once: int
    lease: timedelta = DEFAULT_LEASE
    report: ReportProgressOf = no_report_of
    tidy: Tidy = leave_as_it_is
    stop: Stop = never_stop
    poll_s: float = 0.5
    _running: set[Future[Job]] = field(default_factory=set[Future[Job]], init=False)
    _clock: SharedClock = field(default_factory=SharedClock, init=False)
    _reporting: threading.Lock = field(default_factory=threading.Lock, init=False)
    _pool: ThreadPoolExecutor = field(init=False)

    def __post_init__(self) -> None:
        self._pool = ThreadPoolExecutor(self.num_at_once, "packshot-job")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Wait for the jobs under way; with ``stop()`` true that is until their next step."""
        self._pool.shutdown()

    def work(self) -> list[Job] | None:
        """Take on the job whose turn it is, if there is room; the jobs that have ended since the last call.

        None where there is nothing to do: nothing could be claimed, and nothing is under way.
        """
        job = None if self.stop() or len(self._running) >= self.num_at_once else take(self.records, self.lease)
        if job is None and not self._running:
            self.tidy()  # of jobs that too many workers died on
            return None
        if job is None:
            wait(self._running, self.poll_s, FIRST_COMPLETED)
        elif job.kind in PICTURES:
            self._running.add(self._pool.submit(self._make, job))
        others = self.otherwise(job) if job and job.kind not in PICTURES else []
        ended = {each for each in self._running if each.done()}
        self._running -= ended
        self.tidy()
        return [*others, *(each.result() for each in ended)]

    def _make(self, job: Job) -> Job:
        def report(progress: Progress) -> None:
            with self._reporting:
                self.report(job, progress)

        return work_on_claimed(
            self.records, self.handlers, job, lease=self.lease, report=report, stop=self.stop, clock=self._clock
        )
