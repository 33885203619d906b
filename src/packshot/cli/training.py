"""``packshot train`` and ``packshot worker``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.catalog import Path_
from packshot.cli.output import Json, interruptible, progress_shown, say, show, workspace
from packshot.domain.errors import InvalidConfiguration
from packshot.domain.models import EMBEDDED_BASE

if TYPE_CHECKING:
    from collections.abc import Callable

    from packshot.domain.jobs import Job
    from packshot.domain.training import TrainingRun

_POLL_S = 0.5


METHOD_HELP = "Which parameters learn: pivotal, lora, full, textual_inversion or hypernetwork."


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(train)
    app.command()(worker)


def read_values(config: Path | None, settings: list[str], **flags: object) -> dict[str, object]:
    """The configuration values of a YAML file, overridden by ``key=value`` settings, overridden by flags.

    Raises:
        InvalidConfiguration: the file is missing or no mapping, or a setting has no ``=``.
    """
    values: dict[str, object] = {}
    if config:
        import yaml

        try:
            loaded = yaml.safe_load(config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InvalidConfiguration(f"cannot read the configuration {config}: {error}") from error
        if not isinstance(loaded, dict):
            raise InvalidConfiguration(f"{config} holds no 'key: value' lines")
        values.update({str(key): value for key, value in loaded.items()})
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise InvalidConfiguration(f"--set {setting!r} has no '='; write --set key=value")
        values[key.strip()] = value
    values.update({key: value for key, value in flags.items() if value is not None})
    return values


def train(
    path: Path_,
    method: Annotated[str | None, typer.Option(help=METHOD_HELP)] = None,
    base: Annotated[str, typer.Option(help="embedded, a diffusers folder, or a hub id.")] = EMBEDDED_BASE,
    config: Annotated[Path | None, typer.Option(help="A YAML file of configuration values.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One configuration value; repeatable.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the run to a background worker.")] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune the base on the newest frozen set.

    The same command again goes on where a killed or interrupted run stopped.
    """
    from packshot.bootstrap import code_revision
    from packshot.domain.jobs import JobKind
    from packshot.domain.presets import parse_config
    from packshot.services.catalog import category_at
    from packshot.services.jobs import check_succeeded, see_through
    from packshot.services.models import register_base
    from packshot.services.training import fine_tune_of, plan_training

    values = read_values(config, settings or [], method=method, steps=steps, seed=seed)
    with workspace() as space:
        category = category_at(space.records, path, space.settings.namespace)
        described = space.bases.describe(base)
        chosen = parse_config(values, base_resolution=described.resolution, family=described.family)
        base_ref = register_base(space.records, described)
        code = code_revision()
        plan = plan_training(space.records, category, base_ref, chosen, code)
        if plan.resumed:
            say(_resumption(plan.run, code))
        if detach:
            where = space.executor.start(JobKind.TRAINING, plan.job.id)
            show({"job_id": plan.job.id, "run_id": plan.run.id}, as_json, lambda: f"job {plan.job.id} runs in {where}")
            return
        with progress_shown() as report, interruptible() as stop:
            job = see_through(
                space.records,
                space.handlers,
                plan.job.id,
                lease=space.lease,
                report=report,
                watch=watching(),
                tidy=space.tidy,
                stop=stop,
            )
        check_succeeded(job)
        fine_tune = fine_tune_of(space.records, plan.run)
        show(
            fine_tune,
            as_json,
            lambda: (
                f"{path}@{fine_tune.version}: {fine_tune.method}, {chosen.steps} steps; "
                f"look at it with: packshot evaluate {path}@{fine_tune.version}"
            ),
        )


def _resumption(run: "TrainingRun", code: str) -> str:
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


def worker(
    job: Annotated[str | None, typer.Option("--job", help="Work on this job alone.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for more jobs instead of ending.")] = False,
    parent: Annotated[int | None, typer.Option(help="End when the process with this id has ended.")] = None,
    as_json: Json = False,
) -> None:
    """Work on queued jobs until none is left, or on one job until it ends, whoever holds it now.

    Exit code 1 when a job failed.
    """
    import os
    import time

    from packshot.domain.jobs import JobStatus
    from packshot.services.jobs import see_through, work_on_one

    with workspace() as space:
        done: list[Job] = []
        with progress_shown() as report, interruptible() as stop:

            def ended() -> bool:
                return stop() or (parent is not None and os.getppid() != parent)

            if job:
                one = see_through(
                    space.records,
                    space.handlers,
                    job,
                    lease=space.lease,
                    report=report,
                    watch=watching(),
                    tidy=space.tidy,
                    stop=stop,
                )
                done.append(one)
                say(f"job {one.id} {one.status} {one.message}".rstrip())
            while not job and not ended():
                one = work_on_one(
                    space.records, space.handlers, lease=space.lease, report=report, tidy=space.tidy, stop=ended
                )
                if one:
                    done.append(one)
                    say(f"job {one.id} {one.status} {one.message}".rstrip())
                elif wait:
                    time.sleep(_POLL_S)
                else:
                    break
        num_failed = sum(each.status is JobStatus.FAILED for each in done)
        show(
            done,
            as_json,
            lambda: f"{len(done)} jobs ended, {num_failed} of them failed" if done else "no job waits",
        )
        if num_failed:
            raise typer.Exit(1)
