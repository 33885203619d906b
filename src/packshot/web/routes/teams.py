"""``/v1/audit`` and ``/v1/usage``: who did what in a namespace, and what its work cost."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import AwareDatetime

from packshot.domain.access import AuditAction, AuditEntry
from packshot.services.usage import UsageReport, report_usage
from packshot.web.replies import MayAdminister, MayRead, Pages
from packshot.web.schemas import Page

router = APIRouter(tags=["teams"])


@router.get("/audit")
def list_audit_entries(call: MayAdminister, pages: Pages, action: AuditAction | None = None) -> Page[AuditEntry]:
    """Who promoted, rolled back, retired, removed, and made or ended keys, the oldest first."""
    chosen: dict[str, Any] = {} if action is None else {"action": action.value}
    return pages.of(call.records, AuditEntry, namespace=call.namespace, **chosen)


@router.get("/usage")
def get_usage(
    call: MayRead,
    since: Annotated[
        AwareDatetime | None, Query(description="Leave out what was used before, such as 2026-11-01T00:00:00Z.")
    ] = None,
    until: Annotated[
        AwareDatetime | None, Query(description="Leave out what was used then or later, such as 2026-12-01T00:00:00Z.")
    ] = None,
) -> UsageReport:
    """Pictures, training steps, seconds of training and of all compute per category, with their price."""
    price = call.space.settings.price_per_hour
    return report_usage(call.records, price_per_hour=price, namespace=call.namespace, since=since, until=until)
