"""``packshot batch``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from packshot.cli.estimates import estimate_text, failures_text
from packshot.cli.output import Json, Out, say, show, workspace, write_files
from packshot.cli.templates import Set, read_variables
from packshot.cli.training_several import carry_through

if TYPE_CHECKING:
    from packshot.bootstrap import Workspace
    from packshot.domain.batches import Batch


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
    from packshot.bootstrap import code_revision
    from packshot.domain.generation import SamplingSettings
    from packshot.services.batches import BatchRequest, estimate_batch, failures_of, items_of, plan_batch
    from packshot.services.catalog import category_named
    from packshot.services.jobs import check_succeeded
    from packshot.services.templates import template_at

    own = {"negative_prompt": negative, "width": width, "height": height}
    given = {name: value for name, value in own.items() if value is not None}
    sampling = SamplingSettings(
        seed=seed,
        num_images=num_images,
        inference_steps=steps,
        guidance_scale=guidance,
        scheduler=scheduler,
        **given,  # type: ignore[arg-type]
    )
    with workspace() as space:
        namespace = space.settings.namespace
        request = BatchRequest(
            categories=[category_named(space.records, path, namespace) for path in paths],
            templates=[template_at(space.records, each, namespace) for each in template],
            variables=read_variables(settings),
            sampling=sampling,
            own_settings=list(given),
            namespace=namespace,
        )
        if dry_run:
            estimate = estimate_batch(space.records, request, price_per_hour=space.settings.price_per_hour)
            show(estimate, as_json, lambda: estimate_text(estimate))
            return
        plan = plan_batch(space.records, request, code_revision(), admit=lambda: space.check_room(namespace))
        if plan.resumed:
            say(f"going on with batch {plan.batch.id}")
        job = carry_through(space, plan.job.id)
        written = _write(space, plan.batch, out, zipped=zipped) if job.finished else []
        failures = failures_of(items_of(space.records, plan.batch))
        if failures and job.finished:
            say(failures_text(failures))
        check_succeeded(job)
        files = [str(path) for path in written]
        show(
            {"batch": plan.batch, "failures": failures, "files": files},
            as_json,
            lambda: "\n".join(files),
        )
    if failures:
        raise typer.Exit(1)


def _write(space: "Workspace", batch: "Batch", out: Path, *, zipped: bool) -> list[Path]:
    """Put the manifest, the sheet and the pictures of ``batch`` into ``out``, picture by picture."""
    from tempfile import TemporaryFile

    from packshot.services.manifests import batch_sheet, manifest_csv, manifest_jsonl, pictures, write_zip

    files = {
        "manifest.jsonl": manifest_jsonl(space.records, batch).encode(),
        "manifest.csv": manifest_csv(space.records, batch).encode(),
    }
    made = pictures(space.records, batch)
    if made:
        files["sheet.png"] = batch_sheet(space.records, space.blobs, batch)
    if made and zipped:
        with TemporaryFile() as archive:
            write_zip(space.records, space.blobs, batch, archive)
            archive.seek(0)
            files["pictures.zip"] = archive.read()
    written = write_files(out, files)
    for name, image in () if zipped else made:
        folder, _, file = name.rpartition("/")
        written += write_files(out / folder, {file: space.blobs.get(image.sha256)})
    return written
