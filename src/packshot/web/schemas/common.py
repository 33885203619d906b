"""What several routes share: pages, addresses, and fields that are the same wherever they stand."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from packshot.domain.jobs import MAX_PRIORITY

T = TypeVar("T")
Priority: int = Field(
    default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="Higher comes first among your own waiting jobs."
)
Scheduler: str = Field(default="", description="ddim, euler, dpmsolver++ or flow-match-euler; the base's own if empty.")
DryRun: bool = Field(
    default=False, description="Check everything, tell what it would make and take (200); nothing is recorded."
)


class Input(BaseModel):
    """A request body; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Page(BaseModel, Generic[T]):
    """A part of a list; ``next`` is the cursor of the next one, null at the end."""

    items: list[T]
    next: str | None


class Urls(BaseModel):
    """Where to go on with something that a worker does."""

    get: str
    cancel: str


Variables = Annotated[
    dict[str, StrictStr | StrictInt], Field(description="Values for variables of the template, by name.")
]
