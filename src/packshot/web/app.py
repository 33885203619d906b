"""The application: routes, access, limits, errors. Does not know how it is run; see ``server``."""

import logging
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from packshot import __version__
from packshot.bootstrap import Workspace
from packshot.domain.errors import PackshotError
from packshot.web.access import Authenticated, BodyLimits, RequestIds
from packshot.web.observed import Metrics, Observed
from packshot.web.problems import MEDIA_TYPE, FieldProblem, Problem
from packshot.web.replies import error_response, problem_response
from packshot.web.routes import ROUTERS, operations

_ERRORS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Problem details (RFC 9457).",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
_log = logging.getLogger("packshot.web")


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """The document, with the one shape of all errors."""
        document = super().openapi()
        schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        document["components"]["schemas"].update({**schema.pop("$defs"), "Problem": schema})
        return document


def create_app(space: Workspace, *, dev: bool = False) -> FastAPI:
    """The API of the workspace ``space``, which must stay open as long as it is in use.

    With ``dev``, callers on this machine need no key.
    """
    app = _Api(
        title="Packshot",
        version=__version__,
        summary="A fine-tuned text-to-image model per product category, and pictures of exactly that product.",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            PackshotError: _on_error,
            RequestValidationError: _on_malformed_request,
            HTTPException: _on_http_error,
            Exception: _on_surprise,
        },
    )
    app.state.space = space
    app.state.intake_locks = {}
    app.state.metrics = Metrics(space.records)
    for router in ROUTERS:
        app.include_router(router, prefix="/v1", responses=_ERRORS)
    app.include_router(operations.router)
    app.add_middleware(BodyLimits)
    app.add_middleware(Authenticated, space=space, dev=dev)
    app.add_middleware(Observed, metrics=app.state.metrics)
    app.add_middleware(RequestIds)
    return app


async def _on_error(request: Request, error: PackshotError) -> Response:
    return error_response(request, error)


async def _on_malformed_request(request: Request, error: RequestValidationError) -> Response:
    fields = [FieldProblem(field=".".join(map(str, each["loc"])), message=each["msg"]) for each in error.errors()]
    names = ", ".join(each.field for each in fields)
    return problem_response(
        request, 422, "malformed-request", f"the request does not have the documented form: {names}", fields=fields
    )


async def _on_http_error(request: Request, error: HTTPException) -> Response:
    slug = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}.get(
        error.status_code, "malformed-request"
    )
    return problem_response(request, error.status_code, slug, str(error.detail), headers=dict(error.headers or {}))


async def _on_surprise(request: Request, error: Exception) -> Response:
    _log.error("a request failed", exc_info=error, extra={"request_id": request.state.request_id})
    return problem_response(
        request, 500, "internal-error", "the server failed; its log has the cause under this request id"
    )
