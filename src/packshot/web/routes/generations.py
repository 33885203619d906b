"""``/v1/generations`` and ``/v1/images``: pictures asked for, made by a worker, fetched."""

from base64 import b64decode
from collections.abc import Sequence
from hashlib import sha256

from fastapi import APIRouter, Response

from packshot.bootstrap import code_revision
from packshot.domain.composition import Box
from packshot.domain.errors import Conflict, InvalidInput
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.ports import Records
from packshot.services.access import owned
from packshot.services.estimates import Estimate, Wanted, estimate_pictures
from packshot.services.foreign import plan_foreign_generation
from packshot.services.generation import keep_layout, plan_generation, read_layout
from packshot.services.jobs import cancel
from packshot.services.models import Lineage, lineage_of, registered_base
from packshot.services.prompts import resolve_prompt
from packshot.services.requests import PictureRequest, ResolvedRequest, resolve_request
from packshot.web.replies import Call, Idempotent, MayGenerate, MayRead, Pages
from packshot.web.schemas import GenerationJob, ImageLink, NewGeneration, Page, Urls

_SAMPLING = (
    "seed",
    "num_images",
    "inference_steps",
    "guidance_scale",
    "negative_prompt",
    "width",
    "height",
    "scheduler",
    "strength",
)

router = APIRouter()


@router.post(
    "/generations",
    status_code=202,
    response_model=GenerationJob,
    responses={200: {"model": Estimate, "description": "dry_run"}},
    tags=["generations"],
)
def start_generation(body: NewGeneration, call: MayGenerate, once: Idempotent) -> Response:
    """Queue a request for pictures; which version answers it is settled now."""
    if body.dry_run:
        return once(body, lambda: _estimate(call, body))
    return once(body, lambda: generation_state(call.records, plan(call, body)), status=202)


@router.get("/generations", tags=["generations"])
def list_generations(call: MayRead, pages: Pages) -> Page[GenerationJob]:
    """The requests for pictures of the namespace, the oldest first; those of batches too."""
    page = pages.of(call.records, Generation, namespace=call.namespace)
    return Page(items=generation_states(call.records, page.items), next=page.next)


@router.get("/generations/{generation_id}", tags=["generations"])
def get_generation(generation_id: str, call: MayRead) -> GenerationJob:
    """Where a request stands, and its pictures once they are made."""
    generation = owned(call.records, Generation, generation_id, call.namespace)
    return generation_state(call.records, generation)


@router.post("/generations/{generation_id}/cancel", response_model=GenerationJob, tags=["generations"])
def cancel_generation(generation_id: str, call: MayGenerate, once: Idempotent) -> Response:
    """End a request that waits or runs."""
    generation = owned(call.records, Generation, generation_id, call.namespace)

    def act() -> GenerationJob:
        if generation.job_id is None:
            raise Conflict(f"the pictures of {generation.id} are made already")
        job = call.records.get(Job, generation.job_id)
        if job.kind is JobKind.BATCH:
            raise Conflict(f"{generation.id} belongs to the batch {job.subject_id}; cancel that")
        cancel(call.records, generation.job_id)
        return generation_state(call.records, generation)

    return once("", act)


@router.get(
    "/images/{image_id}",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The PNG."}},
    tags=["images"],
)
def get_image(image_id: str, call: MayRead) -> Response:
    """A picture as PNG, with its recipe inside."""
    image = owned(call.records, GeneratedImage, image_id, call.namespace)
    headers = {"ETag": f'"{image.sha256}"', "Cache-Control": "private, max-age=31536000, immutable"}
    return Response(call.space.blobs.get(image.sha256), media_type="image/png", headers=headers)


@router.get("/images/{image_id}/lineage", tags=["images"])
def get_image_lineage(image_id: str, call: MayRead) -> Lineage:
    """Where a picture comes from, back to the reference photos."""
    return lineage_of(call.records, owned(call.records, GeneratedImage, image_id, call.namespace).id)


