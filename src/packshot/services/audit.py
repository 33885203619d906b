"""Use case of the audit log: a deed and the entry that says who did it are one transaction."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from packshot.domain.access import AuditAction, AuditEntry
from packshot.ports import Records
from packshot.services.catalog import new_id, now


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Whoever does something: a key with its name, or a person at the machine; ``request_id`` leads to the log."""

    name: str
    request_id: str = ""


@contextmanager
def audited(
    records: Records, actor: Actor, action: AuditAction, *, namespace: str, subject: str, reason: str = ""
) -> Generator[None, None, None]:
    """Do what stands in the block and note it, or neither."""
    with records.transaction():
        yield
        records.add(
            AuditEntry(
                id=new_id("aud"),
                namespace=namespace,
                actor=actor.name,
                action=action,
                subject=subject,
                reason=reason,
                request_id=actor.request_id,
                created_at=now(),
            )
        )
