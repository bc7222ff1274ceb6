"""`edgewright registry serve`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from rich.console import Console

from edgewright.contracts import wire
from edgewright.registry.ports import LOOPBACK
from edgewright.registry.serve import Ready, serve


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    server = actions.add_parser("serve", help="web API, database, object store and MQTT broker in one process")
    server.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder for everything it keeps")
    server.add_argument("--host", default=LOOPBACK, help="where the web API listens (default %(default)s)")
    server.add_argument(
        "--port", type=port_number, default=8080, help="of the web API; 0: a free one (default %(default)s)"
    )
    server.add_argument(
        "--mqtt-port",
        type=port_number,
        default=1883,
        help="of the broker, on loopback; 0: a free one (default %(default)s)",
    )
    server.add_argument("--json", action="store_true", help="one JSON line on stdout when it is ready")


def run(args: argparse.Namespace) -> int:
    """Serve until stopped."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    console = Console(stderr=True, highlight=False)

    def announce(ready: Ready) -> None:
        if args.json:
            sys.stdout.write(wire.encode(ready).decode() + "\n")
            sys.stdout.flush()
        console.print(f"registry  [bold]{ready.url}[/]")
        console.print(f"broker    mqtt://{ready.mqtt.host}:{ready.mqtt.port}")
        console.print(f"data      {args.data.resolve()}")
        console.print("[dim]Nobody has to log in yet: keep it on a network you trust. Ctrl-C stops it.[/]")

    serve(args.data, host=args.host, port=args.port, mqtt_port=args.mqtt_port, on_ready=announce)
    return 0


def port_number(text: str) -> int:
    """0 to 65535, for argparse."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)
