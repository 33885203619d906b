"""``packshot train`` and ``packshot worker``."""

from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.backend import TrainingRequest
from packshot.cli.output import Json, backend, interruptible, progress_shown, say, show, workspace
from packshot.cli.training_cost import cost_text, foreseen, show_dry_run
from packshot.cli.training_report import reasons, steps_taken
from packshot.cli.training_several import carry_through, report_of_jobs, resumption, train_several, watching
from packshot.domain.errors import InvalidConfiguration, InvalidInput, PackshotError
from packshot.domain.models import EMBEDDED_BASE
from packshot.domain.presets import Preset

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packshot.bootstrap import Workspace
    from packshot.domain.jobs import Job
    from packshot.domain.models import BaseModelRef
    from packshot.domain.training import TrainingConfig
    from packshot.services.jobs import ReportProgressOf, Stop

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
    paths: Annotated[
        list[str] | None, typer.Argument(metavar="[PATH]...", help="For example produce/apple/honeycrisp.")
    ] = None,
    every: Annotated[
        str | None, typer.Option("--all", metavar="PATTERN", help="Every category in use like 'produce/**'.")
    ] = None,
    method: Annotated[str | None, typer.Option(help=METHOD_HELP)] = None,
    base: Annotated[str, typer.Option(help="embedded, a diffusers folder, or a hub id.")] = EMBEDDED_BASE,
    preset: Annotated[
        Preset | None, typer.Option(help="How much effort it is worth; packshot presets shows what that means.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A YAML file of configuration values.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One configuration value; repeatable.")
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="NUMBER|auto", help="Optimiser steps; auto keeps the best by held-out photos.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the run to a background worker.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print configuration, memory and time; train nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fine-tune the base on the newest frozen set, for one category or for several that share one loaded base.

    The same command again goes on where a killed or interrupted run stopped. Of several categories one that fails does
    not stop the others; exit code 1 then.
    """
    values = read_values(config, settings or [], method=method, preset=preset, steps=steps, seed=seed)
    if every is None and not paths:
        raise InvalidInput("no category is given; write its PATH, several of them, or --all with a pattern")
    if detach and (every is not None or len(paths or []) > 1):
        raise InvalidInput("--detach leaves one category to a worker; for several leave it out")
    request = TrainingRequest(paths=paths or [], every=every, base=base, values=values, detach=detach, dry_run=dry_run)
    if follows():
        return
    with backend() as there:
        there.train(request, as_json)


def follows() -> bool:
    """Whether this process was launched to follow another; then all that the other has trained is behind it.

    Raises:
        ProcessLost: another process has ended before.
    """
    from packshot.bootstrap import follow, launched
    from packshot.settings import read_settings

    number, _ = launched()
    if number:
        follow(read_settings())
    return number > 0


def train_here(space: "Workspace", request: TrainingRequest, as_json: bool) -> None:
    """Train in this process, or leave one category to a worker, and print what came of it."""
    with space.processes.led_from_here():
        _train_here(space, request, as_json)


def _train_here(space: "Workspace", request: TrainingRequest, as_json: bool) -> None:
    from packshot.bootstrap import code_revision
    from packshot.domain.presets import parse_config
    from packshot.services.models import register_base

    paths = _paths(space, request.paths, request.every)
    described = space.bases.describe(request.base)
    chosen = parse_config(request.values, base_resolution=described.resolution, family=described.family)
    if request.dry_run:
        show_dry_run(foreseen(space, paths, described, chosen), chosen, len(paths), as_json)
        return
    base_ref = register_base(space.records, described)
    if not request.detach:
        # Of several categories one that cannot be trained is named when it is planned.
        with suppress(PackshotError) if len(paths) > 1 else nullcontext():
            say(cost_text(foreseen(space, paths, base_ref, chosen), chosen, len(paths)))
    if request.every is None and len(paths) == 1:
        _train_one(space, paths[0], base_ref, chosen, code_revision(), request.detach, as_json)
    else:
        train_several(space, paths, base_ref, chosen, code_revision(), as_json)


def _paths(space: "Workspace", paths: "Sequence[str]", every: str | None) -> list[str]:
    from packshot.services.catalog import categories_matching

    matching = categories_matching(space.records, every, space.settings.namespace) if every is not None else []
    return list(dict.fromkeys([*paths, *(category.path for category in matching)]))


def _train_one(
    space: "Workspace",
    path: str,
    base: "BaseModelRef",
    chosen: "TrainingConfig",
    code: str,
    detach: bool,
    as_json: bool,
) -> None:
    from packshot.domain.jobs import JobKind
    from packshot.services.catalog import category_at
    from packshot.services.jobs import check_succeeded
    from packshot.services.training import fine_tune_of, plan_training

    category = category_at(space.records, path, space.settings.namespace)
    namespace = space.settings.namespace
    plan = plan_training(
        space.records, category, base, chosen, code, namespace=namespace, admit=lambda: space.check_room(namespace)
    )
    if plan.resumed:
        say(resumption(plan.run, code))
    if detach:
        where = space.executor.start(JobKind.TRAINING, plan.job.id)
        show({"job_id": plan.job.id, "run_id": plan.run.id}, as_json, lambda: f"job {plan.job.id} runs in {where}")
        return
    job = carry_through(space, plan.job.id)
    check_succeeded(job)
    fine_tune = fine_tune_of(space.records, plan.run)
    show(
        fine_tune,
        as_json,
        lambda: "\n".join(
            [
                f"{path}@{fine_tune.version}: {steps_taken(space.blobs, fine_tune, plan.run)}",
                *reasons(space.blobs, fine_tune),
                f"look at it with: packshot evaluate {path}@{fine_tune.version}",
                f"and at its training with: packshot report {path}@{fine_tune.version}",
            ]
        ),
    )


def worker(
    job: Annotated[str | None, typer.Option("--job", help="Work on this job alone.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for more jobs instead of ending.")] = False,
    parent: Annotated[int | None, typer.Option(help="End when the process with this id has ended.")] = None,
    as_json: Json = False,
) -> None:
    """Work on queued jobs until none is left, or on one job until it ends, whoever holds it now.

    Trainings that wait and go together are carried out together; pictures of several jobs are mixed in one batch. Exit
    code 1 when a job failed.
    """
    import os

    from packshot.domain.jobs import JobStatus
    from packshot.services.jobs import see_through

    with workspace() as space:
        done: list[Job] = []
        with space.engine_noted(), progress_shown() as report, interruptible() as stop:

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
            else:
                done += _work(space, report_of_jobs(space, report), wait, ended)
        num_failed = sum(each.status is JobStatus.FAILED for each in done)
        show(
            done,
            as_json,
            lambda: f"{len(done)} jobs ended, {num_failed} of them failed" if done else "no job waits",
        )
        if num_failed:
            raise typer.Exit(1)


def _work(space: "Workspace", report: "ReportProgressOf", wait: bool, ended: "Stop") -> list["Job"]:
    """Work until nothing waits, or with ``wait`` until ``ended()``."""
    import time

    from packshot.services.training_groups import work_with_companions
    from packshot.services.workers import Worker

    def otherwise(job: "Job") -> list["Job"]:
        return work_with_companions(
            space.records,
            space.handlers,
            space.train_group,
            space.settings.group_size,
            job,
            lease=space.lease,
            report=report,
            stop=ended,
        )

    done: list[Job] = []
    worker = Worker(
        records=space.records,
        handlers=space.handlers,
        otherwise=otherwise,
        num_at_once=space.settings.picture_jobs,
        lease=space.lease,
        report=report,
        tidy=space.tidy,
        stop=ended,
    )
    with worker:
        while (some := worker.work()) is not None or (wait and not ended()):
            for one in some or ():
                done.append(one)
                say(f"job {one.id} {one.status} {one.message}".rstrip())
            if some is None:
                time.sleep(_POLL_S)
    return done
