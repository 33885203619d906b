"""Pictures, one request at a time, ours and OpenAI's."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from packshot.domain.composition import PlacedSubject
from packshot.domain.generation import ANY_CATEGORY, SamplingSettings
from packshot.domain.jobs import JobStatus
from packshot.domain.models import EMBEDDED_BASE
from packshot.web.schemas.common import DryRun, Input, Priority, Scheduler, Urls, Variables


class NewGeneration(Input):
    """A request for pictures; image ``i`` has the seed ``seed + i``, 0 pixels = the base's own size.

    It has a ``prompt``, or a ``template`` and the ``model`` that is its subject. A negative prompt and a size that are
    given go before those of the template.
    """

    prompt: str | None = Field(default=None, examples=["sks_honeycrisp_apple on a wooden table, warm light"])
    template: str | None = Field(
        default=None, examples=["summer-table@2"], description="NAME (its newest version) or NAME@VERSION."
    )
    variables: Variables = Field(default={})
    model: str = Field(
        ANY_CATEGORY,
        description="packshot, the identifier of the category that the prompt is about, or PROVIDER/NAME of another's API.",
    )
    version: int | None = Field(
        default=None, ge=1, description="A version of that category instead of the serving one."
    )
    base: str = Field(
        default=EMBEDDED_BASE, description="The registered base that answers a prompt without an identifier."
    )
    seed: int = 0
    num_images: int = 1
    inference_steps: int = 20
    guidance_scale: float = 4.0
    negative_prompt: str = ""
    width: int = 0
    height: int = 0
    scheduler: str = Scheduler
    layout: str = Field(
        default="",
        examples=["img_9f86d081884c7d65"],
        description="A picture whose composition is kept: the id of one that was made, or the base64 of a file.",
    )
    strength: float = Field(default=0.6, description="How far from the layout the pictures go: 0 to 1.")
    boxes: list[tuple[float, float, float, float]] = Field(
        default=[],
        max_length=100,
        examples=[[[0, 0, 0.5, 1], [0.5, 0, 1, 1]]],
        description="Where the subjects of a prompt with several identifiers stand, in order of mention: left, top, right, "
        "bottom, as shares of the picture. Equal columns from left to right if empty.",
    )
    priority: int = Priority
    dry_run: bool = DryRun


class ImageLink(BaseModel):
    """A picture of a generation; ``url`` gives its PNG."""

    id: str
    number: int
    seed: int | None = Field(description="Null where the model was told none.")
    sha256: str
    url: str


class GenerationJob(BaseModel):
    """A request for pictures and where it stands. ``resolved_prompt`` is what the model reads."""

    id: str
    job_id: str | None
    status: JobStatus
    progress: float = Field(description="0 to 1.")
    message: str
    prompt: str
    resolved_prompt: str
    base_id: str | None
    foreign_model: str | None = Field(description="PROVIDER/NAME where another's image API answers; then no base does.")
    fine_tune_id: str | None
    template_id: str | None
    subjects: list[PlacedSubject] = Field(description="Those of a composed picture; then no single fine-tune answers.")
    sampling: SamplingSettings
    images: list[ImageLink]
    created_at: datetime
    urls: Urls


class OpenAiRequest(Input):
    """The part of OpenAI's image API that means something here; other keys are errors."""

    prompt: str
    model: str = Field(
        ANY_CATEGORY,
        description="packshot, the identifier of the category that the prompt is about, or PROVIDER/NAME of another's API.",
    )
    n: Annotated[int, Field(ge=1, le=10)] = 1
    size: str = Field(default="auto", pattern=r"^(auto|\d{1,4}x\d{1,4})$")
    response_format: Literal["b64_json"] = "b64_json"
    output_format: Literal["png"] = "png"
    seed: int = Field(default=0, description="Ours: the seed of the first picture.")
    user: str = Field(default="", max_length=200, description="Accepted for compatibility, not kept.")


class OpenAiImage(BaseModel):
    """A picture as base64 of its PNG."""

    b64_json: str


class OpenAiImages(BaseModel):
    """What OpenAI's image API answers."""

    created: int = Field(description="Seconds since 1970.")
    data: list[OpenAiImage]
