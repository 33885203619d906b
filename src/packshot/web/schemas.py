"""What goes in and out over HTTP where it is no record of the domain. Records themselves travel as they are."""

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from packshot.domain.generation import SamplingSettings
from packshot.domain.jobs import MAX_PRIORITY, JobStatus
from packshot.domain.models import EMBEDDED_BASE, AliasEvent
from packshot.domain.references import ReferenceImage
from packshot.domain.training import TrainingConfig

T = TypeVar("T")

ANY_CATEGORY = "packshot"
"""The model of a request whose prompt names its category, or none."""


Priority: int = Field(
    default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Higher comes first among your own waiting jobs."
)


class Input(BaseModel):
    """A request body; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(BaseModel, Generic[T]):
    """A part of a list; ``next`` is the cursor of the next one, null at the end."""

    items: list[T]
    next: str | None


class NewCategory(Input):
    """A path and an identifier to reserve."""

    path: str = Field(examples=["produce/apple/honeycrisp"])
    class_noun: str = Field(examples=["apple"], description="The plain word for the product's class.")
    identifier: str | None = Field(
        default=None, description="What callers write; derived from path and noun when not given."
    )


class References(BaseModel):
    """The curation report: every photo with its verdict, and what would make the set better."""

    images: list[ReferenceImage]
    advice: list[str]
    freezable: bool


class NewTraining(Input):
    """A training of the newest frozen reference set."""

    category: str = Field(examples=["sks_honeycrisp_apple"], description="The identifier of the category.")
    base: str = Field(default=EMBEDDED_BASE, description="The source or id of a registered base.")
    config: dict[str, str | int | float | bool] = Field(default={}, examples=[{"method": "lora", "steps": 300}])
    priority: int = Priority
    dry_run: bool = Field(default=False, description="Check everything and estimate the cost; nothing is recorded.")


class Urls(BaseModel):
    """Where to go on with something that a worker does."""

    get: str
    cancel: str


class TrainingUrls(Urls):
    """``events`` streams the progress."""

    events: str


class Training(BaseModel):
    """A training and where it stands; ``fine_tune_id`` is what came out of it."""

    id: str
    status: JobStatus
    progress: float = Field(description="0 to 1.")
    message: str
    category: str
    base: str
    config: TrainingConfig
    fine_tune_id: str | None
    created_at: datetime
    finished_at: datetime | None
    urls: TrainingUrls


class Promotion(Input):
    """Which fine-tune to put into service."""

    fine_tune_id: str
    reason: str = Field(default="", max_length=1000, description="Needed where the gate has not passed it.")


class Rollback(Input):
    """Why the version before is put back into service."""

    reason: str = Field(default="", max_length=1000)


class Alias(BaseModel):
    """What serves a category, and every event that led there, the newest last."""

    serving: str | None = Field(description="The id of the fine-tune.")
    history: list[AliasEvent]


class NewGeneration(Input):
    """A request for pictures; image ``i`` has the seed ``seed + i``, 0 pixels = the base's own size."""

    prompt: str = Field(examples=["sks_honeycrisp_apple on a wooden table, warm light"])
    model: str = Field(
        ANY_CATEGORY, description="packshot, or the identifier of the category that the prompt is about."
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
    priority: int = Priority


class NewWebhook(Input):
    """Where to tell that jobs have ended."""

    url: str = Field(examples=["https://shop.example/packshot"], max_length=500)


class ImageLink(BaseModel):
    """A picture of a generation; ``url`` gives its PNG."""

    id: str
    number: int
    seed: int
    sha256: str
    url: str


class GenerationJob(BaseModel):
    """A request for pictures and where it stands. ``resolved_prompt`` is what the model reads."""

    id: str
    status: JobStatus
    progress: float = Field(description="0 to 1.")
    message: str
    prompt: str
    resolved_prompt: str
    base_id: str
    fine_tune_id: str | None
    sampling: SamplingSettings
    images: list[ImageLink]
    created_at: datetime
    urls: Urls


class OpenAiRequest(Input):
    """The part of OpenAI's image API that means something here; other keys are errors."""

    prompt: str
    model: str = Field(
        ANY_CATEGORY, description="packshot, or the identifier of the category that the prompt is about."
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
