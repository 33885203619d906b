"""``packshot generate``."""

from pathlib import Path
from typing import Annotated

import typer

from packshot.cli.output import Json, Out, progress_shown, show, workspace, write_files
from packshot.domain.models import EMBEDDED_BASE


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(generate)


def generate(
    prompt: Annotated[str, typer.Argument(help='For example "sks_honeycrisp_apple on a wooden table, warm light".')],
    num_images: Annotated[int, typer.Option("-n", "--num-images", help="How many pictures.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the first picture; the next ones count up.")] = 0,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale.")] = 4.0,
    negative: Annotated[str, typer.Option(help="What the pictures should not show.")] = "",
    width: Annotated[int, typer.Option(help="Pixels; 0 = the base's own size.")] = 0,
    height: Annotated[int, typer.Option(help="Pixels; 0 = the base's own size.")] = 0,
    version: Annotated[str | None, typer.Option(metavar="PATH@VERSION", help="Instead of the serving version.")] = None,
    base: Annotated[str, typer.Option(help="The base that answers prompts without an identifier.")] = EMBEDDED_BASE,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Make pictures: the identifier in the prompt picks the fine-tune that serves it."""
    from packshot.bootstrap import code_revision
    from packshot.domain.generation import SamplingSettings
    from packshot.imaging.sheets import contact_sheet
    from packshot.services.generation import generate as make
    from packshot.services.models import fine_tune_at, register_base

    sampling = SamplingSettings(
        seed=seed,
        num_images=num_images,
        inference_steps=steps,
        guidance_scale=guidance,
        negative_prompt=negative,
        width=width,
        height=height,
    )
    with workspace() as space:
        with progress_shown() as report:
            _, images = make(
                space.records,
                space.blobs,
                space.generator,
                prompt,
                sampling,
                bare_base=lambda: register_base(space.records, space.bases.describe(base)),
                code_revision=code_revision(),
                fine_tune=fine_tune_at(space.records, version, space.settings.namespace) if version else None,
                namespace=space.settings.namespace,
                report=report,
            )
        files = {f"{image.id}.png": space.blobs.get(image.sha256) for image in images}
        if len(files) > 1:
            sheet = contact_sheet(list(files.values()), columns=min(4, len(files)), title=prompt)
            files[f"{images[0].generation_id}-sheet.png"] = sheet
        paths = write_files(out, files)
        show({"images": images, "files": [str(path) for path in paths]}, as_json, lambda: "\n".join(map(str, paths)))
