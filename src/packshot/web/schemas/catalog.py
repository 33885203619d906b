"""Categories, their photos, and what is promoted."""

from pydantic import BaseModel, Field

from packshot.domain.models import AliasEvent
from packshot.domain.references import ReferenceImage
from packshot.services.fetching import MAX_URLS
from packshot.web.schemas.common import Input


class NewCategory(Input):
    """A path and an identifier to reserve."""

    path: str = Field(examples=["produce/apple/honeycrisp"])
    class_noun: str = Field(examples=["apple"], description="The plain word for the product's class.")
    identifier: str | None = Field(
        default=None, description="What callers write; derived from path and noun when not given."
    )


class References(BaseModel):
    """The curation report: every photo with its verdict, and what would make the set better."""

    images: list[ReferenceImage]
    advice: list[str]
    freezable: bool


class PhotosByUrl(Input):
    """Reference photos to fetch."""

    urls: list[str] = Field(min_length=1, max_length=MAX_URLS, description="Of one picture each, by http or https.")
    captions: dict[str, str] = Field(default={}, description="What photos show, by their URLs.")
    source: str = Field(default="", max_length=500, description="Where the photos come from; the URL is noted anyway.")
    license: str = Field(default="", max_length=200, description="The licence they may be used under.")


class Promotion(Input):
    """Which fine-tune to put into service."""

    fine_tune_id: str
    reason: str = Field(default="", max_length=1000, description="Needed where the gate has not passed it.")


class Rollback(Input):
    """Why the version before is put back into service."""

    reason: str = Field(default="", max_length=1000)


class Alias(BaseModel):
    """What serves a category, and every event that led there, the newest last."""

    serving: str | None = Field(description="The id of the fine-tune.")
    history: list[AliasEvent]
