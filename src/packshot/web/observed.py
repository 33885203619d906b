"""What operators see of requests and jobs: a log line per request, and metrics in the format of Prometheus.

Numbers of requests are those of this process; numbers of jobs, of what they took and of workers' engines come from the
database, so every server of a workspace tells the same. No label names a team or a category.
"""

import logging
import time
from collections.abc import Iterable
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from packshot.domain.engine_work import FILL_BOUNDS, STEP_BOUNDS_S, Distribution
from packshot.domain.jobs import Job, JobKind, JobStatus
from packshot.domain.usage import Usage
from packshot.logs import about_request
from packshot.ports import Records
from packshot.services.engine_work import engine_totals

_log = logging.getLogger("packshot.requests")


class Metrics:
    """The numbers of one application."""

    def __init__(self, records: Records) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "packshot_http_requests", "Requests answered.", ("method", "route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "packshot_http_request_seconds",
            "Time from a request to the end of its reply.",
            ("method", "route"),
            registry=self._registry,
        )
        self._registry.register(_Work(records))

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)


class _Work(Collector):
    def __init__(self, records: Records) -> None:
        self._records = records

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand, so that registering asks no database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Look at the database."""
        jobs = GaugeMetricFamily("packshot_jobs", "Jobs by kind and status.", labels=("kind", "status"))
        counts = {each.key: each.count for each in self._records.tally(Job, ("kind", "status"))}
        for kind in JobKind:
            for status in JobStatus:
                jobs.add_metric((kind, status), counts.get((kind, status), 0))
        took = SummaryMetricFamily(
            "packshot_job_seconds", "Time of attempts at jobs, by how they left it.", labels=("kind", "status")
        )
        pictures = CounterMetricFamily("packshot_pictures", "Pictures made.")
        steps = SummaryMetricFamily("packshot_training_step_seconds", "Time per training step, all attempts.")
        num_images = num_steps = seconds = 0.0
        for each in self._records.tally(Usage, ("kind", "status"), ("num_images", "num_steps", "seconds")):
            took.add_metric([label or "" for label in each.key], each.count, each.sums[2])
            num_images += each.sums[0]
            if each.key[0] == JobKind.TRAINING:
                num_steps += each.sums[1]
                seconds += each.sums[2]
        pictures.add_metric((), num_images)
        steps.add_metric((), round(num_steps), seconds)
        return [jobs, took, pictures, steps, *self._of_engines()]

    def _of_engines(self) -> list[Metric]:
        totals = engine_totals(self._records)
        hits = CounterMetricFamily("packshot_adapter_slot_hits", "Pictures whose adapter was resident.")
        misses = CounterMetricFamily("packshot_adapter_slot_misses", "Pictures whose adapter was loaded for them.")
        hits.add_metric((), totals.slot_hits)
        misses.add_metric((), totals.slot_misses)
        return [
            _histogram(
                "packshot_denoising_step_seconds",
                "Time of a pass through the denoiser.",
                totals.step_seconds,
                STEP_BOUNDS_S,
            ),
            _histogram(
                "packshot_batch_fill_ratio",
                "Pictures in a pass through the denoiser over those that it takes at most.",
                totals.batch_fill,
                FILL_BOUNDS,
            ),
            hits,
            misses,
        ]


def _histogram(name: str, about: str, values: Distribution, bounds: Iterable[float]) -> HistogramMetricFamily:
    buckets = zip((*map(str, bounds), "+Inf"), accumulate(values.counts), strict=True)
    return HistogramMetricFamily(name, about, buckets=list(buckets), sum_value=values.total)


class Observed:
    """Counts and logs every request by its route; query, headers and body are never logged."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 500, time.monotonic()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with about_request(request_id=scope["state"]["request_id"]):
            try:
                await self._app(scope, receive, noted)
            finally:
                self._note(scope, status, time.monotonic() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = _route(scope)
        self._metrics.count(method, route, status, seconds)
        caller = scope["state"].get("caller")
        _log.info(
            "request",
            extra={
                "method": method,
                "route": route,
                "path": scope["path"],
                "status": status,
                "seconds": round(seconds, 4),
                "namespace": caller.namespace if caller else None,
                "key_id": caller.key_id if caller else None,
            },
        )


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def _route(scope: Scope) -> str:
    """The template of the path, such as ``/v1/images/{image_id}``; "none" where no route answers it."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is None:
        return "none"
    asked = scope["path"].split("/")  # the route knows its own part; what its routers stand under comes before that
    return "/".join(asked[: len(asked) - path.count("/")]) + path
