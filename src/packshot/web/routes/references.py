"""``/v1/categories/{identifier}/references``: photos in, a report and frozen sets out."""

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response, UploadFile

from packshot.domain.errors import InvalidInput, UploadRefused
from packshot.domain.references import ReferenceImage, ReferenceSet, Rights
from packshot.imaging.folders import Photo, read_photos
from packshot.imaging.uploads import MAX_FILES, Intake
from packshot.services.fetching import fetch_photos
from packshot.services.references import add_references, check_references, freeze_references
from packshot.web.replies import Idempotent, MayRead, MayTrain
from packshot.web.routes.categories import Called
from packshot.web.schemas import PhotosByUrl, References

router = APIRouter(prefix="/categories/{identifier}/references", tags=["references"])


@router.post(
    "",
    status_code=201,
    response_model=list[ReferenceImage],
    form_limits={"max_files": MAX_FILES, "max_fields": 10},
)
def add_reference_photos(
    files: list[UploadFile],
    category: Called,
    call: MayTrain,
    once: Idempotent,
    request: Request,
    source: Annotated[str, Form(max_length=500, description="Where the photos come from.")] = "",
    license: Annotated[str, Form(max_length=200, description="The licence they may be used under.")] = "",
) -> Response:
    """Take in photos; each is accepted, or refused with a reason.

    Files are photos, or zip archives of them, with captions (``01.txt`` or ``metadata.jsonl``) and masks
    (``01_mask.png``) beside them where there are some. Files that are no pictures by name are passed over.
    """
    locks: dict[str, threading.Lock] = request.app.state.intake_locks
    with TemporaryDirectory(prefix="packshot-") as folder:
        intake = Intake(Path(folder))
        for file in files:
            intake.take(file.filename or "", file.file)
        photos = _photos(Path(folder))
        rights = Rights(source=source, license=license)

        def act() -> list[ReferenceImage]:
            return add_references(call.records, call.space.blobs, category, photos, rights)

        # Photos of one category are compared with each other, so they come in one upload after the other. A photo
        # that is there already is not taken in again, so the deed may be repeated: no need to hold the database.
        with locks.setdefault(category.id, threading.Lock()):
            return once([intake.digest(), source, license], act, status=201, atomic=False)


@router.post("/urls", status_code=201, response_model=list[ReferenceImage])
def add_photos_by_url(
    body: PhotosByUrl, category: Called, call: MayTrain, once: Idempotent, request: Request
) -> Response:
    """Fetch photos and take them in; each is accepted, or refused with a reason, as those that cannot be fetched.

    The reply comes when all are fetched. After 60 seconds no further photo is begun; those that are left may be sent again.
    """
    locks: dict[str, threading.Lock] = request.app.state.intake_locks
    rights = Rights(source=body.source, license=body.license)

    def act() -> list[ReferenceImage]:
        with TemporaryDirectory(prefix="packshot-") as folder:
            photos = fetch_photos(call.space.fetcher, body.urls, Path(folder), body.captions)
            with locks.setdefault(category.id, threading.Lock()):
                return add_references(call.records, call.space.blobs, category, photos, rights)

    with locks.setdefault(f"{category.id} urls", threading.Lock()):  # uploads need not wait for what is far away
        return once(body, act, status=201, atomic=False)


def _photos(folder: Path) -> list[Photo]:
    try:
        return read_photos([folder])
    except InvalidInput as error:
        raise UploadRefused(str(error).replace(str(folder), "the upload")) from error


@router.get("")
def report_references(category: Called, call: MayRead) -> References:
    """The curation report."""
    report = check_references(call.records, category)
    return References(images=list(report.images), advice=list(report.advice), freezable=report.freezable)


@router.post("/freeze", status_code=201, response_model=ReferenceSet)
def freeze(category: Called, call: MayTrain, once: Idempotent) -> Response:
    """Freeze the accepted photos into an immutable, hashed set."""
    return once("", lambda: freeze_references(call.records, category), status=201)
