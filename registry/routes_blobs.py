"""Blobs: PUT, HEAD and GET of bytes by their digest. Streamed both ways, never held in memory."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator

import anyio.from_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from edgewright.contracts.errors import UserError
from edgewright.contracts.ids import Digest, parse_digest
from edgewright.registry.documents import describes
from edgewright.registry.problems import CONTENT_TYPE, to_problem
from edgewright.registry.services import Services

_CHUNK_BYTES = 1 << 20
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def blob_routes(services: Services) -> APIRouter:
    """The routes under /v1/blobs."""
    router = APIRouter(tags=["blobs"])
    store = services.store

    @router.put("/v1/blobs/{digest}", **describes(status=201, fails=(422,)))
    def put_blob(digest: str, request: Request) -> Response:
        """Store the body under its digest. 201 when it was new, 200 when it was there already."""
        name = parse_digest(digest)
        there = store.exists(name)
        store.put(name, _body(request))
        return Response(status_code=200 if there else 201, headers={"ETag": _etag(name)})

    @router.head("/v1/blobs/{digest}", **describes(fails=(404,)))
    def head_blob(digest: str) -> Response:
        """Whether the blob is there, and its size."""
        name = parse_digest(digest)
        return Response(headers={**_headers(name), "Content-Length": str(store.size(name))})

    @router.get("/v1/blobs/{digest}", **describes(fails=(404, 416)))
    def get_blob(digest: str, request: Request) -> Response:
        """The blob, or the one range of it that is asked for."""
        name = parse_digest(digest)
        size = store.size(name)
        headers = _headers(name)
        if request.headers.get("if-none-match") == _etag(name):
            return Response(status_code=304, headers=headers)
        start, stop = _wanted(request, name, size)
        if start >= stop and size:
            return _unsatisfiable(size)
        headers["Content-Length"] = str(stop - start)
        if (start, stop) == (0, size):
            return StreamingResponse(store.open(name), headers=headers, media_type=_MEDIA_TYPE)
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return StreamingResponse(
            store.open(name, start, stop), status_code=206, headers=headers, media_type=_MEDIA_TYPE
        )

    return router


_MEDIA_TYPE = "application/octet-stream"


def _etag(digest: Digest) -> str:
    return f'"{digest}"'


def _headers(digest: Digest) -> dict[str, str]:
    # A digest's bytes never change.
    return {
        "ETag": _etag(digest),
        "Accept-Ranges": "bytes",
        "Cache-Control": "public, max-age=31536000, immutable",
    }


def _wanted(request: Request, digest: Digest, size: int) -> tuple[int, int]:
    """Start and stop of what is asked for; everything where no single range of ours is (RFC 9110, 14.2)."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or request.headers.get("if-range", _etag(digest)) != _etag(digest):
        return 0, size
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return 0, size
    if first:
        return int(first), min(size, int(last) + 1) if last else size
    if last:
        return max(0, size - int(last)), size
    return 0, size


def _unsatisfiable(size: int) -> Response:
    error = UserError("range-unsatisfiable", "the range lies outside of the blob", expected=f"within {size} bytes")
    return JSONResponse(
        to_problem(error, 416), status_code=416, media_type=CONTENT_TYPE, headers={"Content-Range": f"bytes */{size}"}
    )


def _body(request: Request) -> Iterator[bytes]:
    """The request's body, for code that blocks: fetched from the event loop in large pieces."""
    stream = request.stream()
    while chunk := anyio.from_thread.run(_next_piece, stream):
        yield chunk


async def _next_piece(stream: AsyncIterator[bytes]) -> bytes:
    piece = bytearray()
    async for chunk in stream:
        piece += chunk
        if len(piece) >= _CHUNK_BYTES:
            break
    return bytes(piece)
