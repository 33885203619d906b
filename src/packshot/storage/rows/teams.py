"""Record ↔ row for what teams share: usage, audit entries, quotas and webhooks."""

from packshot.domain.access import AuditAction, AuditEntry, Quota
from packshot.domain.jobs import JobKind, JobStatus
from packshot.domain.usage import Usage
from packshot.domain.webhooks import Delivery, DeliveryStatus, Webhook
from packshot.storage.rows.values import Row, optional_time_to_text, text_to_optional_time, text_to_time, time_to_text


def usage_to_row(usage: Usage) -> Row:
    """Field by field."""
    return {
        **vars(usage),
        "kind": usage.kind.value,
        "status": usage.status.value,
        "created_at": time_to_text(usage.created_at),
    }


def usage_from_row(row: Row) -> Usage:
    """The inverse of ``usage_to_row``."""
    return Usage(
        id=row["id"],
        namespace=row["namespace"],
        category_id=row["category_id"],
        job_id=row["job_id"],
        kind=JobKind(row["kind"]),
        status=JobStatus(row["status"]),
        num_images=row["num_images"],
        num_steps=row["num_steps"],
        seconds=row["seconds"],
        fees=row["fees"],
        created_at=text_to_time(row["created_at"]),
    )


def audit_entry_to_row(entry: AuditEntry) -> Row:
    """Field by field."""
    return {**vars(entry), "action": entry.action.value, "created_at": time_to_text(entry.created_at)}


def audit_entry_from_row(row: Row) -> AuditEntry:
    """The inverse of ``audit_entry_to_row``."""
    return AuditEntry(
        id=row["id"],
        namespace=row["namespace"],
        actor=row["actor"],
        action=AuditAction(row["action"]),
        subject=row["subject"],
        reason=row["reason"],
        request_id=row["request_id"],
        created_at=text_to_time(row["created_at"]),
    )


def quota_to_row(quota: Quota) -> Row:
    """Field by field."""
    return {**vars(quota), "created_at": time_to_text(quota.created_at)}


def quota_from_row(row: Row) -> Quota:
    """The inverse of ``quota_to_row``."""
    return Quota(
        id=row["id"],
        namespace=row["namespace"],
        requests_per_minute=row["requests_per_minute"],
        max_unfinished_jobs=row["max_unfinished_jobs"],
        created_at=text_to_time(row["created_at"]),
    )


def webhook_to_row(webhook: Webhook) -> Row:
    """Field by field."""
    return {
        **vars(webhook),
        "created_at": time_to_text(webhook.created_at),
        "disabled_at": optional_time_to_text(webhook.disabled_at),
    }


def webhook_from_row(row: Row) -> Webhook:
    """The inverse of ``webhook_to_row``."""
    return Webhook(
        id=row["id"],
        namespace=row["namespace"],
        url=row["url"],
        secret=row["secret"],
        created_at=text_to_time(row["created_at"]),
        disabled_at=text_to_optional_time(row["disabled_at"]),
    )


def delivery_to_row(delivery: Delivery) -> Row:
    """Field by field."""
    return {
        **vars(delivery),
        "status": delivery.status.value,
        "due_at": time_to_text(delivery.due_at),
        "created_at": time_to_text(delivery.created_at),
    }


def delivery_from_row(row: Row) -> Delivery:
    """The inverse of ``delivery_to_row``."""
    return Delivery(
        id=row["id"],
        webhook_id=row["webhook_id"],
        job_id=row["job_id"],
        event=row["event"],
        body=row["body"],
        status=DeliveryStatus(row["status"]),
        num_attempts=row["num_attempts"],
        due_at=text_to_time(row["due_at"]),
        last_error=row["last_error"],
        created_at=text_to_time(row["created_at"]),
    )
