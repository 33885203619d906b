"""``/v1/jobs``: everything that workers do for a namespace, whatever comes of it, and its progress as events."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from packshot.domain.access import Scope
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.services.access import owned
from packshot.services.retrying import retry_job
from packshot.web.events import LastEventId, changes
from packshot.web.job_states import JobState, job_state
from packshot.web.replies import Idempotent, MayRead, Pages
from packshot.web.schemas import Page

router = APIRouter(prefix="/jobs", tags=["jobs"])

_TRAINERS = (JobKind.TRAINING, JobKind.EVALUATION)


def _job(job_id: str, call: MayRead) -> Job:
    return owned(call.records, Job, job_id, call.namespace)


Asked = Annotated[Job, Depends(_job)]


@router.get("")
def list_jobs(call: MayRead, pages: Pages, status: JobStatus | None = None) -> Page[JobState]:
    """The jobs of the namespace, the oldest first."""
    chosen: dict[str, Any] = {} if status is None else {"status": status.value}
    page = pages.of(call.records, Job, namespace=call.namespace, **chosen)
    return Page(items=[job_state(job) for job in page.items], next=page.next)


@router.get("/{job_id}")
def get_job(job: Asked) -> JobState:
    """Where a job stands."""
    return job_state(job)


@router.post("/{job_id}/retry", response_model=JobState)
def retry(job: Asked, call: MayRead, once: Idempotent) -> Response:
    """Queue a job anew that failed or was canceled; what it has made already is kept.

    Needs the scope `train` for a training or an evaluation, `generate` for pictures.
    """
    call.caller.check(Scope.TRAIN if job.kind in _TRAINERS else Scope.GENERATE)
    return once("", lambda: job_state(retry_job(call.records, job.id, admit=call.check_room)))


@router.get("/{job_id}/events", response_class=EventSourceResponse)
async def watch_job(job: Asked, call: MayRead, last_event_id: LastEventId = None) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: the job whenever something has changed, the last one when it has ended."""
    async for event in changes(lambda: job_state(call.records.get(Job, job.id)), last_event_id):
        yield event
