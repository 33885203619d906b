"""``packshot job``: the commands of what workers do."""

from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.output import Json, backend, say, show, table
from packshot.domain.errors import JobFailed
from packshot.domain.jobs import JobStatus

if TYPE_CHECKING:
    from packshot.web.job_states import JobState

app = typer.Typer(no_args_is_help=True, help="List, watch, cancel and retry jobs.")

JobId = Annotated[str, typer.Argument(metavar="JOB-ID")]


@app.command("list")
def list_(
    status: Annotated[JobStatus | None, typer.Option(help="Those in that status alone.")] = None, as_json: Json = False
) -> None:
    """List jobs, the oldest first."""
    with backend() as there:
        jobs = there.jobs(status or "")
    rows = [
        [each.id, each.kind, each.subject_id, each.status, f"{each.progress:.0%}", each.message or "-"] for each in jobs
    ]
    show(
        [_plain(each) for each in jobs],
        as_json,
        lambda: table(["job", "kind", "of", "status", "done", "message"], rows) if rows else "no job",
    )


@app.command("show")
def show_(job: JobId, as_json: Json = False) -> None:
    """Show where a job stands."""
    with backend() as there:
        state = there.job(job)
    show(_plain(state), as_json, lambda: _text(state))


@app.command()
def watch(job: JobId, as_json: Json = False) -> None:
    """Tell each change of a job until it has ended. Exit code 1 when it failed or was canceled."""
    with backend() as there:
        state = there.watch_job(job, lambda now: say(_line(now)))
    show(_plain(state), as_json, lambda: _text(state))
    if state.status is not JobStatus.SUCCEEDED:
        raise JobFailed(f"{state.id} {state.status}: {state.message}")


@app.command()
def cancel(job: JobId, as_json: Json = False) -> None:
    """End a job that waits or runs."""
    with backend() as there:
        state = there.cancel_job(job)
    show(_plain(state), as_json, lambda: f"{state.id} is {state.status}")


@app.command()
def retry(job: JobId, as_json: Json = False) -> None:
    """Queue a job anew that failed or was canceled. What it has made already is kept."""
    with backend() as there:
        state = there.retry_job(job)
    show(_plain(state), as_json, lambda: f"{state.id} is {state.status}")


def _plain(state: "JobState") -> dict[str, object]:
    return state.model_dump(exclude={"urls"})


def _line(state: "JobState") -> str:
    return f"{state.status}  {state.progress:.0%}  {state.message}".rstrip()


def _text(state: "JobState") -> str:
    return "\n".join(f"{name:<12}{value}" for name, value in _plain(state).items())
