"""A typed client of the registry's web API, for the command line and for programs.

Rules: what the registry refuses is raised as the very error it raised there. A registry that is not reached is tried
again a few times, with full-jitter waits, but only where asking twice does no harm: when nothing was sent yet, or when
the request may be repeated.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote, urlsplit

import httpx

from edgewright.contracts import wire
from edgewright.contracts.api import Device, Endpoints, Fleet, NewRelease, NewRollout, Release, Rollout
from edgewright.contracts.errors import TransportError, UserError
from edgewright.contracts.ids import DeviceId, Digest, ReleaseRef, RolloutId
from edgewright.registry.problems import from_problem

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8080"
URL_VARIABLE = "EDGEWRIGHT_REGISTRY"
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})
_ATTEMPTS = 4
_BACKOFF_S = (0.2, 5.0)
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_BLOCK_BYTES = 1 << 20
_UNAVAILABLE = 503


class RegistryClient:
    """One registry. Use it as a context manager; several threads may use it at once.

    Args:
        url: of the registry; None: the environment's EDGEWRIGHT_REGISTRY, else this machine's default.
        transport: instead of the network, for tests.
        sleep: waits between attempts, for tests.

    Raises:
        UserError: `registry-url-malformed`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                "registry-url-malformed",
                "not the URL of a registry",
                expected=f"e.g. {DEFAULT_URL}",
                found=repr(self.url),
            )
        self._sleep = sleep
        # Proxies are for what lies beyond this machine.
        beyond = parts.hostname not in _THIS_MACHINE
        self._http = httpx.Client(base_url=self.url, timeout=_TIMEOUT, transport=transport, trust_env=beyond)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def endpoints(self) -> Endpoints:
        """Where the broker is."""
        return self._get(Endpoints, "/v1/endpoints")

    def has_blob(self, digest: Digest) -> bool:
        """Whether the registry holds `digest` already."""
        response = self._send("HEAD", f"/v1/blobs/{digest}", accept=(404,))
        return response.status_code != 404

    def put_blob(self, digest: Digest, path: Path, on_sent: Callable[[int], None] | None = None) -> None:
        """Upload a file, block by block.

        Args:
            digest: of the whole file; the registry checks it.
            path: the file.
            on_sent: called with the number of bytes just sent; negative when a failed attempt is taken back.

        Raises:
            ArtifactError: `digest-mismatch`.
        """
        headers = {"Content-Length": str(path.stat().st_size)}
        sent = 0

        def count(number: int) -> None:
            nonlocal sent
            sent += number
            if on_sent is not None:
                on_sent(number)

        def content() -> Iterator[bytes]:
            count(-sent)
            with path.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    yield block
                    count(len(block))

        self._send("PUT", f"/v1/blobs/{digest}", content=content, headers=headers)

    def publish(self, new: NewRelease) -> Release:
        """Publish a release whose blobs are uploaded. The same once more is answered as the first time.

        Raises:
            Conflict: `release-exists`.
        """
        return self._post(Release, "/v1/releases", new, repeatable=True)

    def releases(self) -> tuple[Release, ...]:
        """All releases, the newest first."""
        return self._get(tuple[Release, ...], "/v1/releases")

    def release(self, ref: ReleaseRef) -> Release:
        """One release. Raises NotFound `release-unknown`."""
        return self._get(Release, f"/v1/releases/{ref.name}/{ref.version}")

    def create_rollout(self, new: NewRollout) -> Rollout:
        """Start a rollout.

        Raises:
            NotFound: `release-unknown`, `device-unknown`.
            UserError: `rollout-no-devices`, `policy-malformed`.
        """
        return self._post(Rollout, "/v1/rollouts", new, repeatable=False)

    def rollouts(self) -> tuple[Rollout, ...]:
        """All rollouts, the newest first."""
        return self._get(tuple[Rollout, ...], "/v1/rollouts")

    def rollout(self, ref: RolloutId) -> Rollout:
        """One rollout. Raises NotFound `rollout-unknown`."""
        return self._get(Rollout, f"/v1/rollouts/{quote(ref, safe='')}")

    def fleet(self) -> Fleet:
        """All devices."""
        return self._get(Fleet, "/v1/fleet")

    def device(self, ref: DeviceId) -> Device:
        """One device. Raises NotFound `device-unknown`."""
        return self._get(Device, f"/v1/devices/{ref}")

    def _get(self, kind: type[T], path: str) -> T:
        return wire.decode(kind, self._send("GET", path).content, what=f"the answer of {self.url}{path}")

    def _post(self, kind: type[T], path: str, document: object, *, repeatable: bool) -> T:
        data = wire.encode(document)
        headers = {"Content-Type": "application/json"}
        response = self._send("POST", path, content=lambda: data, headers=headers, repeatable=repeatable)
        return wire.decode(kind, response.content, what=f"the answer of {self.url}{path}")

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: Callable[[], bytes | Iterator[bytes]] | None = None,
        headers: dict[str, str] | None = None,
        accept: tuple[int, ...] = (),
        repeatable: bool = True,
    ) -> httpx.Response:
        """Send, as often as it makes sense, and return a response of 2xx or of `accept`.

        `content` is called for each attempt, so that a stream starts anew.
        """
        attempt = 0
        while True:
            attempt += 1
            last = attempt == _ATTEMPTS
            try:
                body = content() if content else None
                response = self._http.request(method, path, content=body, headers=headers)
            except httpx.TransportError as error:
                # A refused connection has sent nothing.
                if last or not (repeatable or isinstance(error, httpx.ConnectError)):
                    raise self._unreachable(error) from None
            else:
                if response.is_success or response.status_code in accept:
                    return response
                if last or not repeatable or response.status_code != _UNAVAILABLE:
                    raise from_problem(response.content, response.status_code, self.url)
            self._sleep(self._wait_s(attempt))

    def _wait_s(self, attempt: int) -> float:
        least, most = _BACKOFF_S
        return random.uniform(0.0, min(most, least * 2**attempt))

    def _unreachable(self, error: httpx.TransportError) -> TransportError:
        return TransportError(
            "registry-unreachable",
            f"the registry at {self.url} was not reached",
            found=str(error) or type(error).__name__,
            next_step=f"start it with `edgewright registry serve --data DIR`, or name another: --registry URL or "
            f"{URL_VARIABLE}",
        )
