"""Requests as flows: generators that say what to ask or how long to pause, and are sent the reply. Does no input or output.

A flow is written once and carried out by ``Client`` or ``AsyncClient``, step by step. Every POST carries an idempotency
key, so asking again after a broken connection is safe.
"""

import uuid
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

import httpx2
from pydantic import TypeAdapter, ValidationError

from packshot.domain.errors import JobFailed, ServerUnusable
from packshot.domain.jobs import JobStatus
from packshot.web.job_states import JobState
from packshot.web.problems import MEDIA_TYPE, Problem, error_of
from packshot.web.schemas import BatchJob, EvaluationJob, GenerationJob, Page, Training

if TYPE_CHECKING:
    from packshot.client import AsyncClient, Client

NUM_ATTEMPTS = 4
MAX_PAUSE_S = 10

P = ParamSpec("P")
T = TypeVar("T")
J = TypeVar("J", Training, GenerationJob, BatchJob, EvaluationJob)
W = TypeVar("W", Training, JobState)


@dataclass(frozen=True, kw_only=True)
class Ask:
    """A request; ``options`` are those of httpx2."""

    method: str
    path: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Pause:
    """Time to let pass."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class Listen:
    """A stream of server-sent events; ``heard`` is told the id and the data of each. The outcome is that of the request."""

    path: str
    last_event_id: str
    heard: Callable[[str, str], None]


Step = Ask | Listen | Pause
Flow = Generator[Step, httpx2.Response | None, T]


class Progress(Generic[T]):
    """A flow on its way: ``advance`` gives its next ``step``, or its ``result`` at the end."""

    step: Step
    result: T

    def __init__(self, flow: Flow[T]) -> None:
        self._flow = flow

    def advance(self, outcome: httpx2.Response | httpx2.TransportError | None) -> bool:
        """Tell the flow what came of its last step; whether there is another one."""
        try:
            if isinstance(outcome, httpx2.TransportError):
                self.step = self._flow.throw(outcome)
            else:
                self.step = self._flow.send(outcome)
        except StopIteration as end:
            self.result = end.value
            return False
        return True


class Method(Generic[P, T]):
    """A flow as a method: of a ``Client`` it returns the result, of an ``AsyncClient`` it is awaited."""

    def __init__(self, flow: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._flow = flow
        self.__doc__ = flow.__doc__

    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type) -> Callable[P, Awaitable[T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    def __get__(self, client: Any, owner: type) -> Any:
        """The method of ``client``."""
        if client is None:
            return self

        @wraps(self._flow)
        def method(*args: Any, **options: Any) -> Any:
            return client.carry_out(self._flow(client, *args, **options))

        return method


def call(kind: type[T], method: str, path: str, **options: Any) -> Flow[T]:
    """Ask, and read the reply as a ``kind``."""
    reply = yield from exchange(method, path, **options)
    try:
        return TypeAdapter(kind).validate_json(reply.content)
    except ValidationError as error:
        raise ServerUnusable(f"{reply.url} did not answer as documented; is it a Packshot server? ({error})") from error


def exchange(method: str, path: str, **options: Any) -> Flow[httpx2.Response]:
    """Ask until there is a reply that is no passing failure; raise the error that a problem stands for."""
    if method == "POST":
        options["headers"] = {"Idempotency-Key": uuid.uuid4().hex}
    for attempt in range(1, NUM_ATTEMPTS + 1):
        try:
            reply = yield Ask(method=method, path=path, options=options)
            assert reply is not None
            if reply.is_success:
                return reply
            if not _passes(reply) or attempt == NUM_ATTEMPTS:
                raise _error(reply)
            if reply.status_code == httpx2.codes.TOO_MANY_REQUESTS:
                yield Pause(float(reply.headers["retry-after"]))
                continue
        except httpx2.TransportError as error:
            if attempt == NUM_ATTEMPTS:
                raise ServerUnusable(f"{method} {path}: the server cannot be reached ({error})") from error
        yield Pause(0.25 * 2**attempt)
    raise AssertionError


def _passes(reply: httpx2.Response) -> bool:
    """Whether to ask again: the server is busy for a moment, or the key was too fast by a little."""
    if reply.status_code == httpx2.codes.TOO_MANY_REQUESTS:
        after = reply.headers.get("retry-after", "")
        return after.isdecimal() and int(after) <= MAX_PAUSE_S
    return reply.status_code == httpx2.codes.SERVICE_UNAVAILABLE


def _error(reply: httpx2.Response) -> Exception:
    if reply.headers.get("content-type") != MEDIA_TYPE:
        return ServerUnusable(f"{reply.url} answered {reply.status_code} without problem details; check the URL")
    return error_of(Problem.model_validate_json(reply.content))


def collect(kind: type[Page[T]], path: str, **params: str) -> Flow[list[T]]:
    """Every item of a list, page after page."""
    items: list[T] = []
    cursor: dict[str, str] = {}
    while True:
        page = yield from call(kind, "GET", path, params={**params, **cursor, "limit": 200})
        items += page.items
        if page.next is None:
            return items
        cursor = {"cursor": page.next}


def wait(kind: type[J], path: str, report: Callable[[J], None], poll_s: float) -> Flow[J]:
    """Look at a job until it has succeeded, and report each change. Raises JobFailed: it failed or was canceled."""
    last: J | None = None
    while True:
        state = yield from call(kind, "GET", path)
        if state != last:
            report(state)
        if state.status is JobStatus.SUCCEEDED:
            return state
        if state.status in (JobStatus.FAILED, JobStatus.CANCELED):
            raise JobFailed(f"{state.id} {state.status}: {state.message}")
        last = state
        yield Pause(poll_s)


def watch(kind: type[W], path: str, report: Callable[[W], None]) -> Flow[W]:
    """Listen to the events of a job until it has ended, and report each; a broken stream is gone on with.

    Raises JobFailed: it failed or was canceled.
    """
    reader = TypeAdapter(kind)
    heard: list[W] = []
    last, silent = "", 0

    def hear(event_id: str, data: str) -> None:
        nonlocal last
        last = event_id
        try:
            heard.append(reader.validate_json(data))
        except ValidationError as error:
            raise ServerUnusable(f"{path} did not tell as documented; is it a Packshot server? ({error})") from error
        report(heard[-1])

    while not heard or not heard[-1].finished_at:
        before, failure = last, None
        try:
            reply = yield Listen(path=path, last_event_id=last, heard=hear)
            assert reply is not None
            if not reply.is_success and not _passes(reply):
                raise _error(reply)
        except httpx2.TransportError as error:
            failure = error
        silent = 0 if last != before else silent + 1
        if silent == NUM_ATTEMPTS:
            raise ServerUnusable(f"{path}: the server cannot be listened to ({failure or 'no events'})")
        if not heard or not heard[-1].finished_at:
            yield Pause(0.25 * 2**silent)
    if heard[-1].status is not JobStatus.SUCCEEDED:
        raise JobFailed(f"{heard[-1].id} {heard[-1].status}: {heard[-1].message}")
    return heard[-1]
