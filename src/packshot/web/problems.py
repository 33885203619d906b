"""Errors as RFC 9457 problem details, the one error envelope of the API. Knows no web framework.

A problem's ``type`` is ``/problems/`` and the error's name in kebab case; it never changes its meaning. The same table
leads a client back from a problem to the error.
"""

import re

from pydantic import BaseModel, Field

from packshot.domain import errors
from packshot.domain.errors import PackshotError

MEDIA_TYPE = "application/problem+json"
PREFIX = "/problems/"

STATUS: dict[type[PackshotError], int] = {
    errors.InvalidInput: 422,
    errors.ImageRefused: 422,
    errors.ReferenceSetRefused: 409,
    errors.KeyRefused: 401,
    errors.SignatureRefused: 401,
    errors.ScopeMissing: 403,
    errors.LimitReached: 429,
    errors.NotFound: 404,
    errors.AddressRefused: 422,
    errors.Conflict: 409,
    errors.BaseModelRefused: 422,
    errors.JudgeUnusable: 503,
    errors.IncompatibleFineTune: 409,
    errors.CorruptArtifact: 500,
    errors.GateNotPassed: 409,
    errors.NothingServing: 409,
    errors.CredentialsUnusable: 503,
    errors.WorkspaceMissing: 503,
    errors.WorkspaceUnusable: 503,
    errors.SamplingFailed: 500,
    errors.ProcessFailed: 500,
    errors.ProviderUnusable: 502,
    errors.ProviderRefused: 422,
    errors.JobFailed: 500,
    errors.Interrupted: 503,
    errors.ServerUnusable: 502,
}
"""The status of each error class; a subclass has that of its nearest ancestor here."""


class FieldProblem(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(examples=["body.num_images"])
    message: str


class Problem(BaseModel):
    """Problem details (RFC 9457): what went wrong, which value, and how to mend it."""

    type: str = Field(examples=[f"{PREFIX}identifier-taken"])
    title: str = Field(examples=["Identifier taken"])
    status: int = Field(examples=[409])
    detail: str
    instance: str = Field(description="The path of the request.")
    request_id: str = Field(description="Also in the header X-Request-Id, and in the server's log.")
    fields: list[FieldProblem] = Field(default=[], description="Where the request does not have the documented form.")


def status_of(kind: type[PackshotError]) -> int:
    """The status of an error class."""
    return next(STATUS[ancestor] for ancestor in kind.__mro__ if ancestor in STATUS)


def slug_of(kind: type[PackshotError]) -> str:
    """The last word of a problem's type, such as ``identifier-taken``."""
    return slug_of_name(kind.__name__)


def slug_of_name(name: str) -> str:
    """As ``slug_of``, for the name of an error class that a record keeps."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def title_of(slug: str) -> str:
    """``Identifier taken`` for ``identifier-taken``."""
    return slug.replace("-", " ").capitalize()


def error_of(problem: Problem) -> PackshotError:
    """The error that became ``problem`` on a server; of its nearest kind where this program does not know the type."""
    slug = problem.type.removeprefix(PREFIX)
    kind = next((each for each in problem_kinds() if slug_of(each) == slug), None)
    if kind is None or issubclass(kind, errors.ImageRefused):
        kind = errors.InvalidInput if problem.status < 500 else errors.ServerUnusable
    return kind("; ".join([problem.detail, *(f"{each.field}: {each.message}" for each in problem.fields)]))


def problem_kinds() -> list[type[PackshotError]]:
    """Every error class that has a status, by name."""
    found = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, PackshotError)]
    return sorted(
        (each for each in found if any(ancestor in STATUS for ancestor in each.__mro__)),
        key=lambda kind: kind.__name__,
    )
