"""Webhooks."""

from pydantic import Field

from packshot.web.schemas.common import Input


class NewWebhook(Input):
    """Where to tell that jobs have ended."""

    url: str = Field(examples=["https://shop.example/packshot"], max_length=500)
