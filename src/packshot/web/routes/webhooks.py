"""``/v1/webhooks``: where a team is told that its jobs have ended."""

import json
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from packshot.domain.access import AuditAction
from packshot.domain.webhooks import Delivery, Webhook, secret_of
from packshot.services.access import owned
from packshot.services.webhooks import WebhookInfo, add_webhook, disable_webhook, without_secret
from packshot.web.replies import Idempotent, MayAdminister, Pages
from packshot.web.schemas import NewWebhook, Page

router = APIRouter(prefix="/webhooks", tags=["webhooks"])


def _webhook(webhook_id: str, call: MayAdminister) -> Webhook:
    return owned(call.records, Webhook, webhook_id, call.namespace)


Hook = Annotated[Webhook, Depends(_webhook)]


@router.post("", status_code=201, response_model=Webhook)
def create_webhook(body: NewWebhook, call: MayAdminister, once: Idempotent) -> Webhook:
    """Tell a URL of every job that ends, signed with a secret that is shown this once."""

    def act() -> str:
        with call.audited(AuditAction.ADD_WEBHOOK, body.url):
            return add_webhook(call.records, call.namespace, body.url).id

    webhook = call.records.get(Webhook, json.loads(once.text(body, act)))  # replies are kept: none holds the secret
    return replace(webhook, secret=secret_of(webhook, call.space.secret_key))


@router.get("")
def list_webhooks(call: MayAdminister, pages: Pages) -> Page[WebhookInfo]:
    """The webhooks of the namespace, the disabled too."""
    page = pages.of(call.records, Webhook, namespace=call.namespace)
    return Page(items=[without_secret(each) for each in page.items], next=page.next)


@router.post("/{webhook_id}/disable", response_model=WebhookInfo)
def disable(webhook: Hook, call: MayAdminister, once: Idempotent) -> Response:
    """Tell it nothing any more."""

    def act() -> WebhookInfo:
        with call.audited(AuditAction.DISABLE_WEBHOOK, webhook.url):
            return without_secret(disable_webhook(call.records, webhook))

    return once("", act)


@router.get("/{webhook_id}/deliveries")
def list_deliveries(webhook: Hook, call: MayAdminister, pages: Pages) -> Page[Delivery]:
    """What it was told, or could not be told and why, the oldest first."""
    return pages.of(call.records, Delivery, webhook_id=webhook.id)
