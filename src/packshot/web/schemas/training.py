"""Trainings and evaluations."""

from collections.abc import Mapping
from datetime import datetime
from math import nan
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from packshot.domain.evaluation import Evaluation
from packshot.domain.jobs import JobStatus
from packshot.domain.models import EMBEDDED_BASE
from packshot.domain.training import TrainingConfig
from packshot.web.schemas.common import DryRun, Input, Priority, Urls


class NewTraining(Input):
    """A training of the newest frozen reference set."""

    category: str = Field(examples=["sks_honeycrisp_apple"], description="The identifier of the category.")
    base: str = Field(default=EMBEDDED_BASE, description="The source or id of a registered base.")
    config: dict[str, str | int | float | bool] = Field(default={}, examples=[{"method": "lora", "steps": 300}])
    priority: int = Priority
    dry_run: bool = DryRun


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