def plan(call: Call, body: NewGeneration) -> Generation:
    """The queued request.

    Raises:
        InvalidInput, NotFound, NothingServing, CategoryRetired: see ``services.generation.plan_generation``.
        InvalidComposition: boxes or subjects that cannot stand in one picture.
        ImageRefused: the layout cannot be read safely.
        CapabilityMissing: see ``services.requests.resolve_request``.
        QuotaExceeded: the namespace has too many unfinished jobs.
    """
    request = _request(call, body)
    with call.records.transaction():
        call.check_room()
        resolved = _resolved(call, request)
        common = {"code_revision": code_revision(), "namespace": call.namespace, "priority": body.priority}
        if resolved.foreign:
            return plan_foreign_generation(call.records, resolved.foreign, resolved.prompt, resolved.sampling, **common)
        return plan_generation(
            call.records,
            resolved.prompt,
            resolved.sampling,
            bare_base=lambda: registered_base(call.records, body.base),
            fine_tune=resolved.fine_tune,
            category=resolved.category,
            boxes=resolved.boxes,
            template=resolved.template,
            **common,
        )


def _estimate(call: Call, body: NewGeneration) -> Estimate:
    """What ``plan`` would lead to; raises as it does, but for the quota."""
    resolved = _resolved(call, _request(call, body))
    answer = resolved.foreign or resolve_prompt(
        call.records,
        resolved.prompt,
        bare_base=lambda: registered_base(call.records, body.base),
        fine_tune=resolved.fine_tune,
        category=resolved.category,
        boxes=resolved.boxes,
        namespace=call.namespace,
    )
    return estimate_pictures(
        call.records,
        JobKind.FOREIGN_GENERATION if resolved.foreign else JobKind.GENERATION,
        [Wanted(resolved=answer, sampling=resolved.sampling)],
        price_per_hour=call.space.settings.price_per_hour,
    )


def _request(call: Call, body: NewGeneration) -> PictureRequest:
    return PictureRequest(
        **body.model_dump(include={"prompt", "model", "template", "variables", "version"}),
        base=body.base if "base" in body.model_fields_set else None,
        boxes=[Box.of(edges) for edges in body.boxes],
        settings={name: getattr(body, name) for name in _SAMPLING if name in body.model_fields_set}
        | _layout(call, body),
    )


def _resolved(call: Call, request: PictureRequest) -> ResolvedRequest:
    providers = call.space.foreign_generator.providers
    return resolve_request(call.records, request, providers=providers, namespace=call.namespace)


def _layout(call: Call, body: NewGeneration) -> dict[str, str]:
    """The setting that names the layout of ``body``, which is stored where it came along and is needed."""
    if not body.layout:
        return {}
    if body.layout.startswith("img_"):
        return {"layout": owned(call.records, GeneratedImage, body.layout, call.namespace).sha256}
    try:
        data = b64decode(body.layout, validate=True)
    except ValueError as error:
        raise InvalidInput("the layout is neither the id of a picture nor base64; send the whole file so") from error
    if body.dry_run:
        return {"layout": sha256(read_layout(data, "the layout")).hexdigest()}
    return {"layout": keep_layout(call.space.blobs, data, "the layout")}


def generation_state(records: Records, generation: Generation) -> GenerationJob:
    """``generation`` with the state of its job and its pictures."""
    return generation_states(records, [generation])[0]


def generation_states(records: Records, generations: Sequence[Generation]) -> list[GenerationJob]:
    """Each of ``generations`` with its job and pictures, in as many questions to the database as for one."""
    job_ids = {each.job_id for each in generations if each.job_id is not None}
    jobs = {each.id: each for each in records.find(Job, id=[*job_ids])}
    pictures: dict[str, list[ImageLink]] = {each.id: [] for each in generations}
    for image in records.find(GeneratedImage, order=("number",), generation_id=[*pictures]):
        pictures[image.generation_id].append(
            ImageLink(
                id=image.id,
                number=image.number,
                seed=image.seed,
                sha256=image.sha256,
                url=f"/v1/images/{image.id}",
            )
        )
    return [_state(each, jobs.get(each.job_id or ""), pictures[each.id]) for each in generations]


def _state(generation: Generation, job: Job | None, images: list[ImageLink]) -> GenerationJob:
    here = f"/v1/generations/{generation.id}"
    return GenerationJob(
        id=generation.id,
        job_id=generation.job_id,
        status=job.status if job else JobStatus.SUCCEEDED,
        progress=job.progress if job else 1.0,
        message=job.message if job else "",
        prompt=generation.prompt,
        resolved_prompt=generation.resolved_prompt,
        base_id=generation.base_id,
        foreign_model=generation.foreign_model.reference if generation.foreign_model else None,
        fine_tune_id=generation.fine_tune_id,
        template_id=generation.template_id,
        subjects=list(generation.subjects),
        sampling=generation.sampling,
        images=images,
        created_at=generation.created_at,
        urls=Urls(get=here, cancel=f"{here}/cancel"),
    )
