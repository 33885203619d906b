"""What is told of a job over HTTP. Does not know what comes of it; that is at ``urls.subject``."""

from datetime import datetime

from pydantic import BaseModel, Field

from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.web.schemas import Urls

_COLLECTIONS = {
    JobKind.TRAINING: "trainings",
    JobKind.GENERATION: "generations",
    JobKind.FOREIGN_GENERATION: "generations",
    JobKind.BATCH: "batches",
    JobKind.EVALUATION: "evaluations",
}


class JobUrls(Urls):
    """``events`` streams the progress; ``subject`` is the training, generation, batch or evaluation."""

    retry: str
    events: str
    subject: str


class JobState(BaseModel):
    """A unit of work and where it stands."""

    id: str
    kind: JobKind
    subject_id: str
    status: JobStatus
    progress: float = Field(description="0 to 1.")
    message: str
    attempt: int = Field(description="How many workers have taken it.")
    priority: int
    created_at: datetime
    finished_at: datetime | None
    urls: JobUrls


def job_state(job: Job) -> JobState:
    """``job`` as it is told."""
    here, subject = f"/v1/jobs/{job.id}", f"/v1/{_COLLECTIONS[job.kind]}/{job.subject_id}"
    return JobState(
        id=job.id,
        kind=job.kind,
        subject_id=job.subject_id,
        status=job.status,
        progress=job.progress,
        message=job.message,
        attempt=job.attempt,
        priority=job.priority,
        created_at=job.created_at,
        finished_at=job.finished_at,
        urls=JobUrls(
            get=here, cancel=f"{subject}/cancel", retry=f"{here}/retry", events=f"{here}/events", subject=subject
        ),
    )
