"""``packshot batch``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.backend import BatchAsked, MadeBatch
from packshot.cli.estimates import estimate_text, failures_text
from packshot.cli.output import Json, Out, backend, say, show, write_files
from packshot.cli.templates import Set, read_variables

if TYPE_CHECKING:
    from packshot.services.estimates import Failure


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command()(batch)


def batch(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Categories, by path or identifier.")],
    template: Annotated[list[str], typer.Option(metavar="NAME[@VERSION]", help="A scene template; repeatable.")],
    settings: Set = None,
    num_images: Annotated[int, typer.Option("-n", "--num-images", help="Pictures per category and template.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the first picture of each; the next ones count up.")] = 0,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 20,
    guidance: Annotated[float, typer.Option(help="Classifier-free guidance scale.")] = 4.0,
    negative: Annotated[str | None, typer.Option(help="Instead of the templates' negative prompts.")] = None,
    width: Annotated[
        int | None, typer.Option(help="Pixels instead of the templates'; 0 = the base's own size.")
    ] = None,
    height: Annotated[
        int | None, typer.Option(help="Pixels instead of the templates'; 0 = the base's own size.")
    ] = None,
    scheduler: Annotated[
        str, typer.Option(help="ddim, euler, dpmsolver++ or flow-match-euler; the base's own by default.")
    ] = "",
    zipped: Annotated[bool, typer.Option("--zip", help="One pictures.zip instead of a file for each picture.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything and say what it would cost.")] = False,
    out: Out = Path("out"),
    as_json: Json = False,
) -> None:
    """Make pictures of every category in every scene, with a manifest and a contact sheet.

    A category that cannot be answered does not stop the others; then the exit code is 1. The same command again goes
    on where a killed or interrupted batch stopped.
    """
    own = {"negative_prompt": negative, "width": width, "height": height}
    asked = BatchAsked(
        paths=paths,
        templates=template,
        variables=read_variables(settings),
        settings={
            "seed": seed,
            "num_images": num_images,
            "inference_steps": steps,
            "guidance_scale": guidance,
            "scheduler": scheduler,
        },
        own={name: value for name, value in own.items() if value is not None},
    )
    with backend() as there:
        if dry_run:
            estimate = there.estimate_batch(asked)
            show(estimate, as_json, lambda: estimate_text(estimate))
            return
        made = there.make_batch(asked)
        written = _write(made, out, zipped=zipped)
    failures = _failures(made)
    if failures:
        say(failures_text(failures))
    if made.error:
        raise made.error
    files = [str(path) for path in written]
    show({"batch": made.batch, "failures": failures, "files": files}, as_json, lambda: "\n".join(files))
    if failures:
        raise typer.Exit(1)


def _failures(made: MadeBatch) -> "list[Failure]":
    from packshot.services.estimates import Failure

    return [
        Failure(category=line.category, template=line.template, error=line.error, message=line.message)
        for line in made.lines
        if line.error
    ]


def _write(made: MadeBatch, out: Path, *, zipped: bool) -> list[Path]:
    """Put the manifest, the sheet and the pictures into ``out``, picture by picture."""
    from packshot.services.manifests import manifest_csv, manifest_jsonl

    files = {"manifest.jsonl": manifest_jsonl(made.lines).encode(), "manifest.csv": manifest_csv(made.lines).encode()}
    pictures = [line for line in made.lines if line.file]
    if pictures:
        files["sheet.png"] = made.sheet()
    if pictures and zipped:
        files["pictures.zip"] = made.archive()
    written = write_files(out, files)
    for line in () if zipped else pictures:
        folder, _, file = line.file.rpartition("/")
        written += write_files(out / folder, {file: made.picture(line)})
    return written
