"""``packshot key``: the commands of API keys."""

from typing import Annotated

import typer

from packshot.cli.output import Json, operator, say, show, table, workspace

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke the keys of the HTTP API.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Who uses it, for example 'web shop'.")],
    scope: Annotated[list[str], typer.Option(help="read, generate, train or admin; repeatable.")],
    namespace: Annotated[str | None, typer.Option(help="The team's namespace; PACKSHOT_NAMESPACE without it.")] = None,
    as_json: Json = False,
) -> None:
    """Make a key. Its secret goes to stdout, once; only a digest of it is kept."""
    from packshot.domain.access import AuditAction
    from packshot.services.access import create_key
    from packshot.services.audit import audited

    with workspace() as space:
        team = namespace or space.settings.namespace
        subject = f"{name}: {', '.join(scope)}"
        with audited(space.records, operator(), AuditAction.CREATE_KEY, namespace=team, subject=subject):
            key, secret = create_key(space.records, name=name, namespace=team, scopes=scope)
        say(f"key {key.id} for the namespace {key.namespace}; its secret is shown this once")
        show({"key": key, "secret": secret}, as_json, lambda: secret)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the keys of all namespaces, the revoked too."""
    from packshot.domain.access import ApiKey

    with workspace() as space:
        keys = space.records.find(ApiKey)
    rows = [
        [key.id, key.name, key.namespace, " ".join(key.scopes), f"{key.created_at:%Y-%m-%d}", _state(key.revoked_at)]
        for key in keys
    ]
    headings = ["key", "name", "namespace", "scopes", "made", "state"]
    show(
        keys,
        as_json,
        lambda: table(headings, rows) if rows else "no key yet; make one with: packshot key create NAME --scope SCOPE",
    )


@app.command()
def revoke(key: Annotated[str, typer.Argument(metavar="KEY-ID")], as_json: Json = False) -> None:
    """End a key for good."""
    from packshot.domain.access import ApiKey, AuditAction
    from packshot.services.access import revoke_key
    from packshot.services.audit import audited

    with workspace() as space:
        known = space.records.get(ApiKey, key)
        subject = f"{known.id} ({known.name})"
        with audited(space.records, operator(), AuditAction.REVOKE_KEY, namespace=known.namespace, subject=subject):
            revoked = revoke_key(space.records, key)
        show(revoked, as_json, lambda: f"{revoked.id} ({revoked.name}) is revoked")


def _state(revoked_at: object) -> str:
    return "revoked" if revoked_at else "valid"
