"""``packshot verify``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.output import Json, show, workspace
from packshot.domain.errors import InvalidInput

if TYPE_CHECKING:
    from packshot.domain.credentials import Credentials
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
        found = find_out(space.records, space.blobs, data, space.read_credentials)
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
        f"credentials {_credentials_text(found.credentials)}",
    ]
    if found.recipe is not None:
        state = "whole" if found.recipe_whole else "NOT as it was written"
        fits = "whole" if found.pixels_whole else "NOT those of the recipe"
        lines += [f"recipe      {state}", f"pixels      {fits}"]
        lines += [f"  {key}: {value}" for key, value in found.recipe.items() if value is not None]
    if found.lineage:
        lines.append(lineage_text(found.lineage, {}))
    return "\n".join(lines)


def _credentials_text(found: "Credentials | None") -> str:
    if found is None:
        return "none (not signed, or the signature was taken out)"
    if not found.whole:
        return f"NOT whole ({', '.join(found.problems)}): the file is not as {found.signed_by} signed it"
    trust = (
        "a trusted root vouches for the certificate" if found.trusted else "no trusted root vouches for the certificate"
    )
    says = "made by a model" if found.declared_generated else "nothing of a model"
    return f"whole, signed by {found.signed_by}, made with {found.generator}; {says}; {trust}"
