"""Asks image APIs that speak as OpenAI's does: ``POST BASE_URL/images/generations``, pictures as base64 in the reply.

A key is read from the environment when it is needed and stands in nothing but the request. Answers that pass (429, 5xx,
no connection) are asked for again, as late as the API wants. A reply that does not come in time is not: the pictures may
have been made and charged.
"""

import base64
import os
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
from pydantic import BaseModel, TypeAdapter, ValidationError

from packshot.domain.errors import ImageRefused, ProviderRefused, ProviderUnusable
from packshot.domain.generation import SamplingSettings
from packshot.domain.models import ForeignModel
from packshot.domain.providers import SIZE, Provider
from packshot.imaging.decode import decode_picture
from packshot.ports import Progress
from packshot.providers.configuration import ProviderConfig, is_loopback, read_providers

NUM_ATTEMPTS = 4
MAX_PAUSE_S = 60.0
MAX_REPLY_BYTES = 256 * 2**20
CONNECT_TIMEOUT_S = 10.0
_SHOWN = 300  # characters of an API's own words
_PASSES = (429, 500, 502, 503, 504)


class _Picture(BaseModel):
    b64_json: str


class _Pictures(BaseModel):
    data: list[_Picture]


_words = TypeAdapter(dict[str, Any])


class OpenAiImages:
    """The providers that the TOML ``file`` declares. ``transport`` and ``sleep`` are for tests."""

    def __init__(
        self,
        file: Path,
        *,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._file = file
        self._transport = transport
        self._sleep = sleep
        self._environment = environment

    def providers(self) -> list[Provider]:
        """Those that are configured; see the port."""
        return [config.provider(name) for name, config in read_providers(self._file).items()]

    def generate(
        self,
        model: ForeignModel,
        prompt: str,
        sampling: SamplingSettings,
        *,
        request_id: str,
        report: Callable[[Progress], None],
    ) -> list[bytes]:
        """The pictures; see the port. With a seed they are asked for one by one, so that each has its own."""
        config = read_providers(self._file).get(model.provider)
        if config is None:
            raise ProviderUnusable(f"{self._file} does not declare {model.provider} any more; put it back")
        portion = 1 if "seed" in model.settings else config.max_images
        pngs: list[bytes] = []

        def tell() -> None:
            report(Progress(phase="pictures", step=len(pngs), num_steps=sampling.num_images))

        with self._client(model, config) as client:
            tell()
            while len(pngs) < sampling.num_images:
                number = min(portion, sampling.num_images - len(pngs))
                body = _body(config, model, prompt, sampling, start=len(pngs), number=number)
                reply = self._ask(client, model, body, f"{request_id}-{len(pngs)}", tell)
                pngs += _read(model, reply, number)
                tell()
        return pngs

    def _client(self, model: ForeignModel, config: ProviderConfig) -> httpx2.Client:
        headers: dict[str, str] = {}
        if config.key_variable:
            key = self._environment.get(config.key_variable, "")
            if not key.isascii() or not key.isprintable() or not key:
                raise ProviderUnusable(
                    f"{model.provider} needs a key; set {config.key_variable} for the program that makes the pictures"
                )
            headers["Authorization"] = f"Bearer {key}"
        return httpx2.Client(
            base_url=config.base_url,
            headers=headers,
            timeout=httpx2.Timeout(config.timeout_s, connect=CONNECT_TIMEOUT_S),
            transport=self._transport,
            trust_env=not is_loopback(urlsplit(config.base_url).hostname or ""),  # no proxy to this machine
        )

    def _ask(
        self,
        client: httpx2.Client,
        model: ForeignModel,
        body: Mapping[str, Any],
        request_id: str,
        tell: Callable[[], None],
    ) -> bytes:
        """The body of a good reply. Raises ProviderUnusable, ProviderRefused."""
        for attempt in range(1, NUM_ATTEMPTS + 1):
            last = attempt == NUM_ATTEMPTS
            try:
                with client.stream(
                    "POST", "images/generations", json=body, headers={"Idempotency-Key": request_id}
                ) as reply:
                    content = _read_bounded(model, reply)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if last:
                    raise ProviderUnusable(f"{model.provider} cannot be reached ({error}); try again later") from error
                pause = _backoff(attempt)
            except httpx2.TimeoutException as error:
                raise ProviderUnusable(
                    f"{model.reference} did not answer in time; it may be making the pictures all the same. A longer "
                    "timeout_s in providers.toml waits longer"
                ) from error
            except httpx2.TransportError as error:
                raise ProviderUnusable(f"the connection to {model.provider} broke ({error}); try again") from error
            else:
                if reply.is_success:
                    return content
                pause = _pause(reply, attempt)
                if reply.status_code not in _PASSES or last or pause > MAX_PAUSE_S:
                    raise _error(model, reply, _said(content, client.headers.get("authorization", "")))
            self._wait(pause, tell)
        raise AssertionError

    def _wait(self, seconds: float, tell: Callable[[], None]) -> None:
        """Let time pass, second by second, so that whoever is told can end it."""
        while seconds > 0:
            tell()
            self._sleep(min(seconds, 1.0))
            seconds -= 1.0
        tell()


def _body(
    config: ProviderConfig, model: ForeignModel, prompt: str, sampling: SamplingSettings, *, start: int, number: int
) -> dict[str, Any]:
    body: dict[str, Any] = {**config.fields, "model": model.name, "prompt": prompt, "n": number}
    for setting in model.settings:
        if setting == SIZE:
            body["size"] = f"{sampling.width}x{sampling.height}"
        elif setting in config.settings:
            value = getattr(sampling, setting)
            body[config.settings[setting]] = value + start if setting == "seed" else value
        else:
            raise ProviderUnusable(f"providers.toml lets {model.provider} take no {setting} any more; ask again")
    return body


def _read_bounded(model: ForeignModel, reply: httpx2.Response) -> bytes:
    content = bytearray()
    for chunk in reply.iter_bytes():
        content += chunk
        if len(content) > MAX_REPLY_BYTES:
            raise ProviderUnusable(f"{model.reference} sends more than {MAX_REPLY_BYTES // 2**20} MiB; ask for less")
    return bytes(content)


def _read(model: ForeignModel, content: bytes, number: int) -> list[bytes]:
    """The pictures in a reply as PNGs. Raises ProviderUnusable."""
    try:
        pictures = _Pictures.model_validate_json(content).data
        found = [base64.b64decode(each.b64_json, validate=True) for each in pictures]
        pngs = [decode_picture(data, f"picture {place}") for place, data in enumerate(found, start=1)]
    except (ValidationError, ValueError) as error:
        raise ProviderUnusable(
            f"{model.reference} did not answer with pictures in data[].b64_json; some APIs need "
            'response_format = "b64_json" among their fields in providers.toml'
        ) from error
    except ImageRefused as error:
        raise ProviderUnusable(f"{model.reference} sent something that is no good picture: {error}") from error
    if len(pngs) != number:
        raise ProviderUnusable(f"{model.reference} sent {len(pngs)} pictures, and {number} were asked for")
    return pngs


def _error(model: ForeignModel, reply: httpx2.Response, said: str) -> Exception:
    status = reply.status_code
    if status in {401, 403}:
        return ProviderUnusable(f"{model.provider} does not take the key ({status}): {said}")
    if 400 <= status < 500 and status not in {404, 408, 429}:
        return ProviderRefused(f"{model.reference} refused the request ({status}): {said}")
    return ProviderUnusable(f"{model.reference} answered {status}: {said}; try again later")


def _said(content: bytes, authorization: str) -> str:
    """An API's own words about a failure, in one line and without the key."""
    try:
        reply = _words.validate_json(content)
        error = reply.get("error", reply)
        words = (error.get("message") or error.get("detail")) if isinstance(error, dict) else error
    except ValidationError:
        words = ""
    text = "".join(each if each.isprintable() else " " for each in str(words or "no reason given"))
    key = authorization.partition(" ")[2]
    return (text.replace(key, "[key]") if key else text)[:_SHOWN]


def _pause(reply: httpx2.Response, attempt: int) -> float:
    """Seconds until the API wants to be asked again: Retry-After as a number or a date (RFC 9110), or a little longer each time."""
    after = reply.headers.get("retry-after", "")
    if after.isdecimal():
        return float(after)
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except ValueError:
        return _backoff(attempt)


def _backoff(attempt: int) -> float:
    return 0.5 * 2**attempt
