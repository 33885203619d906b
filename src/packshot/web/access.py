"""Who asks: a request id and a caller for every request before its body is read, and how much of that is read.

Does not know what may be asked.

Everything under ``/v1`` needs an API key, and so do the metrics unless they are asked for on this machine. With ``dev``, a request without one is answered too when it comes from this
machine and from no web page of another origin; then it may do everything in the default namespace.
"""

import re
import secrets
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from packshot.bootstrap import Workspace
from packshot.domain import access
from packshot.domain.access import Caller
from packshot.domain.errors import KeyRefused, PackshotError
from packshot.imaging.uploads import MAX_UPLOAD_BYTES
from packshot.services.access import authenticate
from packshot.services.limits import RequestRates, limits_of
from packshot.web.replies import REQUEST_ID, error_response

MAX_BODY_BYTES = 2**20
_LARGER_BODIES = {"/references": MAX_UPLOAD_BYTES, "/v1/generations": 32 * 2**20}  # photos; a layout
METRICS_PATH = "/metrics"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class RequestIds:
    """Gives every request the id that its ``X-Request-Id`` says, or a fresh one; the reply repeats it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get(REQUEST_ID, "")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class BodyLimits:
    """Reads at most MAX_BODY_BYTES, and more only where pictures come along."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((limit for end, limit in _LARGER_BODIES.items() if scope["path"].endswith(end)), MAX_BODY_BYTES)
        declared = Headers(scope=scope).get("content-length", "0")
        read = int(declared) if declared.isdecimal() and int(declared) > limit else 0

        async def receive_limited() -> Message:
            nonlocal read
            message = await receive() if read <= limit else {"type": "http.request"}
            read += len(message.get("body", b""))
            if read > limit:
                raise HTTPException(413, f"the body has more than {limit} bytes; send less at once")
            return message

        await self._app(scope, receive_limited, send)


class Authenticated:
    """Lets requests under ``/v1`` and for metrics pass whose caller is known and not too fast, and notes the caller."""

    def __init__(self, app: ASGIApp, space: Workspace, *, dev: bool) -> None:
        self._app = app
        self._space = space
        self._dev = dev
        self._rates = RequestRates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] == "http" and (scope["path"].startswith("/v1") or scope["path"] == METRICS_PATH):
            try:
                await run_in_threadpool(self._let_in, scope)
            except PackshotError as error:
                await error_response(Request(scope), error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _let_in(self, scope: Scope) -> None:
        """Note whoever sent the request. Raises KeyRefused, RateLimited."""
        scope["state"]["caller"] = caller = self._caller(scope)
        self._check_rate(caller)

    def _caller(self, scope: Scope) -> Caller:
        """Whoever sent the request. Raises KeyRefused."""
        scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and secret:
            return authenticate(self._space.records, secret.strip())
        if (self._dev or scope["path"] == METRICS_PATH) and not scheme and _is_local(scope):
            return Caller(namespace=self._space.settings.namespace, scopes=tuple(access.Scope), name="this machine")
        raise KeyRefused(
            "no API key was given; send 'Authorization: Bearer KEY', and make one with: packshot key create NAME --scope SCOPE"
        )

    def _check_rate(self, caller: Caller) -> None:
        """Use one of the caller's requests of this minute. Raises RateLimited."""
        limits = limits_of(self._space.records, caller.namespace, self._space.limits)
        self._rates.take(caller.key_id, limits.requests_per_minute)


def _is_local(scope: Scope) -> bool:
    """Whether a person or program on this machine asks, not a proxy, nor a page that a browser got from elsewhere."""
    headers = Headers(scope=scope)
    names = [urlsplit(f"//{headers.get('host', '')}").hostname]
    if "origin" in headers:
        names.append(urlsplit(headers["origin"]).hostname)
    forwarded = "forwarded" in headers or "x-forwarded-for" in headers
    try:
        loopback = ip_address((scope.get("client") or ("", 0))[0]).is_loopback
    except ValueError:
        loopback = False
    return loopback and not forwarded and all(name in _LOOPBACK_NAMES for name in names)
