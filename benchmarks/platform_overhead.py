"""Benchmark 10: everything but the model, with stubs that answer at once: API, access, queue, records, blobs, gate.

200 clients on loopback, each with a connection of its own, ask every two seconds on average (100 requests a second in
all), as shops and scripts do: most look where a job stands, some fetch a picture or a page of the catalog, some ask for
pictures. Times are the client's, from the first byte sent to the last received; the load runs on the same machine.

The processor time of the server per request tells how much of that is its own, whatever else the machine does. Without
pauses the same clients only measure how much the server can do: latency is then clients divided by throughput, so that
is a row of its own, without an aim.
"""

import asyncio
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

import psutil

from benchmarks.harness import Row, Setting

CLIENTS, PAUSE_S = 200, 2.0
SECONDS, QUICK_SECONDS, WARM_UP_S = 60, 15, 5
FULL_SPEED_S = 10
MIX = {"queue a generation": 15, "where a generation stands": 50, "fetch a picture": 20, "a page of the catalog": 15}
_ROOT = Path(__file__).parents[1]


@dataclass
class Seen:
    """What the clients measured, and what they may ask for."""

    key: str
    identifier: str
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MIX})
    statuses: Counter[int] = field(default_factory=Counter)
    generations: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    total: int = 0  # with those of the warm-up

    def every(self) -> list[float]:
        """All times, in ms."""
        return [each for times in self.milliseconds.values() for each in times]

    def failed(self) -> int:
        """Replies of 500 and above."""
        return sum(number for status, number in self.statuses.items() if status >= 500)


@dataclass
class Child:
    """A process, and the lines that it has printed, the first of which is there."""

    process: psutil.Process
    lines: list[str]

    def processor_s(self) -> float:
        """The processor time that it has used."""
        times = self.process.cpu_times()
        return times.user + times.system


def measure(setting: Setting) -> list[Row]:
    """Latency in percentiles per kind of request and over all, failures, and the worker's time per job."""
    seconds = QUICK_SECONDS if setting.quick else SECONDS
    with TemporaryDirectory() as folder:
        prepared = subprocess.run(_command("prepare", folder), cwd=_ROOT, capture_output=True, text=True, check=True)
        key, identifier = prepared.stdout.split("\n")[:2]
        seen = Seen(key, identifier)
        with _process("serve", folder) as server, _process("work", folder) as worker:
            port = int(server.lines[0])
            before = server.processor_s()
            asyncio.run(_load(port, seen, seconds, PAUSE_S))
            own = server.processor_s() - before
            jobs, busy = map(float, worker.lines[-1].split())
            hurried = Seen(key, identifier, generations=seen.generations, images=seen.images)
            asyncio.run(_load(port, hurried, FULL_SPEED_S, 0))
    every = seen.every()
    rows = [
        row for name, times in {"all requests": every, **seen.milliseconds}.items() for row in _percentiles(name, times)
    ]
    return [
        *rows,
        Row(label="requests", value=len(every), unit=""),
        Row(
            label="replies of 500 and above",
            value=seen.failed(),
            unit="",
            at_most=0,
        ),
        Row(
            label="other replies than 2xx",
            value=sum(n for s, n in seen.statuses.items() if s >= 300),
            unit="",
            at_most=0,
        ),
        Row(label="server's processor time per request", value=1000 * own / seen.total, unit="ms"),
        Row(label="requests per second without pauses", value=len(hurried.every()) / FULL_SPEED_S, unit="/s"),
        Row(label="replies of 500 and above without pauses", value=hurried.failed(), unit="", at_most=0),
        Row(label="worker's time per generation, stub model", value=1000 * busy / max(jobs, 1), unit="ms"),
    ]


def _percentiles(name: str, times: Sequence[float]) -> list[Row]:
    cuts = quantiles(times, n=100)
    aims = (5, 50) if name == "all requests" else (None, None)
    return [
        Row(label=f"{name}, p50", value=cuts[49], unit="ms", at_most=aims[0]),
        Row(label=f"{name}, p99", value=cuts[98], unit="ms", at_most=aims[1]),
    ]


async def _load(port: int, seen: Seen, seconds: float, pause_s: float) -> None:
    begin = time.monotonic() + WARM_UP_S
    await asyncio.gather(*(_client(port, seen, number, begin, begin + seconds, pause_s) for number in range(CLIENTS)))


async def _client(port: int, seen: Seen, number: int, begin: float, end: float, pause_s: float) -> None:
    draw = random.Random(number)
    await asyncio.sleep(draw.uniform(0, pause_s))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < end:
        name, method, path, body = _request(seen, draw)
        head = f"{method} {path} HTTP/1.1\r\nHost: packshot\r\nAuthorization: {seen.key}\r\nContent-Length: {len(body)}\r\n"
        started = time.perf_counter()
        writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
        status, reply = await _reply(reader)
        took = time.perf_counter() - started
        seen.total += 1
        if time.monotonic() >= begin:
            seen.milliseconds[name].append(1000 * took)
            seen.statuses[status] += 1
        _note(seen, name, status, reply)
        await asyncio.sleep(draw.uniform(0, 2 * pause_s))  # the server closes connections that are idle for 5 s
    writer.close()


def _request(seen: Seen, draw: random.Random) -> tuple[str, str, str, bytes]:
    (name,) = draw.choices(list(MIX), list(MIX.values()))
    if name == "where a generation stands" and seen.generations:
        return name, "GET", f"/v1/generations/{draw.choice(seen.generations)}", b""
    if name == "fetch a picture" and seen.images:
        return name, "GET", f"/v1/images/{draw.choice(seen.images)}", b""
    if name == "a page of the catalog":
        return name, "GET", "/v1/categories?limit=20", b""
    body = {"prompt": f"{seen.identifier} on a table", "seed": draw.randrange(2**31), "inference_steps": 4}
    return "queue a generation", "POST", "/v1/generations", json.dumps(body).encode()


async def _reply(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.partition("content-length:")[2].split("\r\n", 1)[0])
    return int(head.split(" ", 2)[1]), await reader.readexactly(length)


def _note(seen: Seen, name: str, status: int, reply: bytes) -> None:
    if name == "queue a generation" and status == 202:
        seen.generations.append(json.loads(reply)["id"])
    elif name == "where a generation stands" and status == 200:
        seen.images += [image["id"] for image in json.loads(reply)["images"] if image["id"] not in seen.images[-50:]]


def _command(what: str, folder: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.platform_server", what, folder]


@contextmanager
def _process(what: str, folder: str) -> Iterator[Child]:
    lines: list[str] = []
    first = threading.Event()
    with subprocess.Popen(
        _command(what, folder), cwd=_ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:

        def read() -> None:
            for line in child.stdout or ():
                lines.append(line)
                first.set()

        thread = threading.Thread(target=read)
        thread.start()
        assert first.wait(60), f"{what} did not start"
        try:
            yield Child(psutil.Process(child.pid), lines)
        finally:
            child.kill()
            thread.join()
