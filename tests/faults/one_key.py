"""Fault test 8: a hundred requests with one idempotency key, while the server is killed and started again."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2

from faults.catalogs import Catalog
from faults.registry import Check, Setting, fault
from faults.servers import free_port, server
from packshot.bootstrap import Workspace, create_workspace
from packshot.domain.generation import Generation
from packshot.domain.jobs import Job
from packshot.services.access import create_key
from packshot.settings import Settings

NUM_REQUESTS = 100
MOST_S = 300.0


@fault(8, "one key", passes="one job, identical replies; a changed body refused (422)")
def one_key(setting: Setting) -> list[Check]:
    """In every round the server dies by signal 9 at another moment, and callers without a reply ask again."""
    num_rounds = 1 if setting.quick else 20
    replies: list[list[tuple[int, bytes]]] = []
    changed: list[tuple[int, bytes]] = []
    with create_workspace(Settings(home=setting.workdir / "workspace", max_unfinished_jobs=10_000)) as space:
        product = Catalog(space, 1, num_versions=1).products[0]
        _, secret = create_key(space.records, name="test", namespace=product.category.namespace, scopes=["generate"])
        port = free_port()
        with ExitStack() as running:
            process, url = running.enter_context(server(space.home, port=port))
            http = running.enter_context(httpx2.Client(base_url=url, timeout=MOST_S))
            for number in range(num_rounds):
                headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": f"order {number}"}
                body = {"prompt": product.prompt, "seed": number}
                with ThreadPoolExecutor(NUM_REQUESTS) as callers:
                    barrier = threading.Barrier(NUM_REQUESTS + 1)
                    asked = [callers.submit(_ask, http, body, headers, barrier) for _ in range(NUM_REQUESTS)]
                    barrier.wait()
                    time.sleep(0.05 * number)
                    process.kill()
                    process.wait()
                    process, _ = running.enter_context(server(space.home, port=port))
                    replies.append([each.result() for each in asked])
                changed.append(_post(http, {**body, "seed": num_rounds}, headers))
        jobs = Counter(each.sampling.seed for each in space.records.find(Generation))
        once = [f"round {number}: {jobs[number]} jobs" for number in range(num_rounds) if jobs[number] != 1]
        return [
            _identical(replies),
            Check(label="one job", cases=num_rounds, passed=num_rounds - len(once), failures=once, note=_total(space)),
            Check(
                label="a changed body is refused with 422",
                cases=num_rounds,
                passed=sum(status == 422 and b"idempotency-key-reused" in content for status, content in changed),
            ),
        ]


def _total(space: Workspace) -> str:
    return f"{len(space.records.find(Job))} jobs in all"


def _identical(replies: list[list[tuple[int, bytes]]]) -> Check:
    failures = [
        f"round {number}: {status} {content[:200]!r}"
        for number, each in enumerate(replies)
        for status, content in each
        if status != 202 or content != each[0][1]
    ]
    cases = sum(map(len, replies))
    return Check(label="accepted, with the same reply", cases=cases, passed=cases - len(failures), failures=failures)


def _ask(
    http: httpx2.Client, body: dict[str, Any], headers: dict[str, str], barrier: threading.Barrier
) -> tuple[int, bytes]:
    """The first reply, however often the server is gone."""
    barrier.wait()
    deadline = time.monotonic() + MOST_S
    while True:
        try:
            return _post(http, body, headers)
        except httpx2.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _post(http: httpx2.Client, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, bytes]:
    reply = http.post("/v1/generations", json=body, headers=headers)
    return reply.status_code, reply.content
