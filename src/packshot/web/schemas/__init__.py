"""What goes in and out over HTTP where it is no record of the domain. Records themselves travel as they are."""

from packshot.web.schemas.batches import BatchFailure, BatchJob, BatchUrls, NewBatch, NewTemplate, NewVariable
from packshot.web.schemas.catalog import Alias, NewCategory, PhotosByUrl, Promotion, References, Rollback
from packshot.web.schemas.common import DryRun, Input, Page, Priority, Scheduler, T, Urls, Variables
from packshot.web.schemas.generation import (
    GenerationJob,
    ImageLink,
    NewGeneration,
    OpenAiImage,
    OpenAiImages,
    OpenAiRequest,
)
from packshot.web.schemas.training import (
    EvaluationJob,
    NewEvaluation,
    NewTraining,
    ReadEvaluation,
    Training,
    TrainingUrls,
)
from packshot.web.schemas.webhooks import NewWebhook

__all__ = [
    "Alias",
    "BatchFailure",
    "BatchJob",
    "BatchUrls",
    "DryRun",
    "EvaluationJob",
    "GenerationJob",
    "ImageLink",
    "Input",
    "NewBatch",
    "NewCategory",
    "NewEvaluation",
    "NewGeneration",
    "NewTemplate",
    "NewTraining",
    "NewVariable",
    "NewWebhook",
    "OpenAiImage",
    "OpenAiImages",
    "OpenAiRequest",
    "Page",
    "PhotosByUrl",
    "Priority",
    "Promotion",
    "ReadEvaluation",
    "References",
    "Rollback",
    "Scheduler",
    "T",
    "Training",
    "TrainingUrls",
    "Urls",
    "Variables",
]
