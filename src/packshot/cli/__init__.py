"""The command line: parse, call a service, print. Exit codes: 0 done, 1 failed, 2 wrong usage.

Commands import what they need when they run, so that ``packshot --help`` answers at once.
"""

import json
import sys

import typer

from packshot import __version__
from packshot.cli import (
    access,
    bases,
    batches,
    catalog,
    compression,
    demo,
    export,
    generation,
    importing,
    jobs,
    models,
    presets,
    provenance,
    references,
    serve,
    teams,
    templates,
    training,
    training_report,
)
from packshot.cli.output import Json, chosen_server, say, show, workspace
from packshot.domain.errors import Interrupted, InvalidInput, PackshotError

app = typer.Typer(
    name="packshot",
    help="A fine-tuned text-to-image model per product category, and pictures of exactly that product in any scene.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(catalog.app, name="category")
app.add_typer(references.app, name="references")
app.add_typer(bases.app, name="base")
app.add_typer(templates.app, name="template")
app.add_typer(jobs.app, name="job")
app.add_typer(access.app, name="key")
app.add_typer(teams.app, name="quota")
for module in (
    training,
    training_report,
    presets,
    models,
    export,
    importing,
    compression,
    generation,
    batches,
    provenance,
    demo,
    serve,
    teams,
):
    module.register(app)


@app.command()
def init(as_json: Json = False) -> None:
    """Make the workspace (PACKSHOT_HOME, default ./.packshot), or bring an older one up to date."""
    with workspace(create=True) as space:
        show({"home": str(space.home)}, as_json, lambda: f"workspace {space.home}")


def _print_version(asked: bool) -> None:
    if asked:
        print(f"packshot {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version.", callback=_print_version, is_eager=True),
    server: str = typer.Option(
        "", metavar="URL", help="Work on this server (with PACKSHOT_API_KEY), not in a workspace."
    ),
) -> None:
    chosen_server.set(server)
    from packshot.bootstrap import launched
    from packshot.settings import read_settings

    if launched()[1] > 1 and (context.invoked_subcommand != "train" or server or read_settings().server):
        raise InvalidInput(
            "several processes were launched; what they can share is packshot train without --server, so launch one"
        )
    if context.invoked_subcommand in ("serve", "worker"):
        from packshot.logs import configure_logs

        configure_logs(read_settings())


def main() -> None:
    """Run the command line; errors that Packshot raises on purpose become a message and an exit code."""
    try:
        app()
    except PackshotError as error:
        if "--json" in sys.argv:
            print(json.dumps({"error": type(error).__name__, "message": str(error)}), file=sys.stderr)
        else:
            say(f"{'interrupted' if isinstance(error, Interrupted) else 'error'}: {error}")
        sys.exit(2 if isinstance(error, InvalidInput) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
