"""``/livez``, ``/readyz`` and ``/metrics``: for whoever runs the server, so no part of the documented API."""

import logging

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from packshot.bootstrap import Workspace
from packshot.domain.access import ApiKey, Scope
from packshot.domain.errors import PackshotError
from packshot.web.access import METRICS_PATH
from packshot.web.observed import Metrics

router = APIRouter(include_in_schema=False)
_log = logging.getLogger("packshot.web")


@router.get("/livez")
async def live() -> dict[str, bool]:
    """Whether the process answers; if not, start it anew."""
    return {"live": True}


@router.get("/readyz")
def ready(request: Request) -> Response:
    """Whether database and blobs answer; if not, send requests elsewhere. The cause is in the log alone."""
    space: Workspace = request.app.state.space
    checks = {
        "database": lambda: space.records.tally(ApiKey, ()),
        "blobs": lambda: "0" * 64 in space.blobs,
    }
    told: dict[str, bool] = {}
    for name, check in checks.items():
        try:
            check()
        except PackshotError:
            _log.exception("%s not ready", name)
            told[name] = False
        else:
            told[name] = True
    ok = all(told.values())
    return JSONResponse({"ready": ok, **told}, 200 if ok else 503, {} if ok else {"Retry-After": "5"})


@router.get(METRICS_PATH)
def tell_metrics(request: Request) -> Response:
    """Everything that is counted, for Prometheus."""
    request.state.caller.check(Scope.ADMIN)
    metrics: Metrics = request.app.state.metrics
    return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
