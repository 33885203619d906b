"""``packshot verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.output import Json, show, workspace
from packshot.domain.errors import InvalidInput

if TYPE_CHECKING:
    from packshot.services.provenance import Provenance


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(verify)


def verify(file: Annotated[Path, typer.Argument(help="A picture file.")], as_json: Json = False) -> None:
    """Say what made a picture, whether it is still what was made, and where it comes from.

    Exit code 1 unless this workspace made the picture and its pixels are unchanged.
    """
    from packshot.imaging.decode import MAX_FILE_BYTES
    from packshot.services.provenance import verify as find_out

    try:
        if file.stat().st_size > MAX_FILE_BYTES:
            raise InvalidInput(f"{file} has more than {MAX_FILE_BYTES} bytes, which no picture of Packshot has")
        data = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {file} ({error.strerror})") from error
    with workspace() as space:
        found = find_out(space.records, space.blobs, data)
    show(found, as_json, lambda: _text(file, found))
    if not found.ours:
        raise typer.Exit(1)


def _text(file: Path, found: "Provenance") -> str:
    from packshot.cli.models import lineage_text

    declared = "trainedAlgorithmicMedia (made by a model)" if found.declared_generated else "not declared"
    lines = [
        f"{file}: {found.finding}; {found.explanation}",
        f"sha256      {found.sha256}",
        f"source type {declared}",
    ]
    if found.recipe is not None:
        state = "whole" if found.recipe_whole else "NOT as it was written"
        fits = "whole" if found.pixels_whole else "NOT those of the recipe"
        lines += [f"recipe      {state}", f"pixels      {fits}"]
        lines += [f"  {key}: {value}" for key, value in found.recipe.items() if value is not None]
    if found.lineage:
        lines.append(lineage_text(found.lineage, {}))
    return "\n".join(lines)
