"""Use cases of webhooks: add and disable them, note what is to be said when a job ends, say what is due.

A message is written in the transaction that ends its job, so none is lost; it is sent at least once.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from packshot.domain.errors import AddressRefused, Conflict
from packshot.domain.jobs import Job
from packshot.domain.urls import check_url
from packshot.domain.webhooks import (
    Delivery,
    DeliveryStatus,
    Webhook,
    attempted,
    message_about,
    secret_of,
    signed_headers,
)
from packshot.ports import Poster, Records
from packshot.services.catalog import new_id, now

MAX_WEBHOOKS = 10
MAX_AT_ONCE = 64
SENDING = timedelta(minutes=2)
"""How long a message is left to whoever took it to send; longer than any attempt lasts."""


@dataclass(frozen=True, kw_only=True)
class WebhookInfo:
    """A webhook without its secret."""

    id: str
    namespace: str
    url: str
    created_at: datetime
    disabled_at: datetime | None


def without_secret(webhook: Webhook) -> WebhookInfo:
    """What may be shown of ``webhook``."""
    return WebhookInfo(
        id=webhook.id,
        namespace=webhook.namespace,
        url=webhook.url,
        created_at=webhook.created_at,
        disabled_at=webhook.disabled_at,
    )


def add_webhook(records: Records, namespace: str, url: str) -> Webhook:
    """Tell ``url`` of the jobs of ``namespace`` from now on.

    Raises:
        InvalidInput: no URL for a webhook.
        Conflict: the namespace has MAX_WEBHOOKS.
    """
    webhook = Webhook(
        id=new_id("whk"),
        namespace=namespace,
        url=check_url(url, of="a webhook", max_length=500),
        created_at=now(),
    )
    with records.transaction():
        if len(records.find(Webhook, namespace=namespace, disabled_at=None)) >= MAX_WEBHOOKS:
            raise Conflict(f"{namespace} has {MAX_WEBHOOKS} webhooks already; disable one first")
        records.add(webhook)
    return webhook


def disable_webhook(records: Records, webhook: Webhook) -> Webhook:
    """Tell it nothing any more; what it was not told yet is dropped.

    Raises:
        Conflict: it is disabled already.
    """
    with records.transaction():
        current = records.get(Webhook, webhook.id)
        if current.disabled_at:
            raise Conflict(f"the webhook {webhook.id} was disabled at {current.disabled_at:%Y-%m-%d %H:%M} UTC")
        disabled = replace(current, disabled_at=now())
        records.replace(disabled)
    return disabled


def announce(records: Records, job: Job) -> None:
    """Note that ``job`` has ended, for every webhook of its namespace; call it in the transaction that ends it."""
    if not job.finished or not job.namespace:
        return
    at = now()
    event, body = message_about(job, at)
    for webhook in records.find(Webhook, namespace=job.namespace, disabled_at=None):
        records.add(
            Delivery(
                id=new_id("msg"),
                webhook_id=webhook.id,
                job_id=job.id,
                event=event,
                body=body,
                due_at=at,
                created_at=at,
            )
        )


def deliver_due(records: Records, poster: Poster, key: bytes, at: datetime | None = None) -> list[Delivery]:
    """Send what is due ``at`` a time (now), at most MAX_AT_ONCE messages; gives them as they are afterwards.

    ``key`` is the server's, from which the secrets come that sign them.
    """
    moment = at or now()
    taken = _taken(records, moment)

    def send(delivery: Delivery) -> Delivery:
        return _send(records, poster, key, delivery, moment)

    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="webhook") as pool:
        return list(pool.map(send, taken))


def _taken(records: Records, at: datetime) -> Sequence[Delivery]:
    """The due messages, put off so that nobody else sends them meanwhile."""
    with records.transaction():
        due = [each for each in records.find(Delivery, status=DeliveryStatus.PENDING.value) if each.due_at <= at]
        for each in due[:MAX_AT_ONCE]:
            records.replace(replace(each, due_at=at + SENDING))
    return due[:MAX_AT_ONCE]


def _send(records: Records, poster: Poster, key: bytes, delivery: Delivery, at: datetime) -> Delivery:
    webhook = records.get(Webhook, delivery.webhook_id)
    if webhook.disabled_at:
        after = replace(delivery, status=DeliveryStatus.FAILED, last_error="the webhook is disabled")
    else:
        headers = signed_headers(secret_of(webhook, key), delivery.id, at, delivery.body)
        try:
            status = poster.post(webhook.url, delivery.body.encode(), headers)
            error = None if 200 <= status < 300 else f"it answered {status}"
        except AddressRefused as refusal:
            error = str(refusal)
        after = attempted(delivery, error, at)
    records.replace(after)
    return after
