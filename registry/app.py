"""The web application: routes, one error handler, OpenAPI. Everything it works with is handed in."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from edgewright import __version__
from edgewright.contracts.errors import EdgewrightError, NotFound, TransportError, UserError
from edgewright.registry.documents import serve_openapi
from edgewright.registry.problems import CONTENT_TYPE, to_problem
from edgewright.registry.routes_blobs import blob_routes
from edgewright.registry.routes_documents import device_routes, release_routes, rollout_routes, service_routes
from edgewright.registry.services import Services

_log = logging.getLogger(__name__)


def create_app(services: Services) -> FastAPI:
    """The application over `services`."""
    app = FastAPI(
        title="edgewright registry",
        version=__version__,
        description="Artifacts, releases, rollouts and devices. Errors are problem+json with a stable `code`.",
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
    )
    for routes in (service_routes, blob_routes, release_routes, rollout_routes, device_routes):
        app.include_router(routes(services))
    app.add_exception_handler(EdgewrightError, _ours)
    app.add_exception_handler(HTTPException, _routing)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(OperationalError, _database)
    app.add_exception_handler(Exception, _defect)
    serve_openapi(app)
    return app


def _problem(error: EdgewrightError, status: int | None = None) -> JSONResponse:
    document = to_problem(error, status)
    return JSONResponse(document, status_code=document["status"], media_type=CONTENT_TYPE)


async def _ours(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, EdgewrightError):
        raise error
    return _problem(error)


async def _routing(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == 405:
        method = UserError("method-not-allowed", f"{request.url.path} does not take {request.method}")
        return _problem(method, 405)
    return _problem(
        NotFound("route-unknown", f"there is nothing at {request.url.path}", next_step="see /openapi.json"),
        error.status_code,
    )


async def _validation(_request: Request, error: Exception) -> JSONResponse:
    return _problem(UserError("request-malformed", "the request is not as the route wants it", found=str(error)))


async def _database(_request: Request, error: Exception) -> JSONResponse:
    _log.error("the database failed: %s", error)
    return _problem(
        TransportError(
            "database-unavailable",
            "the registry's database could not do it now; nothing was changed",
            next_step="try again; if it stays, see the registry's log and the room on its disk",
        )
    )


async def _defect(_request: Request, error: Exception) -> JSONResponse:
    # The traceback goes to the log, not to whoever asked.
    return _problem(
        EdgewrightError(
            "internal",
            f"a defect in the registry: {type(error).__name__}",
            next_step="see the registry's log and report it",
        )
    )
