"""Ports to listen on."""

from __future__ import annotations

import errno
import socket

from edgewright.contracts.errors import UserError

LOOPBACK = "127.0.0.1"


def listen(host: str, port: int, *, option: str) -> socket.socket:
    """A socket that listens on `host` and `port`; port 0 picks a free one. `option` is named when it cannot be had.

    Raises:
        UserError: `port-taken`, `host-unknown`, `port-not-allowed`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, OverflowError) as error:
        raise UserError(
            "host-unknown",
            f"cannot listen on {host}:{port}",
            found=str(error),
            next_step="give an address of this machine",
        ) from None
    listener = socket.socket(family, kind, protocol)
    # Without it a restart would wait for the connections of the process before to be forgotten.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise _cannot_bind(host, port, error, option) from None
    return listener


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    with listen(host, 0, option="") as listener:
        port: int = listener.getsockname()[1]
        return port


def require_free(host: str, port: int, *, option: str) -> None:
    """Raises UserError as `listen` does when the port cannot be had now."""
    listen(host, port, option=option).close()


def _cannot_bind(host: str, port: int, error: OSError, option: str) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError(
            "port-taken",
            f"port {port} on {host} is taken by another program",
            next_step=f"stop that program, or choose another port: {option} N ({option} 0 picks a free one)",
        )
    if error.errno == errno.EACCES:
        return UserError(
            "port-not-allowed",
            f"this user may not listen on port {port}",
            next_step=f"choose a port of 1024 or above: {option} N",
        )
    return UserError(
        "host-unknown", f"cannot listen on {host}:{port}", found=str(error), next_step="give an address of this machine"
    )
