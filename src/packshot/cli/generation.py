"""``packshot generate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.output import Json, Out, progress_shown, show, workspace, write_files
from packshot.cli.templates import Set, read_variables
from packshot.domain.errors import InvalidInput, InvalidVariables
from packshot.domain.models import EMBEDDED_BASE

if TYPE_CHECKING:
    from packshot.bootstrap import Workspace
    from packshot.domain.catalog import Category
    from packshot.domain.templates import RenderedScene, Template


@dataclass(frozen=True)
class _Rendered:
    template: "Template"
    category: "Category"
    scene: "RenderedScene"


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(generate)


def generate(
    prompt: Annotated[
        str,
        typer.Argument(
            help='For example "sks_honeycrisp_apple on a wooden table, warm light"; with --template a path or identifier.'
        ),
    ],
    template: Annotated[
        str | None, typer.Option(metavar="NAME[@VERSION]", help="The scene template that makes the prompt.")
    ] = None,
    settings: Set = None,
    num_images: Annotated[int, typer.Option("-n", "--num-images", help="How many pictures.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the first picture; the next ones count up.")] = 0,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale.")] = 4.0,
    negative: Annotated[str | None, typer.Option(help="What the pictures should not show.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; 0 = the base's own size.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; 0 = the base's own size.")] = None,
    scheduler: Annotated[
        str, typer.Option(help="ddim, euler, dpmsolver++ or flow-match-euler; the base's own by default.")
    ] = "",
    layout: Annotated[Path | None, typer.Option(metavar="PICTURE", help="A picture whose composition is kept.")] = None,
    strength: Annotated[float, typer.Option(help="How far from the layout they go: 0 to 1.")] = 0.6,
    version: Annotated[str | None, typer.Option(metavar="PATH@VERSION", help="Instead of the serving version.")] = None,
    base: Annotated[str, typer.Option(help="The base that answers prompts without an identifier.")] = EMBEDDED_BASE,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Make pictures: the identifier in the prompt picks the fine-tune that serves it.

    A negative prompt and a size given here go before those of the template.
    """
    from packshot.bootstrap import code_revision
    from packshot.domain.generation import SamplingSettings
    from packshot.imaging.sheets import contact_sheet
    from packshot.services.generation import generate as make
    from packshot.services.generation import keep_layout
    from packshot.services.models import fine_tune_at, register_base

    variables = read_variables(settings)
    if variables and not template:
        raise InvalidVariables("--set gives values to the variables of a template; name one with --template")
    own = {"negative_prompt": negative, "width": width, "height": height}
    given = {name: value for name, value in own.items() if value is not None}
    with workspace() as space:
        chosen = _rendered(space, template, prompt, variables) if template else None
        sampling = SamplingSettings(
            seed=seed,
            num_images=num_images,
            inference_steps=steps,
            guidance_scale=guidance,
            scheduler=scheduler,
            layout=keep_layout(space.blobs, _read(layout), layout.name) if layout else "",
            strength=strength,
            **given,  # type: ignore[arg-type]
        )
        if chosen:
            sampling = chosen.scene.completing(sampling, given)
        text = chosen.scene.prompt if chosen else prompt
        with progress_shown() as report:
            _, images = make(
                space.records,
                space.blobs,
                space.generator,
                text,
                sampling,
                bare_base=lambda: register_base(space.records, space.bases.describe(base)),
                code_revision=code_revision(),
                fine_tune=fine_tune_at(space.records, version, space.settings.namespace) if version else None,
                category=chosen.category if chosen else None,
                template=chosen.template if chosen else None,
                namespace=space.settings.namespace,
                inscribe=space.inscribe,
                report=report,
            )
        files = {f"{image.id}.png": space.blobs.get(image.sha256) for image in images}
        if len(files) > 1:
            sheet = contact_sheet(list(files.values()), columns=min(4, len(files)), title=text)
            files[f"{images[0].generation_id}-sheet.png"] = sheet
        paths = write_files(out, files)
        show({"images": images, "files": [str(path) for path in paths]}, as_json, lambda: "\n".join(map(str, paths)))


def _read(picture: Path) -> bytes:
    try:
        return picture.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{picture} cannot be read ({error.strerror}); check the path") from error


def _rendered(space: "Workspace", reference: str, name: str, variables: dict[str, str]) -> _Rendered:
    """The template ``reference`` around the category that ``name`` (a path or an identifier) means."""
    from packshot.services.catalog import category_named
    from packshot.services.templates import render_for, template_at

    template = template_at(space.records, reference, space.settings.namespace)
    category = category_named(space.records, name, space.settings.namespace)
    return _Rendered(template, category, render_for(template, category, variables))
