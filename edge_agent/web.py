"""Requests to the registry. Rules: every wait is bounded; a status becomes an error that says whether to try again.

`TransportError` may be tried again for long, `UserError` (which `NotFound` is) only a few times. Proxies named in the
environment are not used: the registry is reached as the configuration says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3

from edgewright.contracts.errors import EdgewrightError, NotFound, TransportError, UserError
from edgewright.contracts.wire import decode

T = TypeVar("T")

# A read that waits longer is given up and tried again from where it stopped, so this is also how soon an order to stop
# is heard on a line that has died.
TIMEOUT_S = 4.0
MAX_DOCUMENT_BYTES = 4 << 20
_TRY_AGAIN = frozenset({408, 416, 425, 429})


class Web:
    """The registry's web API at `base`, e.g. ``http://127.0.0.1:8080``."""

    def __init__(self, base: str) -> None:
        self.base = base.rstrip("/")
        self.host = urlsplit(base).hostname or ""
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(connect=TIMEOUT_S, read=TIMEOUT_S))

    @contextmanager
    def get(self, path: str, *, start: int = 0) -> Iterator[urllib3.BaseHTTPResponse]:
        """The answer to a GET of `path` from byte `start` on, with its body unread. It is 200, or 206 for a start > 0.

        Raises:
            TransportError: `registry-unreachable` (also while the body is read), `registry-unavailable`.
            UserError: `not-in-registry` (a NotFound), `registry-refused`.
        """
        url = self.base + path
        try:
            response = self._pool.request(
                "GET",
                url,
                headers={"Range": f"bytes={start}-"} if start else {},
                preload_content=False,
                decode_content=False,
                retries=urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=3),
            )
            try:
                _check(response.status, url, start)
                yield response
            finally:
                # Closed, not given back: what is left of a body that was not wanted must not be waited for.
                response.close()
        except urllib3.exceptions.HTTPError as error:
            raise TransportError(
                "registry-unreachable",
                f"the registry at {self.base} was not reached",
                found=str(getattr(error, "reason", error))[:300],
                next_step="check the address in agent.toml, and that the registry runs",
            ) from None

    def document(self, path: str, kind: type[T]) -> T:
        """The JSON document at `path`. Raises what `get` raises, and UserError `document-malformed`."""
        with self.get(path) as response:
            body = response.read(MAX_DOCUMENT_BYTES)
        return decode(kind, body, what=self.base + path)


def _check(status: int, url: str, start: int) -> None:
    if status == 200 or (status == 206 and start):
        return
    error: EdgewrightError
    if status in (404, 410):
        error = NotFound("not-in-registry", f"the registry has no {url}", found=f"HTTP {status}")
    elif 400 <= status < 500 and status not in _TRY_AGAIN:
        error = UserError("registry-refused", f"the registry refuses {url}", found=f"HTTP {status}")
    else:
        error = TransportError("registry-unavailable", f"the registry cannot answer for {url}", found=f"HTTP {status}")
    raise error
