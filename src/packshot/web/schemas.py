"""What goes in and out over HTTP where it is no record of the domain. Records themselves travel as they are."""

from collections.abc import Mapping
from datetime import datetime
from math import nan
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt, StrictStr

from packshot.domain.composition import PlacedSubject
from packshot.domain.evaluation import Evaluation
from packshot.domain.generation import ANY_CATEGORY, SamplingSettings
from packshot.domain.jobs import MAX_PRIORITY, JobStatus
from packshot.domain.models import EMBEDDED_BASE, AliasEvent
from packshot.domain.references import ReferenceImage
from packshot.domain.training import TrainingConfig
from packshot.domain.variables import VariableKind
from packshot.services.fetching import MAX_URLS

T = TypeVar("T")

Priority: int = Field(
    default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Higher comes first among your own waiting jobs."
)


Scheduler: str = Field(default="", description="ddim, euler, dpmsolver++ or flow-match-euler; the base's own if empty.")


DryRun: bool = Field(
    default=False, description="Check everything, tell what it would make and take (200); nothing is recorded."
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


class PhotosByUrl(Input):
    """Reference photos to fetch."""

    urls: list[str] = Field(min_length=1, max_length=MAX_URLS, description="Of one picture each, by http or https.")
    captions: dict[str, str] = Field(default={}, description="What photos show, by their URLs.")
    source: str = Field(default="", max_length=500, description="Where the photos come from; the URL is noted anyway.")
    license: str = Field(default="", max_length=200, description="The licence they may be used under.")


class NewTraining(Input):
    """A training of the newest frozen reference set."""

    category: str = Field(examples=["sks_honeycrisp_apple"], description="The identifier of the category.")
    base: str = Field(default=EMBEDDED_BASE, description="The source or id of a registered base.")
    config: dict[str, str | int | float | bool] = Field(default={}, examples=[{"method": "lora", "steps": 300}])
    priority: int = Priority
    dry_run: bool = DryRun


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
    job_id: str
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


class NewEvaluation(Input):
    """A measurement of a fine-tune against its bare base, on the same prompts and seeds."""

    fine_tune_id: str
    images_per_scene: int = Field(default=5, description="1 to 50 pictures in each of the eight scenes.")
    seed: int = Field(default=1000, description="Seed of the first picture in each scene.")
    priority: int = Priority
    dry_run: bool = DryRun


def _with_numbers(value: object) -> object:
    """A score that could not be measured is no number, and null in JSON, which knows none."""
    if value is None:
        return nan
    return {name: _with_numbers(each) for name, each in value.items()} if isinstance(value, Mapping) else value


ReadEvaluation = Annotated[Evaluation, BeforeValidator(_with_numbers)]


class EvaluationJob(BaseModel):
    """An evaluation and where it stands; ``evaluation`` is what came out of it."""

    id: str
    job_id: str | None
    status: JobStatus
    progress: float = Field(description="0 to 1, of the pictures that are being made.")
    message: str
    fine_tune_id: str
    seed: int
    evaluation: ReadEvaluation | None
    created_at: datetime
    finished_at: datetime | None
    urls: Urls


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


class NewVariable(Input):
    """A blank of a template; a choice needs ``choices``, a whole number ``minimum`` and ``maximum``."""

    name: str = Field(examples=["surface"])
    kind: VariableKind
    default: StrictStr | StrictInt | None = Field(default=None, description="Without it, callers must give a value.")
    choices: list[StrictStr] = []
    minimum: StrictInt | None = None
    maximum: StrictInt | None = None
    max_length: StrictInt | None = None


class NewTemplate(Input):
    """The next version of a template: ``STYLE of QUANTITY SUBJECT PACKAGING BACKGROUND, LIGHT``.

    ``{name}`` stands for a variable in any text, and every variable stands in one. 0 pixels = the base's own size.
    """

    name: str = Field(examples=["summer-table"])
    style: str = "a photo"
    quantity: str = "a"
    packaging: str = Field(default="", examples=["in a paper bag"])
    background: str = Field(default="", examples=["on a {surface}"])
    light: str = Field(default="", examples=["warm light"])
    negative_prompt: str = ""
    width: int = 0
    height: int = 0
    variables: list[NewVariable] = []


Variables = Annotated[
    dict[str, StrictStr | StrictInt], Field(description="Values for variables of the template, by name.")
]


class NewGeneration(Input):
    """A request for pictures; image ``i`` has the seed ``seed + i``, 0 pixels = the base's own size.

    It has a ``prompt``, or a ``template`` and the ``model`` that is its subject. A negative prompt and a size that are
    given go before those of the template.
    """

    prompt: str | None = Field(default=None, examples=["sks_honeycrisp_apple on a wooden table, warm light"])
    template: str | None = Field(
        default=None, examples=["summer-table@2"], description="NAME (its newest version) or NAME@VERSION."
    )
    variables: Variables = {}
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


class NewWebhook(Input):
    """Where to tell that jobs have ended."""

    url: str = Field(examples=["https://shop.example/packshot"], max_length=500)


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


class NewBatch(Input):
    """Pictures of every category in every scene; picture ``i`` of each has the seed ``seed + i``.

    Each template takes those of the variables that it has. A negative prompt and a size that are given go before
    those of the templates.
    """

    categories: list[str] = Field(
        max_length=10_000, examples=[["sks_honeycrisp_apple"]], description="The identifiers of the categories."
    )
    templates: list[str] = Field(
        max_length=1000,
        examples=[["summer-table", "banner@2"]],
        description="NAME (its newest version) or NAME@VERSION.",
    )
    variables: Variables = {}
    num_images: int = 1
    seed: int = 0
    inference_steps: int = 20
    guidance_scale: float = 4.0
    negative_prompt: str = ""
    width: int = 0
    height: int = 0
    scheduler: str = Scheduler
    priority: int = Priority
    dry_run: bool = DryRun


class BatchFailure(BaseModel):
    """Why a category in a scene has not all of its pictures; ``type`` and ``detail`` are those of a problem."""

    category: str = Field(description="Its path.")
    template: str
    type: str = Field(examples=["/problems/nothing-serving"])
    detail: str


class BatchUrls(Urls):
    """The files tell of what is made so far."""

    manifest_jsonl: str
    manifest_csv: str
    pictures: str
    sheet: str


class BatchJob(BaseModel):
    """A batch and where it stands. It has succeeded when at least one picture is made and the rest has failed."""

    id: str
    job_id: str
    status: JobStatus
    progress: float = Field(description="0 to 1.")
    message: str
    categories: list[str]
    templates: list[str]
    variables: dict[str, str | int]
    sampling: SamplingSettings
    num_pictures: int = Field(description="How many were asked for.")
    num_made: int
    failures: list[BatchFailure]
    created_at: datetime
    finished_at: datetime | None
    urls: BatchUrls


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
