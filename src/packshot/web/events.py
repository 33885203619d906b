"""Progress as server-sent events (HTML Living Standard, 9.2): the state of something whenever it has changed, to its end.

An event's id is a digest of the state that it tells. A listener that comes back with it as ``Last-Event-ID`` is told
what has changed since, and nothing twice. A comment goes out while nothing changes, so that proxies keep the connection.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import anyio
from fastapi import Header
from fastapi.sse import ServerSentEvent
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from packshot.web.job_states import JobState
from packshot.web.schemas import Training

POLL_S = 0.5

LastEventId = Annotated[
    str | None, Header(max_length=100, description="The id of the last event that was heard; what it told is left out.")
]


async def changes(
    state: Callable[[], JobState | Training], last_event_id: str | None
) -> AsyncIterator[ServerSentEvent]:
    """``state()`` whenever it has changed, the last one when nothing more will happen."""
    told = last_event_id
    while True:
        now = await run_in_threadpool(state)
        fingerprint = _fingerprint(now)
        if fingerprint != told:
            yield ServerSentEvent(data=now, id=fingerprint)
        if now.finished_at:
            return
        told = fingerprint
        await anyio.sleep(POLL_S)


def _fingerprint(state: BaseModel) -> str:
    return hashlib.sha256(state.model_dump_json().encode()).hexdigest()[:32]
