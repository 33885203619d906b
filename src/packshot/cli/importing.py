"""``packshot import``."""

from pathlib import Path
from typing import Annotated

import typer

from packshot.cli.catalog import Path_
from packshot.cli.output import Json, show, workspace
from packshot.domain.training_choices import Method


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command("import")(import_)


def import_(
    path: Path_,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE…|FOLDER",
            help="safetensors files of one fine-tune (adapters, embeddings), or a folder with them or with a pipeline.",
        ),
    ],
    base: Annotated[
        str,
        typer.Option(help="embedded, a diffusers folder, or a hub id; without it, what the files name, or embedded."),
    ] = "",
    trigger: Annotated[
        str, typer.Option(help="The words that it was trained with, such as 'ohwx apple', where the files do not say.")
    ] = "",
    method: Annotated[
        Method | None, typer.Option(help="What it is called where the files leave that open: pivotal or lora.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take a fine-tune that another tool wrote, or a packshot export, in as the next version of a category."""
    from packshot.bootstrap import code_revision
    from packshot.services.catalog import category_at
    from packshot.services.importing import import_fine_tune

    with workspace() as space:
        fine_tune = import_fine_tune(
            space.records,
            space.blobs,
            space.bases,
            space.importer,
            category_at(space.records, path, space.settings.namespace),
            files,
            base=base,
            trigger=trigger,
            method=method,
            code_revision=code_revision(),
        )
        show(
            fine_tune,
            as_json,
            lambda: (
                f"{path}@{fine_tune.version}: {fine_tune.method}, answers to {fine_tune.trained_phrase!r}; "
                f"look at it with: packshot evaluate {path}@{fine_tune.version}"
            ),
        )
