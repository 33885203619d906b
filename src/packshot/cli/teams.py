"""``packshot audit``, ``packshot usage`` and ``packshot quota``."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.output import Json, backend, operator, show, table, workspace

if TYPE_CHECKING:
    from packshot.services.usage import UsageReport

app = typer.Typer(no_args_is_help=True, help="Set and list what each team's namespace may ask for.")

Namespace = Annotated[str | None, typer.Option(help="One namespace alone; all without it.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(audit)
    app.command()(usage)


@app.command("set")
def set_(
    namespace: Annotated[str, typer.Argument(help="A team's namespace.")],
    requests_per_minute: Annotated[int | None, typer.Option(help="Of each key; the setting's without it.")] = None,
    max_unfinished_jobs: Annotated[
        int | None, typer.Option(help="Queued and running; the setting's without it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Give a namespace limits of its own instead of those of the settings."""
    from packshot.domain.access import AuditAction
    from packshot.services.audit import audited
    from packshot.services.limits import set_quota

    with workspace() as space:
        said = f"{requests_per_minute or 'default'} requests per minute, {max_unfinished_jobs or 'default'} unfinished jobs"
        with audited(space.records, operator(), AuditAction.SET_QUOTA, namespace=namespace, subject=said):
            quota = set_quota(
                space.records,
                namespace,
                requests_per_minute=requests_per_minute,
                max_unfinished_jobs=max_unfinished_jobs,
            )
        show(quota, as_json, lambda: f"{namespace}: {said}")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the limits of every namespace that has a key or a quota."""
    from packshot.domain.access import ApiKey, Quota
    from packshot.services.limits import limits_of

    with workspace() as space:
        owners = {record.namespace for kind in (ApiKey, Quota) for record in space.records.find(kind)}
        limits = {namespace: limits_of(space.records, namespace, space.limits) for namespace in sorted(owners)}
    rows = [[name, str(each.requests_per_minute), str(each.max_unfinished_jobs)] for name, each in limits.items()]
    headings = ["namespace", "requests per minute and key", "unfinished jobs"]
    show(limits, as_json, lambda: table(headings, rows) if rows else "no namespace has a key or a quota yet")


def audit(namespace: Namespace = None, as_json: Json = False) -> None:
    """Tell who promoted, rolled back, retired, removed, made or ended keys and set quotas, the oldest first."""
    with backend() as there:
        entries = there.audit(namespace)
    rows = [
        [f"{each.created_at:%Y-%m-%d %H:%M:%S}", each.namespace, each.action, each.subject, each.actor, each.reason]
        for each in entries
    ]
    headings = ["when (UTC)", "namespace", "what", "of", "who", "why"]
    show(entries, as_json, lambda: table(headings, rows) if rows else "nothing noted yet")


def usage(
    namespace: Namespace = None,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Leave out what was before this day, UTC.")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Leave out this day, UTC, and what was later.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Sum up pictures, training steps, seconds of training and of all compute and their price, per team and category."""
    ends = [end.replace(tzinfo=UTC) if end else None for end in (since, until)]
    with backend() as there:
        report = there.usage(namespace, *ends)
    show(report, as_json, lambda: _text(report))


def _text(report: "UsageReport") -> str:
    teams = report.namespaces if len(report.namespaces) > 1 else ()
    rows = [
        [
            name,
            path,
            str(cost.num_images),
            str(cost.num_steps),
            f"{cost.training_seconds:.1f}",
            f"{cost.seconds:.1f}",
            f"{cost.cost:.2f}",
        ]
        for name, path, cost in (
            *((each.namespace, each.path or "(none, or several)", each.usage) for each in report.categories),
            *((each.namespace, "all", each.usage) for each in teams),
            ("total", "", report.total),
        )
    ]
    headings = ["namespace", "category", "pictures", "training steps", "training seconds", "seconds", "cost"]
    return table(headings, rows)
