"""``packshot export``."""

from pathlib import Path
from typing import Annotated

import typer

from packshot.cli.models import Versioned
from packshot.cli.output import Json, show, workspace
from packshot.domain.models import ExportFormat


def register(app: typer.Typer) -> None:
    """Add this module's command to ``app``."""
    app.command()(export)


def export(
    reference: Versioned,
    form: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="diffusers (load_lora_weights, load_textual_inversion, from_pretrained), kohya (ComfyUI, A1111), or "
            "safetensors: the file as it is stored.",
        ),
    ] = ExportFormat.DIFFUSERS,
    out: Annotated[Path, typer.Option(help="Where the files are written.")] = Path("out"),
    as_json: Json = False,
) -> None:
    """Write a fine-tune as files that other tools read."""
    from packshot.services.export import export_fine_tune
    from packshot.services.models import fine_tune_at

    with workspace() as space:
        fine_tune = fine_tune_at(space.records, reference, space.settings.namespace)
        written = export_fine_tune(space.records, space.blobs, space.exporter, fine_tune, form, out)
        files = [str(path) for path in written]
        show(
            {"files": files, "trigger_phrase": fine_tune.trained_phrase},
            as_json,
            lambda: "\n".join([*files, f"its prompts name the product {fine_tune.trained_phrase!r}"]),
        )
