"""``packshot train`` for several categories, and what it shares with the other ways of training."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from packshot.cli.output import interruptible, progress_shown, say, show, table
from packshot.cli.training_report import steps_taken
from packshot.domain.errors import Interrupted, PackshotError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from packshot.bootstrap import Workspace
    from packshot.domain.jobs import Job
    from packshot.domain.models import BaseModelRef
    from packshot.domain.training import TrainingConfig, TrainingRun
    from packshot.ports import Progress
    from packshot.services.training import PlannedTraining


@dataclass(frozen=True, kw_only=True)
class TrainingOutcome:
    """What became of one of several categories; without a job it could not even be planned."""

    path: str
    status: str
    job_id: str | None = None
    run_id: str | None = None
    version: int | None = None
    message: str = ""


def train_several(
    space: "Workspace",
    paths: "Sequence[str]",
    base: "BaseModelRef",
    chosen: "TrainingConfig",
    code: str,
    as_json: bool,
) -> None:
    """Plan and train all of ``paths``; exit code 1 when one failed, after the others are done.

    Raises:
        Interrupted: on request; every category goes on where it stopped with the same command.
    """
    from packshot.services.training_groups import see_all_through

    plans, outcomes = _planned(space, paths, base, chosen, code)
    with progress_shown() as report, interruptible() as stop:
        jobs = see_all_through(
            space.records,
            space.handlers,
            space.train_group,
            space.settings.group_size if space.processes.count == 1 else 1,
            [plan.job.id for plan in plans.values()],
            lease=space.lease,
            report=report_of_jobs(space, report),
            watch=watching(),
            tidy=space.tidy,
            stop=lambda: stop() or space.processes.broken,
        )
    outcomes |= {path: _outcome(space, path, plan, job) for (path, plan), job in zip(plans.items(), jobs, strict=True)}
    unfinished = sum(not job.finished for job in jobs)
    if unfinished:
        raise Interrupted(f"{unfinished} of {len(paths)} categories are not done; the same command goes on there")
    listed = [outcomes[path] for path in paths]
    num_failed = sum(each.version is None for each in listed)
    rows = [[each.path, each.status, each.version or "-", each.message] for each in listed]
    total = f"{len(listed) - num_failed} of {len(listed)} categories trained"
    show(listed, as_json, lambda: f"{table(['path', 'status', 'version', 'message'], rows)}\n\n{total}")
    if num_failed:
        raise typer.Exit(1)


def _planned(
    space: "Workspace", paths: "Sequence[str]", base: "BaseModelRef", chosen: "TrainingConfig", code: str
) -> "tuple[dict[str, PlannedTraining], dict[str, TrainingOutcome]]":
    """The plans by path, and what became of the categories that have none."""
    from packshot.services.catalog import category_at
    from packshot.services.training import plan_training

    namespace = space.settings.namespace
    plans: dict[str, PlannedTraining] = {}
    refused: dict[str, TrainingOutcome] = {}
    for path in paths:
        try:
            category = category_at(space.records, path, namespace)
            plans[path] = plan_training(
                space.records,
                category,
                base,
                chosen,
                code,
                namespace=namespace,
                admit=lambda: space.check_room(namespace),
            )
        except PackshotError as error:
            say(f"{path}: {error}")
            refused[path] = TrainingOutcome(path=path, status="refused", message=str(error))
            continue
        if plans[path].resumed:
            say(f"{path}: {resumption(plans[path].run, code)}")
    return plans, refused


def _outcome(space: "Workspace", path: str, plan: "PlannedTraining", job: "Job") -> TrainingOutcome:
    from packshot.domain.models import FineTune

    published = space.records.find(FineTune, training_run_id=plan.run.id)
    return TrainingOutcome(
        path=path,
        status=job.status,
        job_id=job.id,
        run_id=plan.run.id,
        version=published[0].version if published else None,
        message=steps_taken(space.blobs, published[0], plan.run) if published else job.message,
    )


def report_of_jobs(space: "Workspace", report: "Callable[..., None]") -> "Callable[[Job, Progress], None]":
    """Reports of several jobs at once, each under the path of its category."""
    from packshot.domain.catalog import Category
    from packshot.domain.jobs import JobKind
    from packshot.domain.training import TrainingRun

    names: dict[str, str] = {}

    def report_of(job: "Job", progress: "Progress") -> None:
        if job.id not in names:
            names[job.id] = ""
            if job.kind is JobKind.TRAINING:
                run = space.records.get(TrainingRun, job.subject_id)
                names[job.id] = space.records.get(Category, run.category_id).path
        report(progress, names[job.id])

    return report_of


def resumption(run: "TrainingRun", code: str) -> str:
    """What to say when an unfinished run goes on under ``code``."""
    if run.code_revision == code:
        return f"going on with run {run.id}"
    return (
        f"going on with run {run.id}, which was planned by code {run.code_revision}, under code {code}: "
        "its weights may differ from those of an uninterrupted run"
    )


def watching() -> "Callable[[Job], None]":
    """A watcher that says, once each, which worker holds the job."""
    said: set[str] = set()

    def watch(job: "Job") -> None:
        if job.worker not in said:
            said.add(job.worker)
            say(f"worker {job.worker} holds job {job.id}; watching, and taking over when its lease runs out")

    return watch


def carry_through(space: "Workspace", job_id: str) -> "Job":
    """See one job to its end with its progress in the terminal; Ctrl-C stops it so that it can go on later."""
    from packshot.services.jobs import see_through

    with progress_shown() as report, interruptible() as stop:
        return see_through(
            space.records,
            space.handlers,
            job_id,
            lease=space.lease,
            report=report,
            watch=watching(),
            tidy=space.tidy,
            stop=lambda: stop() or space.processes.broken,
        )
