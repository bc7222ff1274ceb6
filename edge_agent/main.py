"""`edgewright-agent run`: put the agent together from its configuration, and run it until it is stopped."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from edgewright.contracts.api import Endpoints
from edgewright.contracts.hardware import Fingerprint
from edgewright.contracts.messages import Candidate
from edgewright.edge_agent import log
from edgewright.edge_agent.agent import Agent
from edgewright.edge_agent.config import Config, device_id, read_config
from edgewright.edge_agent.download import Downloader
from edgewright.edge_agent.effects import Outside
from edgewright.edge_agent.storage import Disk, locked
from edgewright.edge_agent.transport import MqttLink
from edgewright.edge_agent.trials import ChildTrials
from edgewright.edge_agent.web import Web
from edgewright.hardware_profiles.fingerprint import take_fingerprint
from edgewright.hardware_profiles.schema import load_profiles
from edgewright.hardware_profiles.selection import Choice, choose


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--config", type=Path, required=True, metavar="AGENT.TOML", help="what the agent shall know")
    parser.add_argument("--json", action="store_true", help="write the log, on stderr, as one JSON document a line")


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM (exit status 143) or Ctrl-C.

    Raises:
        UserError: what config.read_config raises.
        DeviceError: `data-in-use`, `disk-failed`, `disk-full`.
    """
    config = read_config(args.config)
    log.configure(as_json=args.json)
    with locked(config.data):
        build(config).run()
    return 0


def build(config: Config) -> Agent:
    """The agent that `config` describes, its parts put together, nothing running yet."""
    disk, web = Disk(), Web(config.registry)
    device = device_id(config, disk)
    fingerprint = _offered(take_fingerprint(), config.runtimes)
    log.info("starting", device=device, tenant=config.tenant, registry=web.base, data=config.data)
    return Agent(
        device_id=device,
        fingerprint=fingerprint,
        outside=Outside(
            data=config.data,
            disk=disk,
            choose=_chooser(fingerprint),
            downloader=Downloader(web, disk),
            trials=ChildTrials(seconds=config.benchmark.seconds),
            clock=time.time,
        ),
        link=MqttLink(config.tenant, device, lambda: config.mqtt or web.document("/v1/endpoints", Endpoints).mqtt),
        web=web,
    )


def _offered(fingerprint: Fingerprint, runtimes: tuple[str, ...] | None) -> Fingerprint:
    """The fingerprint with only the runtimes the configuration lets be used: nobody else shall count on others."""
    if runtimes is None:
        return fingerprint
    kept = {name: version for name, version in fingerprint.runtimes.items() if name in runtimes}
    return replace(fingerprint, runtimes=kept)


def _chooser(fingerprint: Fingerprint) -> Callable[[tuple[Candidate, ...]], Choice]:
    profiles = load_profiles()
    return lambda candidates: choose(candidates, fingerprint, profiles)
