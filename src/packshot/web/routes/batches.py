"""``/v1/batches``: many categories in many scenes as one job, with a manifest, a zip and a sheet of what was made."""

from collections.abc import Iterator
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import IO, Annotated, Any

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse

from packshot.bootstrap import code_revision
from packshot.domain.batches import Batch
from packshot.domain.generation import SamplingSettings
from packshot.domain.jobs import Job
from packshot.ports import Records
from packshot.services.access import owned
from packshot.services.batches import BatchRequest, estimate_batch, failures_of, items_of, plan_batch
from packshot.services.catalog import category_called
from packshot.services.estimates import Estimate
from packshot.services.jobs import cancel
from packshot.services.manifests import batch_sheet, manifest, manifest_csv, manifest_jsonl, write_zip
from packshot.services.templates import template_at
from packshot.web.problems import PREFIX, slug_of_name
from packshot.web.replies import Call, Idempotent, MayGenerate, MayRead, Pages
from packshot.web.schemas import BatchFailure, BatchJob, BatchUrls, NewBatch, Page

_SAMPLING = (
    "seed",
    "num_images",
    "inference_steps",
    "guidance_scale",
    "negative_prompt",
    "width",
    "height",
    "scheduler",
)
_OF_TEMPLATES = ("negative_prompt", "width", "height")
_CHUNK_BYTES = 2**20

router = APIRouter(prefix="/batches", tags=["batches"])


def _batch(batch_id: str, call: MayRead) -> Batch:
    return owned(call.records, Batch, batch_id, call.namespace)


Asked = Annotated[Batch, Depends(_batch)]


def _file(media_type: str, about: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {}}, "description": about}}


@router.post(
    "", status_code=202, response_model=BatchJob, responses={200: {"model": Estimate, "description": "dry_run"}}
)
def start_batch(body: NewBatch, call: MayGenerate, once: Idempotent) -> Response:
    """Queue pictures of every category in every scene; which versions answer is settled now.

    A category that cannot be answered is listed under ``failures``, and the others go on. The same request while that
    batch is unfinished gives the same batch.
    """
    request = _request(call, body)
    if body.dry_run:
        price = call.space.settings.price_per_hour
        return once(body, lambda: estimate_batch(call.records, request, price_per_hour=price))

    def act() -> BatchJob:
        planned = plan_batch(call.records, request, code_revision(), priority=body.priority, admit=call.check_room)
        return _state(call.records, planned.batch)

    return once(body, act, status=202)


@router.get("")
def list_batches(call: MayRead, pages: Pages) -> Page[Batch]:
    """The batches of the namespace, the oldest first."""
    return pages.of(call.records, Batch, namespace=call.namespace)


@router.get("/{batch_id}")
def get_batch(batch: Asked, call: MayRead) -> BatchJob:
    """Where a batch stands, and what of it failed."""
    return _state(call.records, batch)


@router.post("/{batch_id}/cancel", response_model=BatchJob)
def cancel_batch(batch: Asked, call: MayGenerate, once: Idempotent) -> Response:
    """End a batch that waits or runs; the pictures that are made stay."""

    def act() -> BatchJob:
        cancel(call.records, batch.job_id)
        return _state(call.records, batch)

    return once("", act)


@router.get(
    "/{batch_id}/manifest.jsonl", response_class=Response, responses=_file("application/jsonl", "A line per picture.")
)
def get_batch_manifest(batch: Asked, call: MayRead) -> Response:
    """Every picture that is made, and every failure, as JSON lines."""
    return Response(manifest_jsonl(manifest(call.records, batch)), media_type="application/jsonl")


@router.get("/{batch_id}/manifest.csv", response_class=Response, responses=_file("text/csv", "A line per picture."))
def get_batch_table(batch: Asked, call: MayRead) -> Response:
    """The manifest for spreadsheets."""
    return Response(manifest_csv(manifest(call.records, batch)), media_type="text/csv")


@router.get(
    "/{batch_id}/pictures.zip", response_class=Response, responses=_file("application/zip", "A PNG per picture.")
)
def get_batch_pictures(batch: Asked, call: MayRead) -> Response:
    """The pictures that are made, under the file names of the manifest."""
    with ExitStack() as until_sent:
        file = until_sent.enter_context(TemporaryFile(prefix="packshot-"))
        write_zip(call.records, call.space.blobs, batch, file)
        until_sent.pop_all()
    size = file.tell()
    file.seek(0)
    headers = {"Content-Length": str(size), "Content-Disposition": f'attachment; filename="{batch.id}.zip"'}
    return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)


@router.get("/{batch_id}/sheet.png", response_class=Response, responses=_file("image/png", "The PNG."))
def get_batch_sheet(batch: Asked, call: MayRead) -> Response:
    """A contact sheet: categories in rows, templates in columns; what is not made stays empty."""
    return Response(batch_sheet(call.records, call.space.blobs, batch), media_type="image/png")


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _request(call: Call, body: NewBatch) -> BatchRequest:
    return BatchRequest(
        categories=[category_called(call.records, each, call.namespace) for each in body.categories],
        templates=[template_at(call.records, each, call.namespace) for each in body.templates],
        variables=body.variables,
        sampling=SamplingSettings(**{name: getattr(body, name) for name in _SAMPLING}),
        own_settings=[name for name in _OF_TEMPLATES if name in body.model_fields_set],
        namespace=call.namespace,
    )


def _state(records: Records, batch: Batch) -> BatchJob:
    job = records.get(Job, batch.job_id)
    items = items_of(records, batch)
    here = f"/v1/batches/{batch.id}"
    return BatchJob(
        id=batch.id,
        job_id=batch.job_id,
        status=job.status,
        progress=job.progress,
        message=job.message,
        categories=list(dict.fromkeys(state.category.identifier for state in items)),
        templates=list(dict.fromkeys(state.template.reference for state in items)),
        variables=dict(batch.variables),
        sampling=batch.sampling,
        num_pictures=len(items) * batch.sampling.num_images,
        num_made=sum(len(state.images) for state in items),
        failures=[
            BatchFailure(
                category=each.category,
                template=each.template,
                type=PREFIX + slug_of_name(each.error),
                detail=each.message,
            )
            for each in failures_of(items)
        ],
        created_at=batch.created_at,
        finished_at=job.finished_at,
        urls=BatchUrls(
            get=here,
            cancel=f"{here}/cancel",
            manifest_jsonl=f"{here}/manifest.jsonl",
            manifest_csv=f"{here}/manifest.csv",
            pictures=f"{here}/pictures.zip",
            sheet=f"{here}/sheet.png",
        ),
    )
