"""Errors over HTTP: problem+json (RFC 9457) on the way out, and our own classes again on the way in.

`type` is ``urn:edgewright:CLASS:CODE``, so that a client raises exactly what the registry raised. Both directions are
here, so that they cannot drift apart.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from edgewright.contracts import errors
from edgewright.contracts.errors import EdgewrightError

CONTENT_TYPE = "application/problem+json"
_URN = "urn:edgewright"
_CLASSES: dict[str, type[EdgewrightError]] = {
    kind.__name__: kind
    for kind in (
        errors.EdgewrightError,
        errors.UserError,
        errors.NotFound,
        errors.Conflict,
        errors.ArtifactError,
        errors.CompileError,
        errors.GoalsNotMet,
        errors.TransportError,
        errors.DeviceError,
    )
}


def to_problem(error: EdgewrightError, status: int | None = None) -> dict[str, Any]:
    """The problem document of `error`; `status` is the class's own unless HTTP has a finer one."""
    status = status or error.http_status
    document = error.to_dict()
    return {
        "type": f"{_URN}:{type(error).__name__}:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": document.pop("what"),
        **document,
    }


def from_problem(data: bytes, status: int, url: str) -> EdgewrightError:
    """The error that a registry answered with; one that says so when the answer is not a registry's."""
    try:
        problem = msgspec.json.decode(data, type=dict[str, Any])
        _, _, kind, code = str(problem["type"]).split(":", 3)
        return _CLASSES[kind](
            code,
            str(problem["detail"]),
            expected=problem.get("expected"),
            found=problem.get("found"),
            next_step=problem.get("next"),
        )
    except (msgspec.DecodeError, msgspec.ValidationError, KeyError, ValueError):
        return errors.TransportError(
            "registry-answer-unknown",
            f"{url} did not answer as a registry does",
            expected="an edgewright registry",
            found=f"HTTP {status}: {data[:200].decode('utf-8', 'replace')!r}",
            next_step="check the URL; a proxy in between may have answered",
        )
