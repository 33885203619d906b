"""What routes share: the call with its caller and workspace, idempotent replies, pages, errors as problem details."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, Query, Request, Response, Security
from fastapi.security import HTTPBearer, SecurityScopes
from pydantic_core import to_json

from packshot.bootstrap import Workspace
from packshot.domain.access import AuditAction, Caller, Scope
from packshot.domain.errors import InvalidInput, LimitReached, NotFound, PackshotError
from packshot.ports import Record, Records, Search, Wanted
from packshot.services.access import once as carry_out_once
from packshot.services.audit import Actor, audited
from packshot.web.problems import MEDIA_TYPE, PREFIX, FieldProblem, Problem, slug_of, status_of, title_of
from packshot.web.schemas import Page

REQUEST_ID = "X-Request-Id"

R = TypeVar("R", bound=Record)

_bearer = HTTPBearer(
    scheme_name="key", auto_error=False, description="An API key: packshot key create NAME --scope SCOPE"
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request: the workspace, and who asks."""

    space: Workspace
    caller: Caller
    request_id: str

    @property
    def records(self) -> Records:
        """The database."""
        return self.space.records

    @property
    def namespace(self) -> str:
        """All that the caller may know of."""
        return self.caller.namespace

    def audited(self, action: AuditAction, subject: str, reason: str = "") -> AbstractContextManager[None]:
        """Do what stands in the block and note that the caller did it, or neither."""
        key = self.caller
        actor = Actor(name=f"{key.key_id} ({key.name})" if key.key_id else key.name, request_id=self.request_id)
        return audited(self.records, actor, action, namespace=self.namespace, subject=subject, reason=reason)

    def check_room(self) -> None:
        """Check that the namespace may have one more job, in the transaction that adds it. Raises QuotaExceeded."""
        self.space.check_room(self.namespace)


async def _call(request: Request, needed: SecurityScopes, _key: Annotated[object, Security(_bearer)]) -> Call:
    caller: Caller = request.state.caller
    for scope in needed.scopes:
        caller.check(Scope(scope))
    return Call(space=request.app.state.space, caller=caller, request_id=request.state.request_id)


MayRead = Annotated[Call, Security(_call, scopes=[Scope.READ.value])]
MayGenerate = Annotated[Call, Security(_call, scopes=[Scope.GENERATE.value])]
MayTrain = Annotated[Call, Security(_call, scopes=[Scope.TRAIN.value])]
MayAdminister = Annotated[Call, Security(_call, scopes=[Scope.ADMIN.value])]


class Once:
    """Replies to a POST; with an ``Idempotency-Key``, the same request again gets the same reply."""

    def __init__(self, request: Request, key: str | None) -> None:
        self._request = request
        self._key = key

    def text(self, content: object, act: Callable[[], object], *, atomic: bool = True) -> str:
        """The JSON of what ``act()`` gives; ``content`` is what tells this request from others to the same path."""
        request = f"{self._request.method} {self._request.url.path}\n{to_json(content).decode()}"
        if self._key is None:
            return _json(act())
        return carry_out_once(
            self._request.app.state.space.records,
            namespace=self._request.state.caller.namespace,
            key=self._key,
            request=request,
            act=lambda: _json(act()),
            atomic=atomic,
        )

    def __call__(
        self, content: object, act: Callable[[], object], *, status: int = 200, atomic: bool = True
    ) -> Response:
        """``text`` as the reply."""
        return Response(self.text(content, act, atomic=atomic), status, media_type="application/json")


async def _once(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=255, description="The same key and request give the same reply, once."),
    ] = None,
) -> Once:
    return Once(request, idempotency_key)


Idempotent = Annotated[Once, Depends(_once)]


def _json(value: object) -> str:
    return to_json(value, inf_nan_mode="null").decode()


@dataclass(frozen=True, kw_only=True)
class Paging:
    """Which part of a list is asked for."""

    limit: int
    cursor: str | None

    def of(
        self,
        records: Records,
        kind: type[R],
        *,
        order: Sequence[str] = (),
        search: Search | None = None,
        **equal: Wanted,
    ) -> Page[R]:
        """The records that are like that (see ``Records.find``), behind the one that the cursor names.

        Raises:
            InvalidInput: it names none.
        """
        fields: dict[str, Any] = equal

        def read(after: str | None, limit: int) -> list[R]:
            return records.find(kind, order=order, search=search, after=after, limit=limit, **fields)

        return self.page(read)

    def page(self, read: Callable[[str | None, int], list[R]]) -> Page[R]:
        """The part of a list of which ``read(after, limit)`` gives so many records behind the one with that id.

        Raises:
            InvalidInput: the cursor names none.
        """
        try:
            found = read(self.cursor, self.limit + 1)
        except NotFound as error:
            raise InvalidInput(
                f"{self.cursor!r} is no cursor of this list; send the `next` of the page before"
            ) from error
        items = found[: self.limit]
        return Page(items=items, next=items[-1].id if len(found) > self.limit else None)


async def _paging(
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="The `next` of the page before.")] = None,
) -> Paging:
    return Paging(limit=limit, cursor=cursor)


Pages = Annotated[Paging, Depends(_paging)]


def error_response(request: Request, error: PackshotError) -> Response:
    """``error`` as problem details."""
    status = status_of(type(error))
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}.get(status, {})
    if isinstance(error, LimitReached):
        headers = {"Retry-After": str(error.retry_after_s)}
    return problem_response(request, status, slug_of(type(error)), str(error), headers=headers)


def problem_response(
    request: Request,
    status: int,
    slug: str,
    detail: str,
    *,
    fields: Sequence[FieldProblem] = (),
    headers: dict[str, str] | None = None,
) -> Response:
    """Problem details as a reply."""
    request_id: str = request.state.request_id
    problem = Problem(
        type=PREFIX + slug,
        title=title_of(slug),
        status=status,
        detail=detail,
        instance=request.url.path,
        request_id=request_id,
        fields=list(fields),
    )
    return Response(
        problem.model_dump_json(exclude_defaults=True),
        status,
        media_type=MEDIA_TYPE,
        headers={REQUEST_ID: request_id, **(headers or {})},
    )
