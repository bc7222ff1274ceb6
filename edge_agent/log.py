"""The agent's log on stderr: one line an event, for a person or, with `--json`, for a program.

An event is a short kebab-case name with fields; the same name always means the same.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

from edgewright.contracts.errors import EdgewrightError

_LOGGER = logging.getLogger("edgewright.agent")


class _Human(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = " ".join(f"{key}={_plain(value)}" for key, value in vars(record)["fields"].items())
        return f"{_time(record)} {record.levelname:<7} {record.getMessage()} {fields}".rstrip()


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        head = {"at": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps(head | vars(record)["fields"], default=str)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _plain(value: object) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or "\n" in text or not text else text


def configure(*, as_json: bool) -> None:
    """Send the log to stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Human())
    _LOGGER.handlers = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False


def info(event: str, **fields: object) -> None:
    """Something went its way."""
    _LOGGER.info(event, extra={"fields": fields})


def warning(event: str, **fields: object) -> None:
    """Something did not, and the agent goes on."""
    _LOGGER.warning(event, extra={"fields": fields})


def failure(event: str, error: EdgewrightError, **fields: object) -> None:
    """An error of edgewright's tree, which the agent survives."""
    said = {"code": error.code, "what": error.what, "found": error.found}
    warning(event, **{key: value for key, value in said.items() if value is not None}, **fields)
