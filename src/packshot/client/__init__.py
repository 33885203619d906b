"""The HTTP API from Python: ``Client`` and ``AsyncClient`` have the same methods, and raise the errors of the services."""

import asyncio
import time
from typing import Any, Self

import httpx2

from packshot.client.flows import Ask, Flow, Listen, Pause, Progress, T
from packshot.client.methods import Methods

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 120.0


class Client(Methods):
    """Calls the server at ``url`` with an API ``key``; close it after use. ``http`` is a connection pool to use."""

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None, *, http: httpx2.Client | None = None) -> None:
        self._http = http or httpx2.Client(base_url=url, timeout=TIMEOUT_S)
        self._key = key

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def carry_out(self, flow: Flow[T]) -> T:
        """Do the steps of ``flow``."""
        progress, outcome = Progress(flow), None
        while progress.advance(outcome):
            outcome = None
            match progress.step:
                case Pause(seconds):
                    time.sleep(seconds)
                case Ask() as ask:
                    try:
                        outcome = self._http.request(ask.method, ask.path, **_options(ask, self._key))
                    except httpx2.TransportError as error:
                        outcome = error
                case Listen() as listen:
                    try:
                        outcome = self._listen(listen)
                    except httpx2.TransportError as error:
                        outcome = error
        return progress.result

    def _listen(self, listen: Listen) -> httpx2.Response:
        with self._http.stream("GET", listen.path, headers=_listening(listen, self._key)) as reply:
            if reply.is_success:
                for event in httpx2.EventSource(reply):
                    listen.heard(event.id, event.data)
            else:
                reply.read()
        return reply


class AsyncClient(Methods):
    """As ``Client``, with methods to await."""

    def __init__(
        self, url: str = DEFAULT_URL, key: str | None = None, *, http: httpx2.AsyncClient | None = None
    ) -> None:
        self._http = http or httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_S)
        self._key = key

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def carry_out(self, flow: Flow[T]) -> T:
        """Do the steps of ``flow``."""
        progress, outcome = Progress(flow), None
        while progress.advance(outcome):
            outcome = None
            match progress.step:
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Ask() as ask:
                    try:
                        outcome = await self._http.request(ask.method, ask.path, **_options(ask, self._key))
                    except httpx2.TransportError as error:
                        outcome = error
                case Listen() as listen:
                    try:
                        outcome = await self._listen(listen)
                    except httpx2.TransportError as error:
                        outcome = error
        return progress.result

    async def _listen(self, listen: Listen) -> httpx2.Response:
        async with self._http.stream("GET", listen.path, headers=_listening(listen, self._key)) as reply:
            if reply.is_success:
                async for event in httpx2.EventSource(reply):
                    listen.heard(event.id, event.data)
            else:
                await reply.aread()
        return reply


def _options(ask: Ask, key: str | None) -> dict[str, Any]:
    return {**ask.options, "headers": {**_authorization(key), **ask.options.get("headers", {})}}


def _listening(listen: Listen, key: str | None) -> dict[str, str]:
    resumed = {"Last-Event-ID": listen.last_event_id} if listen.last_event_id else {}
    return {**_authorization(key), "Accept": "text/event-stream", **resumed}


def _authorization(key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}
