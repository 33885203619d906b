"""Record ↔ row for what teams share: usage, audit entries and quotas."""

from packshot.domain.access import AuditAction, AuditEntry, Quota
from packshot.domain.jobs import JobKind, JobStatus
from packshot.domain.usage import Usage
from packshot.storage.rows.values import Row, text_to_time, time_to_text


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
