"""``packshot base``: the commands of base models."""

from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.output import Json, backend, show, table, workspace

if TYPE_CHECKING:
    from packshot.domain.models import BaseModelRef

app = typer.Typer(no_args_is_help=True, help="Register, list and show base models.")


@app.command()
def add(
    source: Annotated[str, typer.Argument(metavar="REF", help="embedded, a diffusers folder, or a hub id.")],
    revision: Annotated[str, typer.Option(help="A branch, tag or commit of a hub id.")] = "",
    as_json: Json = False,
) -> None:
    """Examine a base model and register it; a hub's model is fetched. Not on a server: its operator does that there."""
    from packshot.services.models import register_base, with_prediction_type

    with workspace() as space:
        base = with_prediction_type(space.bases, register_base(space.records, space.bases.describe(source, revision)))
        show(
            base,
            as_json,
            lambda: (
                f"{base.source}: {base.family}, {base.resolution} px, predicts {base.prediction_type}, "
                f"digest {base.digest[:12]}"
            ),
        )


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the registered base models."""
    with backend() as there:
        bases = there.bases()

    def text() -> str:
        if not bases:
            return "no base registered yet; training registers its own, or: packshot base add REF"
        rows = [
            [
                _name(base),
                base.family,
                f"{base.resolution} px",
                base.prediction_type or "-",
                base.digest[:12],
                f"{base.registered_at:%Y-%m-%d %H:%M}",
            ]
            for base in bases
        ]
        return table(["source", "family", "resolution", "predicts", "digest", "registered"], rows)

    show(bases, as_json, text)


@app.command("show")
def show_(
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="A source as it was added, an id, or the beginning of a digest.")
    ],
    as_json: Json = False,
) -> None:
    """Show one registered base model and the fine-tunes that were trained on it."""
    from packshot.services.models import base_among

    with backend() as there:
        base = base_among(there.bases(), reference)
        fine_tunes = there.trained_on(base)
    lines = [
        f"source      {_name(base)}",
        f"id          {base.id}",
        f"family      {base.family}",
        f"resolution  {base.resolution} px",
        f"predicts    {base.prediction_type or 'unknown: the registered files are not at hand, or have changed'}",
        f"digest      {base.digest}",
        f"registered  {base.registered_at:%Y-%m-%d %H:%M:%S} UTC",
        f"fine-tunes  {', '.join(fine_tunes) or 'none'}",
    ]
    show({**vars(base), "fine_tunes": fine_tunes}, as_json, lambda: "\n".join(lines))


def _name(base: "BaseModelRef") -> str:
    return f"{base.source}@{base.revision[:12]}" if base.revision else base.source
