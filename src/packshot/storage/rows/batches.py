"""Record ↔ row for batches, their items and what failed."""

import json
from dataclasses import asdict

from packshot.domain.batches import Batch, BatchItem, ItemFailure
from packshot.domain.generation import SamplingSettings
from packshot.storage.rows.values import Row, text_to_time, time_to_text


def batch_to_row(batch: Batch) -> Row:
    """Sampling settings and variables become JSON."""
    return {
        **vars(batch),
        "sampling": json.dumps(asdict(batch.sampling), sort_keys=True),
        "own_settings": json.dumps(batch.own_settings),
        "variables": json.dumps(batch.variables),
        "created_at": time_to_text(batch.created_at),
    }


def batch_from_row(row: Row) -> Batch:
    """The inverse of ``batch_to_row``."""
    return Batch(
        id=row["id"],
        namespace=row["namespace"],
        sampling=SamplingSettings(**json.loads(row["sampling"])),
        own_settings=tuple(json.loads(row["own_settings"])),
        variables=tuple((name, value) for name, value in json.loads(row["variables"])),
        code_revision=row["code_revision"],
        job_id=row["job_id"],
        created_at=text_to_time(row["created_at"]),
    )


def batch_item_to_row(item: BatchItem) -> Row:
    """Field by field."""
    return dict(vars(item))


def batch_item_from_row(row: Row) -> BatchItem:
    """The inverse of ``batch_item_to_row``."""
    return BatchItem(
        id=row["id"],
        batch_id=row["batch_id"],
        number=row["number"],
        category_id=row["category_id"],
        template_id=row["template_id"],
        generation_id=row["generation_id"],
    )


def item_failure_to_row(failure: ItemFailure) -> Row:
    """Field by field."""
    return {**vars(failure), "created_at": time_to_text(failure.created_at)}


def item_failure_from_row(row: Row) -> ItemFailure:
    """The inverse of ``item_failure_to_row``."""
    return ItemFailure(
        id=row["id"],
        batch_id=row["batch_id"],
        item_id=row["item_id"],
        error=row["error"],
        message=row["message"],
        created_at=text_to_time(row["created_at"]),
    )
