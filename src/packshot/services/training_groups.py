"""Use cases of training several categories at once: which go together, claim them, carry them out. Knows no tensor."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from packshot.domain.jobs import MAX_ATTEMPTS, Job, JobKind, JobStatus, claimable
from packshot.domain.models import FineTune
from packshot.domain.training import TrainingRun
from packshot.ports import Blobs, GroupMember, Records, TrainedWeights, Trainer
from packshot.services.catalog import now
from packshot.services.jobs import (
    DEFAULT_LEASE,
    GroupHandler,
    Handler,
    Held,
    ReportProgressOf,
    Stop,
    Tidy,
    leave_as_it_is,
    never_stop,
    no_report_of,
    take,
    work_on_claimed,
    work_together,
)
from packshot.services.training import GetJudge, prepare_training, publish_training


def run_trainings(
    held: Sequence[Held],
    records: Records,
    blobs: Blobs,
    trainer: Trainer,
    *,
    code_revision: str,
    workdir: Path,
    cachedir: Path,
    judge: GetJudge,
) -> None:
    """Carry out the trainings of several jobs together; each publishes, fails or is interrupted on its own."""

    def member(each: Held) -> GroupMember | None:
        task = prepare_training(each.job, records, blobs, judge, workdir=workdir, cachedir=cachedir)
        if isinstance(task, FineTune):
            each.end(None)
            return None

        def finish(trained: TrainedWeights) -> None:
            publish_training(each.job, records, blobs, task, trained, code_revision=code_revision)
            each.end(None)

        return GroupMember(task=task, report=each.report, stop=each.stop, own=each.own, finish=finish, ended=each.ended)

    members: list[GroupMember] = []
    for each in held:
        with each.own():
            one = member(each)
            if one:
                members.append(one)
    if members:
        trainer.train_together(members)


def companions(records: Records, job: Job, among: Sequence[Job], group_size: int) -> list[Job]:
    """Which of ``among`` can be trained together with ``job``, so that they are ``group_size`` in all at most.

    They are of the namespace whose turn it is, those of a higher priority first. A job whose last attempt this would be is left alone, so that one on which workers die cannot take others with it.
    """
    if job.kind is not JobKind.TRAINING or _last_attempt(job):
        return []
    run = records.get(TrainingRun, job.subject_id)
    found: list[Job] = []
    own = [other for other in among if other.namespace == job.namespace and other.id != job.id]
    for other in sorted(own, key=lambda each: -each.priority):
        if len(found) + 1 >= group_size:
            break
        if other.kind is not JobKind.TRAINING or _last_attempt(other):
            continue
        others = records.get(TrainingRun, other.subject_id)
        if others.base_id == run.base_id and others.config.goes_with(run.config):
            found.append(other)
    return found


def _last_attempt(job: Job) -> bool:
    deserted = job.status is JobStatus.RUNNING and claimable(job, now())
    return job.failures + deserted >= MAX_ATTEMPTS - 1


def work_with_companions(
    records: Records,
    handlers: Mapping[JobKind, Handler],
    train_group: GroupHandler,
    group_size: int,
    job: Job,
    *,
    lease: timedelta = DEFAULT_LEASE,
    report: ReportProgressOf = no_report_of,
    stop: Stop = never_stop,
) -> list[Job]:
    """Run a claimed job to its end, and with a training those that wait and go with it; the jobs as they ended."""
    waiting = records.find(Job, status=JobStatus.QUEUED, namespace=job.namespace)
    return _work_on(records, handlers, train_group, group_size, job, waiting, lease, report, stop)


def see_all_through(
    records: Records,
    handlers: Mapping[JobKind, Handler],
    train_group: GroupHandler,
    group_size: int,
    job_ids: Sequence[str],
    *,
    lease: timedelta = DEFAULT_LEASE,
    report: ReportProgressOf = no_report_of,
    watch: Callable[[Job], None],
    tidy: Tidy = leave_as_it_is,
    stop: Stop = never_stop,
    poll_s: float = 0.5,
) -> list[Job]:
    """Run trainings here, together where they go together, or ``watch`` those that other workers hold, to their ends.

    It ends early with ``stop()``.
    """
    while True:
        jobs = [records.get(Job, id_) for id_ in job_ids]
        left = [job for job in jobs if not job.finished]
        if not left or stop():
            return jobs
        free = [job for job in left if claimable(job, now())]
        held = [job for job in left if job not in free]
        if free and not any(_silent(job, lease) for job in held):
            job = take(records, lease, job_id=free[0].id)
            if job is not None:
                _work_on(records, handlers, train_group, group_size, job, free[1:], lease, report, stop)
            tidy()
            continue
        for job in held:
            watch(job)
        time.sleep(poll_s)


def _silent(job: Job, lease: timedelta) -> bool:
    """Whether the job's worker has missed a heartbeat: its lease will be free in a moment, and so may those beside it."""
    return job.lease_expires_at is not None and job.lease_expires_at - now() < lease / 2


def _work_on(
    records: Records,
    handlers: Mapping[JobKind, Handler],
    train_group: GroupHandler,
    group_size: int,
    job: Job,
    among: Sequence[Job],
    lease: timedelta,
    report: ReportProgressOf,
    stop: Stop,
) -> list[Job]:
    """Run a claimed job, together with those of ``among`` that go with it and can be claimed."""
    claimed = [job]
    for other in companions(records, job, among, group_size):
        taken = take(records, lease, job_id=other.id)
        claimed += [taken] if taken else []
    if len(claimed) == 1:
        one = work_on_claimed(
            records, handlers, job, lease=lease, report=lambda progress: report(job, progress), stop=stop
        )
        return [one]
    return work_together(records, train_group, claimed, lease=lease, report=report, stop=stop)
