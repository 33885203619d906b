"""Record ↔ row, one explicit pair of functions per kind. Does not know connections or transactions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic

from sqlalchemy import Table

from packshot.domain.access import ApiKey, AuditEntry, Quota, Reply
from packshot.domain.batches import Batch, BatchItem, ItemFailure
from packshot.domain.catalog import Category
from packshot.domain.engine_work import EngineWork
from packshot.domain.evaluation import Evaluation, EvaluationRun
from packshot.domain.generation import GeneratedImage, Generation
from packshot.domain.jobs import Job
from packshot.domain.models import AliasEvent, BaseModelRef, FineTune
from packshot.domain.references import ReferenceImage, ReferenceSet
from packshot.domain.templates import Template
from packshot.domain.training import TrainingRun
from packshot.domain.usage import Usage
from packshot.domain.webhooks import Delivery, Webhook
from packshot.ports import R, Record
from packshot.storage import tables
from packshot.storage.rows import access, batches, engine, inputs, results, teams, templates
from packshot.storage.rows.values import Row


@dataclass(frozen=True, kw_only=True)
class Shape(Generic[R]):
    """How one kind of record lies in its table. ``from_row`` finds the members of a set under ``members``."""

    kind: type[R]
    table: Table
    to_row: Callable[[R], Row]
    from_row: Callable[[Row], R]


def _shape(
    kind: type[R], table: Table, to_row: Callable[[R], Row], from_row: Callable[[Row], R]
) -> tuple[type[R], Shape[R]]:
    return kind, Shape(kind=kind, table=table, to_row=to_row, from_row=from_row)


# Parents stand before their children: records added together are written in this order.
SHAPES: Mapping[type[Record], Shape[Any]] = dict(
    (
        _shape(Category, tables.category, inputs.category_to_row, inputs.category_from_row),
        _shape(BaseModelRef, tables.base_model, inputs.base_model_to_row, inputs.base_model_from_row),
        _shape(Job, tables.job, inputs.job_to_row, inputs.job_from_row),
        _shape(ReferenceImage, tables.reference_image, inputs.reference_image_to_row, inputs.reference_image_from_row),
        _shape(ReferenceSet, tables.reference_set, inputs.reference_set_to_row, inputs.reference_set_from_row),
        _shape(TrainingRun, tables.training_run, results.training_run_to_row, results.training_run_from_row),
        _shape(FineTune, tables.fine_tune, results.fine_tune_to_row, results.fine_tune_from_row),
        _shape(AliasEvent, tables.alias_event, results.alias_event_to_row, results.alias_event_from_row),
        _shape(EvaluationRun, tables.evaluation_run, results.evaluation_run_to_row, results.evaluation_run_from_row),
        _shape(Evaluation, tables.evaluation, results.evaluation_to_row, results.evaluation_from_row),
        _shape(Template, tables.template, templates.template_to_row, templates.template_from_row),
        _shape(Generation, tables.generation, results.generation_to_row, results.generation_from_row),
        _shape(
            GeneratedImage, tables.generated_image, results.generated_image_to_row, results.generated_image_from_row
        ),
        _shape(Batch, tables.batch, batches.batch_to_row, batches.batch_from_row),
        _shape(BatchItem, tables.batch_item, batches.batch_item_to_row, batches.batch_item_from_row),
        _shape(ItemFailure, tables.item_failure, batches.item_failure_to_row, batches.item_failure_from_row),
        _shape(ApiKey, tables.api_key, access.api_key_to_row, access.api_key_from_row),
        _shape(Reply, tables.reply, access.reply_to_row, access.reply_from_row),
        _shape(Usage, tables.usage, teams.usage_to_row, teams.usage_from_row),
        _shape(AuditEntry, tables.audit_entry, teams.audit_entry_to_row, teams.audit_entry_from_row),
        _shape(Quota, tables.quota, teams.quota_to_row, teams.quota_from_row),
        _shape(Webhook, tables.webhook, teams.webhook_to_row, teams.webhook_from_row),
        _shape(Delivery, tables.delivery, teams.delivery_to_row, teams.delivery_from_row),
        _shape(EngineWork, tables.engine_work, engine.engine_work_to_row, engine.engine_work_from_row),
    )
)
