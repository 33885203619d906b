"""``packshot generate``."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.output import Json, Out, backend, progress_shown, show, write_files
from packshot.cli.templates import Set, read_variables
from packshot.domain.composition import read_box
from packshot.domain.errors import InvalidInput, InvalidVariables
from packshot.domain.generation import ANY_CATEGORY

if TYPE_CHECKING:
    from packshot.cli.backend import Backend
    from packshot.services.requests import PictureRequest


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
    model: Annotated[
        str,
        typer.Option(
            help="packshot, the identifier that the prompt is about, or PROVIDER/NAME of another's image API."
        ),
    ] = ANY_CATEGORY,
    num_images: Annotated[int, typer.Option("-n", "--num-images", help="How many pictures.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed of the first picture (0); the next ones count up.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps (20).")] = None,
    guidance: Annotated[float | None, typer.Option(help="Classifier-free guidance scale (4).")] = None,
    negative: Annotated[str | None, typer.Option(help="What the pictures should not show.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; 0 = the base's own size.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; 0 = the base's own size.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="ddim, euler, dpmsolver++ or flow-match-euler; the base's own by default.")
    ] = None,
    layout: Annotated[Path | None, typer.Option(metavar="PICTURE", help="A picture whose composition is kept.")] = None,
    strength: Annotated[float | None, typer.Option(help="How far from the layout they go: 0 to 1 (0.6).")] = None,
    boxes: Annotated[
        list[str] | None,
        typer.Option(
            "--box",
            metavar="LEFT,TOP,RIGHT,BOTTOM",
            help="Where a subject of the prompt stands, as shares of the picture; once for each, in order of mention.",
        ),
    ] = None,
    version: Annotated[str | None, typer.Option(metavar="PATH@VERSION", help="Instead of the serving version.")] = None,
    base: Annotated[
        str | None, typer.Option(help="The base that answers prompts without an identifier (embedded).")
    ] = None,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Make pictures: the identifier in the prompt picks the fine-tune that serves it.

    Several identifiers are composed, each in its --box, or in equal columns from left to right.

    A negative prompt and a size given here go before those of the template.
    """
    from packshot.imaging.sheets import contact_sheet

    variables = read_variables(settings)
    if variables and not template:
        raise InvalidVariables("--set gives values to the variables of a template; name one with --template")
    values = {
        "seed": seed,
        "inference_steps": steps,
        "guidance_scale": guidance,
        "negative_prompt": negative,
        "width": width,
        "height": height,
        "scheduler": scheduler,
        "strength": strength,
    }
    given = {name: value for name, value in values.items() if value is not None}
    with backend() as there:
        request = _request(there, prompt, model, template, version)
        if layout:
            given["layout"] = there.keep_layout(layout)
        placed = [read_box(box) for box in boxes or []]
        request = replace(
            request, base=base, boxes=placed, variables=variables, settings={"num_images": num_images, **given}
        )
        with progress_shown() as report:
            made = there.generate(request, report)
    files = {f"{image.id}.png": png for image, png in zip(made.images, made.pngs, strict=True)}
    if len(files) > 1:
        sheet = contact_sheet(made.pngs, columns=min(4, len(files)), title=made.prompt)
        files[f"{made.images[0].generation_id}-sheet.png"] = sheet
    paths = write_files(out, files)
    show({"images": made.images, "files": [str(path) for path in paths]}, as_json, lambda: "\n".join(map(str, paths)))


def _request(there: "Backend", subject: str, model: str, template: str | None, version: str | None) -> "PictureRequest":
    """A request whose model and version are those of the category that ``version`` or the subject of a template names."""
    from packshot.services.models import split_version, version_among
    from packshot.services.requests import PictureRequest

    path, _ = split_version(version) if version else (subject if template else None, None)
    number = None
    if path:
        summary = there.category(path)
        if model not in (ANY_CATEGORY, summary.category.identifier):
            raise InvalidInput(f"--model {model} and {path} are two subjects; leave --model out")
        model = summary.category.identifier
        number = version_among(summary.fine_tunes, version).version if version else None
    return PictureRequest(prompt=None if template else subject, model=model, template=template, version=number)
