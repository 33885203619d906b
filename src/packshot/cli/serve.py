"""``packshot serve``."""

from typing import Annotated

import typer

from packshot.cli.output import interruptible, say, workspace


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(serve)


def serve(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 = any free port.")] = 8000,
    dev: Annotated[bool, typer.Option("--dev", help="Callers on this machine need no key.")] = False,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Worker processes beside the server.")] = 1,
) -> None:
    """Answer the HTTP API, with worker processes for its jobs, until Ctrl-C or SIGTERM.

    Then open requests are answered, and workers stop after their step: what was done is kept.
    """
    from packshot.domain.access import ApiKey
    from packshot.web.app import create_app
    from packshot.web.server import listen
    from packshot.web.server import serve as answer

    with workspace() as space, interruptible(), listen(host, port, dev=dev) as listening:
        if not dev and not any(key.revoked_at is None for key in space.records.find(ApiKey)):
            say("no API key is valid, so nobody is answered; make one with: packshot key create NAME --scope SCOPE")
        _ = space.inscribe  # what cannot sign should not begin
        with space.workers(workers), space.courier():
            name = f"[{host}]" if ":" in host else host
            say(f"listening on http://{name}:{listening.getsockname()[1]} with {workers} workers")
            answer(create_app(space, dev=dev), listening)
        say("stopped")
