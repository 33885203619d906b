"""Jobs of every kind, and what an operator asks."""

from collections.abc import Callable
from datetime import datetime

from packshot.client.flows import Flow, Method, call, collect, exchange, watch
from packshot.domain.access import AuditEntry
from packshot.domain.webhooks import Delivery, Webhook
from packshot.services.models import RegisteredBase
from packshot.services.usage import UsageReport
from packshot.services.webhooks import WebhookInfo
from packshot.web.job_states import JobState
from packshot.web.schemas import Page


class OperationMethods:
    """Jobs of every kind, and what an operator asks."""

    @Method
    def jobs(self, status: str = "") -> Flow[list[JobState]]:
        """The jobs of the namespace, all or those in that status, the oldest first."""
        return (yield from collect(Page[JobState], "/v1/jobs", **({"status": status} if status else {})))

    @Method
    def job(self, job_id: str) -> Flow[JobState]:
        """Where a job stands."""
        return (yield from call(JobState, "GET", f"/v1/jobs/{job_id}"))

    @Method
    def cancel_job(self, job_id: str) -> Flow[JobState]:
        """End a job that waits or runs."""
        job = yield from call(JobState, "GET", f"/v1/jobs/{job_id}")
        yield from exchange("POST", job.urls.cancel)
        return (yield from call(JobState, "GET", f"/v1/jobs/{job_id}"))

    @Method
    def retry_job(self, job_id: str) -> Flow[JobState]:
        """Queue a job anew that failed or was canceled."""
        return (yield from call(JobState, "POST", f"/v1/jobs/{job_id}/retry"))

    @Method
    def watch(self, job_id: str, *, report: Callable[[JobState], None] = lambda _: None) -> Flow[JobState]:
        """A job of any kind once it has succeeded; ``report`` is told each change. JobFailed: it failed or was canceled."""
        return (yield from watch(JobState, f"/v1/jobs/{job_id}/events", report))

    @Method
    def audit(self) -> Flow[list[AuditEntry]]:
        """Who did what in the namespace, the oldest first; needs an admin's key."""
        return (yield from collect(Page[AuditEntry], "/v1/audit"))

    @Method
    def usage(self, since: datetime | None = None, until: datetime | None = None) -> Flow[UsageReport]:
        """Pictures, training steps, seconds and cost per category, of a time; its ends need a time zone."""
        ends = {"since": since, "until": until}
        params = {name: end.isoformat() for name, end in ends.items() if end is not None}
        return (yield from call(UsageReport, "GET", "/v1/usage", params=params))

    @Method
    def create_webhook(self, url: str) -> Flow[Webhook]:
        """Tell ``url`` of every job that ends. Keep the secret: ``packshot.domain.webhooks.check_signature`` needs it."""
        return (yield from call(Webhook, "POST", "/v1/webhooks", json={"url": url}))

    @Method
    def webhooks(self) -> Flow[list[WebhookInfo]]:
        """The webhooks of the namespace, the disabled too."""
        return (yield from collect(Page[WebhookInfo], "/v1/webhooks"))

    @Method
    def disable_webhook(self, webhook_id: str) -> Flow[WebhookInfo]:
        """Tell it nothing any more."""
        return (yield from call(WebhookInfo, "POST", f"/v1/webhooks/{webhook_id}/disable"))

    @Method
    def deliveries(self, webhook_id: str) -> Flow[list[Delivery]]:
        """What a webhook was told, or could not be told and why, the oldest first."""
        return (yield from collect(Page[Delivery], f"/v1/webhooks/{webhook_id}/deliveries"))

    @Method
    def bases(self) -> Flow[list[RegisteredBase]]:
        """The base models that the operator has registered."""
        return (yield from collect(Page[RegisteredBase], "/v1/bases"))
