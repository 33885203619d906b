"""``packshot presets``: what ``--preset`` stands for."""

from typing import Annotated

import typer

from packshot.cli.output import Json, show, table, workspace
from packshot.domain.models import EMBEDDED_BASE


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(presets)


def presets(
    base: Annotated[str, typer.Option(help="embedded, a diffusers folder, or a hub id.")] = EMBEDDED_BASE,
    as_json: Json = False,
) -> None:
    """The presets of every method for a base, and where their figures are from."""
    from packshot.domain.presets import preset_lines

    with workspace() as space:
        described = space.bases.describe(base)
        lines = preset_lines(base_resolution=described.resolution, family=described.family)
        rows = [
            [
                each.method,
                each.preset,
                f"auto, {each.config.steps} at most" if each.config.choose_steps else each.config.steps,
                each.config.batch_size * each.config.gradient_accumulation_steps,
                each.config.rank,
                each.config.num_class_images if each.config.uses_prior_preservation else 0,
                each.source,
            ]
            for each in lines
        ]
        headings = ["method", "preset", "steps", "batch", "rank", "class images", "figures from"]
        show(lines, as_json, lambda: table(headings, rows))
