"""Telling a team's own server that a job has ended: what is said, how it is signed, when it is said again.

The headers and the signature follow Standard Webhooks (standardwebhooks.com). Does not know how a message travels.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from packshot.domain.errors import SignatureRefused
from packshot.domain.jobs import Job

SECRET_PREFIX = "whsec_"
TOLERANCE = timedelta(minutes=5)
BACKOFF = tuple(
    timedelta(seconds=seconds) for seconds in (5, 60, 300, 1800, 2 * 3600, 5 * 3600, 10 * 3600, 14 * 3600, 24 * 3600)
)
"""The pauses after the first, second … failure; after the last one a message is given up."""


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Where a namespace is told of its jobs. ``secret`` is the stored one of older webhooks; see ``secret_of``."""

    id: str
    namespace: str
    url: str
    secret: str = ""
    created_at: datetime
    disabled_at: datetime | None = None


class DeliveryStatus(StrEnum):
    """pending → delivered | failed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A message to one webhook. Its id stays the same however often it is sent, so that receivers can tell repeats."""

    id: str
    webhook_id: str
    job_id: str
    event: str
    body: str
    status: DeliveryStatus = DeliveryStatus.PENDING
    num_attempts: int = 0
    due_at: datetime
    last_error: str = ""
    created_at: datetime


def secret_of(webhook: Webhook, key: bytes) -> str:
    """What signs the messages to ``webhook``: derived from the server's ``key`` and its id, so it is kept nowhere."""
    if webhook.secret:
        return webhook.secret
    return SECRET_PREFIX + base64.b64encode(hmac.digest(key, f"webhook {webhook.id}".encode(), hashlib.sha256)).decode()


def message_about(job: Job, at: datetime) -> tuple[str, str]:
    """The event and the body that tell of the end of ``job``."""
    event = f"job.{job.status.value}"
    data = {
        "job_id": job.id,
        "kind": job.kind.value,
        "status": job.status.value,
        "subject_id": job.subject_id,
        "message": job.message,
        "namespace": job.namespace,
    }
    return event, json.dumps({"type": event, "timestamp": at.isoformat(), "data": data})


def signed_headers(secret: str, message_id: str, at: datetime, body: str) -> dict[str, str]:
    """The headers of a message: id, seconds since 1970, and HMAC-SHA256 over both and the body."""
    timestamp = str(int(at.timestamp()))
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{_signature(secret, message_id, timestamp, body)}",
    }


def check_signature(secret: str, headers: Mapping[str, str], body: str, now: datetime) -> None:
    """For receivers: check that a message is genuine and new. Header names are in lower case.

    Raises:
        SignatureRefused: a header is missing, no signature fits, or it is older or newer than TOLERANCE.
    """
    try:
        message_id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
        given = headers["webhook-signature"].split()
        age = abs(now.timestamp() - int(timestamp))
    except (KeyError, ValueError) as error:
        raise SignatureRefused(f"the message has not the headers of Standard Webhooks ({error})") from error
    if age > TOLERANCE.total_seconds():
        raise SignatureRefused(
            f"the message was signed {age:g} s away from now; check the clock, or it is a repetition"
        )
    expected = f"v1,{_signature(secret, message_id, timestamp, body)}"
    if not any(hmac.compare_digest(each.encode(), expected.encode()) for each in given):
        raise SignatureRefused("no signature of the message fits its content and this secret")


def _signature(secret: str, message_id: str, timestamp: str, body: str) -> str:
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    return base64.b64encode(hmac.digest(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256)).decode()


def attempted(delivery: Delivery, error: str | None, at: datetime) -> Delivery:
    """``delivery`` after an attempt: delivered where there is no ``error``, else due again or given up."""
    tried = replace(delivery, num_attempts=delivery.num_attempts + 1, last_error=error or "")
    if error is None:
        return replace(tried, status=DeliveryStatus.DELIVERED)
    if tried.num_attempts > len(BACKOFF):
        return replace(tried, status=DeliveryStatus.FAILED)
    return replace(tried, due_at=at + BACKOFF[tried.num_attempts - 1])
