"""``/v1/images/generations`` as OpenAI's clients ask for it: wait for the pictures, get them as base64."""

import base64
from typing import Annotated

import anyio
from fastapi import APIRouter, Depends, Request
from pydantic import TypeAdapter
from starlette.concurrency import run_in_threadpool

from packshot.domain.errors import Interrupted, JobFailed
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job, JobStatus
from packshot.services.jobs import cancel, check_succeeded
from packshot.web.replies import Call, Idempotent, MayGenerate
from packshot.web.routes.generations import plan
from packshot.web.schemas import NewGeneration, OpenAiImage, OpenAiImages, OpenAiRequest

POLL_S = 0.25
TIMEOUT_S = 600.0

router = APIRouter(tags=["openai"])
_generation = TypeAdapter(Generation)


def _planned(body: OpenAiRequest, call: MayGenerate, once: Idempotent) -> Generation:
    size = {} if body.size == "auto" else dict(zip(("width", "height"), map(int, body.size.split("x")), strict=True))
    seed = {"seed": body.seed} if "seed" in body.model_fields_set else {}
    wanted = NewGeneration(prompt=body.prompt, model=body.model, num_images=body.n, **seed, **size)
    return _generation.validate_json(once.text(body, lambda: plan(call, wanted)))


@router.post("/images/generations")
async def generate_images(
    generation: Annotated[Generation, Depends(_planned)], call: MayGenerate, request: Request
) -> OpenAiImages:
    """Make pictures and wait for them, as OpenAI's image API does; a client that goes away cancels its request."""
    assert generation.job_id
    with anyio.move_on_after(TIMEOUT_S):
        while not (job := await run_in_threadpool(call.records.get, Job, generation.job_id)).finished:
            if await request.is_disconnected():
                await run_in_threadpool(cancel, call.records, job.id)
            await anyio.sleep(POLL_S)
        return await run_in_threadpool(_reply, call, generation, job)
    raise Interrupted(
        f"no pictures within {TIMEOUT_S:g} s; they are still on their way to /v1/generations/{generation.id}"
    )


def _reply(call: Call, generation: Generation, job: Job) -> OpenAiImages:
    if job.status is JobStatus.CANCELED:
        raise JobFailed(f"{generation.id} was canceled")
    check_succeeded(job)
    images = call.records.find(GeneratedImage, generation_id=generation.id)
    return OpenAiImages(
        created=int(generation.created_at.timestamp()),
        data=[OpenAiImage(b64_json=base64.b64encode(call.space.blobs.get(image.sha256)).decode()) for image in images],
    )
