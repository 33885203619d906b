"""Use case of jobs that failed or were canceled: put one back into the queue, with what was made for it."""

from collections.abc import Callable

from packshot.domain.batches import BatchItem, ItemFailure
from packshot.domain.jobs import Job, JobKind, retry
from packshot.ports import Records
from packshot.services.catalog import now


def retry_job(records: Records, job_id: str, *, admit: Callable[[], None] = lambda: None) -> Job:
    """Queue a job anew. What it is to make stays as it was asked for, and what is made already is kept.

    A training begins from its first step: checkpoints go when a job has ended. A batch makes what is missing, also of
    items that failed while they were made; those that could not be answered when it was planned stay failed. ``admit``
    is called before it is queued, and may refuse it by raising.

    Raises:
        Conflict: see ``domain.jobs.retry``.
    """
    with records.transaction():
        job = retry(records.get(Job, job_id), now())
        admit()
        if job.kind is JobKind.BATCH:
            _forget_failures(records, job.subject_id)
        records.replace(job)
    return job


def _forget_failures(records: Records, batch_id: str) -> None:
    begun = {item.id for item in records.find(BatchItem, batch_id=batch_id) if item.generation_id}
    for failure in records.find(ItemFailure, batch_id=batch_id):
        if failure.item_id in begun:
            records.remove(failure)
