"""``packshot references``: take photos in and out, report on them, freeze a set."""

from pathlib import Path
from typing import Annotated

import typer

from packshot.cli.catalog import Path_
from packshot.cli.output import Json, backend, operator, show, table, workspace

app = typer.Typer(no_args_is_help=True, help="Collect, check and freeze reference photos.")


@app.command()
def add(
    path: Path_,
    photos: Annotated[
        list[str], typer.Argument(metavar="FOLDER|FILE|URL...", help="Folders, image files or URLs of them.")
    ],
    source: Annotated[str, typer.Option(help="Where the photos come from; URLs are noted anyway.")] = "",
    license_: Annotated[str, typer.Option("--license", help="The licence they may be used under.")] = "",
    as_json: Json = False,
) -> None:
    """Take in photos; each is accepted, or refused with a reason. Exit code 1 when none is accepted."""
    urls = [photo for photo in photos if photo.lower().startswith(("http://", "https://"))]
    files = [Path(photo) for photo in photos if photo not in urls]
    with backend() as there:
        taken = there.add_references(path, files, urls, source, license_)

        def text() -> str:
            accepted = sum(image.accepted for image in taken)
            refusals = [
                f"  {image.file_name}: {image.refusal}: {image.explanation}" for image in taken if image.refusal
            ]
            return "\n".join([f"{accepted} accepted, {len(refusals)} refused", *refusals])

        show(taken, as_json, text)
        if not any(image.accepted for image in taken):
            raise typer.Exit(1)


@app.command()
def check(path: Path_, as_json: Json = False) -> None:
    """The curation report: every photo with its verdict, and what would make the set better."""
    with backend() as there:
        report = there.check_references(path)

        def text() -> str:
            rows = [
                [
                    image.file_name,
                    "accepted" if image.accepted else "withdrawn" if image.withdrawn else f"refused: {image.refusal}",
                    f"{image.width}x{image.height}" if image.width else "-",
                    "yes" if image.mask else "-",
                    image.explanation or image.caption,
                ]
                for image in report.images
            ]
            advice = [f"advice: {each}" for each in report.advice]
            num_accepted = sum(image.accepted for image in report.images)
            ready = f"{num_accepted} accepted; " + ("ready to freeze" if report.freezable else "not ready to freeze")
            return "\n".join([table(["photo", "verdict", "size", "mask", "about"], rows), "", ready, *advice])

        show(report, as_json, text)


@app.command()
def remove(
    path: Path_,
    names: Annotated[list[str], typer.Argument(metavar="IMAGE-ID|FILE-NAME...", help="Photos of the category.")],
    as_json: Json = False,
) -> None:
    """Take photos out of the next set. Sets that were frozen with them keep them; adding a photo takes it in again."""
    from packshot.domain.access import AuditAction
    from packshot.services.audit import audited
    from packshot.services.catalog import category_at
    from packshot.services.references import remove_references

    with workspace() as space:
        category = category_at(space.records, path, space.settings.namespace)
        subject, team = f"{path}: {', '.join(names)}", category.namespace
        with audited(space.records, operator(), AuditAction.REMOVE_REFERENCES, namespace=team, subject=subject):
            removed = remove_references(space.records, space.blobs, category, names)
        show(
            removed,
            as_json,
            lambda: "\n".join(
                f"{image.file_name} is {'withdrawn' if image.withdrawn else 'removed'}" for image in removed
            ),
        )


@app.command()
def caption(
    path: Path_,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--setting", help="Where a photo may have been taken; repeatable. Shops, tables, grounds otherwise."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Give photos without a caption one that names where they were taken, as the judge sees it."""
    from packshot.domain.references import SETTINGS
    from packshot.services.catalog import category_at
    from packshot.services.references import caption_references

    with workspace() as space:
        category = category_at(space.records, path, space.settings.namespace)
        captioned = caption_references(space.records, space.blobs, space.judge, category, settings or SETTINGS)
        show(
            captioned,
            as_json,
            lambda: (
                table(["photo", "caption"], [[image.file_name, image.caption] for image in captioned])
                if captioned
                else "every accepted photo has a caption"
            ),
        )


@app.command()
def freeze(path: Path_, as_json: Json = False) -> None:
    """Freeze the accepted photos into an immutable, hashed set."""
    with backend() as there:
        frozen = there.freeze_references(path)
        show(
            frozen,
            as_json,
            lambda: (
                f"{path} set {frozen.version}: {len(frozen.image_ids)} photos, "
                f"{len(frozen.held_out_ids)} of them held out for evaluation, digest {frozen.digest[:12]}"
            ),
        )
