"""How documents go through the web API: contracts.wire reads and writes them, as everywhere else.

FastAPI routes, and never decodes: one codec means that a document accepted here is accepted by the agent and the
other way round. The OpenAPI file is made from the same dataclasses by msgspec.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.openapi.utils import get_openapi

from edgewright.contracts import api, messages, wire
from edgewright.contracts.errors import UserError
from edgewright.registry.problems import CONTENT_TYPE

T = TypeVar("T")

MAX_DOCUMENT_BYTES = 1 << 20
_COMPONENTS = (
    api.NewRelease,
    api.Release,
    api.NewRollout,
    api.Rollout,
    api.Device,
    api.Fleet,
    api.Endpoints,
    messages.Desired,
    messages.ExecutionEvent,
)
_PROBLEM_SCHEMA = {
    "title": "Problem",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "expected": {"type": ["string", "null"]},
        "found": {"type": ["string", "null"]},
        "next": {"type": ["string", "null"]},
    },
    "required": ["type", "title", "status", "code", "detail"],
}


def body(kind: type[T]) -> Callable[[Request], Coroutine[Any, Any, T]]:
    """A dependency that reads the request's body as a `kind`, and never more than MAX_DOCUMENT_BYTES of it."""

    async def read(request: Request) -> T:
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_DOCUMENT_BYTES:
                raise UserError(
                    "body-too-large",
                    "the request's document is too large",
                    expected=f"at most {MAX_DOCUMENT_BYTES} bytes",
                    next_step="split it into several requests",
                )
        return wire.decode(kind, bytes(data), what="the request's body")

    return read


def answer(document: object, status: int = 200) -> Response:
    """`document` as the response."""
    return Response(wire.encode(document), status_code=status, media_type="application/json")


def describes(
    *,
    takes: type | None = None,
    gives: type | None = None,
    many: bool = False,
    status: int = 200,
    fails: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Keyword arguments of a route: what OpenAPI says of its body, its answer and its errors.

    422 is in every route's: names in paths are parsed. `many`: the body, or the answer where there is none, is an
    array of these.
    """
    extra: dict[str, Any] = {}
    if takes is not None:
        schema = _schema(takes, many=many)
        extra["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    responses: dict[int | str, dict[str, Any]] = {status: {"description": "Successful Response"}}
    if gives is not None:
        schema = _schema(gives, many=many and takes is None)
        responses[status]["content"] = {"application/json": {"schema": schema}}
    for code in (*fails, 422):
        reference = {"$ref": "#/components/schemas/Problem"}
        responses[code] = {"description": "Problem", "content": {CONTENT_TYPE: {"schema": reference}}}
    return {"openapi_extra": extra, "responses": responses, "status_code": status}


def serve_openapi(app: FastAPI) -> None:
    """Make `app` serve an OpenAPI document with the contracts' dataclasses as its components."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            _, components = msgspec.json.schema_components(_COMPONENTS, ref_template="#/components/schemas/{name}")
            schema["components"] = {"schemas": {**components, "Problem": _PROBLEM_SCHEMA}}
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to replace it


def _schema(kind: type, *, many: bool) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"type": "array", "items": reference} if many else reference
