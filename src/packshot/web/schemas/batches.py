"""Templates and batches of pictures."""

from datetime import datetime

from pydantic import BaseModel, Field, StrictInt, StrictStr

from packshot.domain.generation import SamplingSettings
from packshot.domain.jobs import JobStatus
from packshot.domain.variables import VariableKind
from packshot.web.schemas.common import DryRun, Input, Priority, Scheduler, Urls, Variables


class NewVariable(Input):
    """A blank of a template; a choice needs ``choices``, a whole number ``minimum`` and ``maximum``."""

    name: str = Field(examples=["surface"])
    kind: VariableKind
    default: StrictStr | StrictInt | None = Field(default=None, description="Without it, callers must give a value.")
    choices: list[StrictStr] = Field(default=[])
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
    variables: list[NewVariable] = Field(default=[])


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
    variables: Variables = Field(default={})
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
