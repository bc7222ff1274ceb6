"""`edgewright rollout create | list | show`.

Exit status of `create --wait`: 0 when the rollout succeeded, 6 when a device could not do it (the answer says which
and why), 5 when it did not end in time.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from rich.live import Live

from edgewright.contracts import wire
from edgewright.contracts.api import NewRollout, Rollout
from edgewright.contracts.errors import DeviceError, TransportError
from edgewright.contracts.ids import ReleaseRef, RolloutId, parse_device_id
from edgewright.contracts.messages import Policy
from edgewright.contracts.states import TERMINAL_EXECUTION_STATES, RolloutState
from edgewright.registry.client import RegistryClient
from edgewright.registry.display import rollout_list, rollout_table
from edgewright.registry.options import add_common, progress, results, write_json
from edgewright.registry.rules import check_policy

_POLL_S = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="bring a release to devices")
    create.add_argument("release", metavar="NAME:VERSION")
    create.add_argument("--device", action="append", metavar="ID", help="only this one; may be given again")
    create.add_argument("--max-p95-us", type=float, metavar="N", help="refuse a 95th percentile above N microseconds")
    create.add_argument("--min-speedup", type=float, metavar="X", help="refuse less than X times the active model")
    create.add_argument("--soak", type=float, default=0.0, metavar="S", help="seconds it must stay usable (default 0)")
    create.add_argument("--wait", action="store_true", help="until all devices are done")
    create.add_argument("--timeout", type=float, default=600.0, metavar="S", help="of --wait (default %(default)s)")
    add_common(create)
    add_common(actions.add_parser("list", help="all rollouts"))
    show = actions.add_parser("show", help="one rollout, device by device")
    show.add_argument("rollout", metavar="ID")
    add_common(show)


def run(args: argparse.Namespace) -> int:
    """Do what `args.action` says."""
    with RegistryClient(args.registry) as client:
        return _ACTIONS[args.action](client, args)


def _create(client: RegistryClient, args: argparse.Namespace) -> int:
    policy = Policy(max_p95_us=args.max_p95_us, min_speedup=args.min_speedup, soak_s=args.soak)
    check_policy(policy)
    devices = None if args.device is None else tuple(map(parse_device_id, args.device))
    rollout = client.create_rollout(NewRollout(release=ReleaseRef.parse(args.release), policy=policy, devices=devices))
    if args.wait:
        # Said before the wait: it goes on when the wait is interrupted, and can be looked up.
        progress().print(f"rollout [bold]{rollout.id}[/] has started")
        rollout = _wait(client, rollout, args.timeout)
    _print(rollout, args)
    if not args.wait:
        if not args.json:
            results().print(f"\n[dim]next: edgewright rollout show {rollout.id}[/]")
        return 0
    return 0 if rollout.state is RolloutState.SUCCEEDED else DeviceError.exit_status


def _list(client: RegistryClient, args: argparse.Namespace) -> int:
    rollouts = client.rollouts()
    if args.json:
        write_json({"rollouts": rollouts})
    elif rollouts:
        results().print(rollout_list(rollouts, time.time()))
    else:
        results().print("no rollouts yet; start one: [bold]edgewright rollout create NAME:VERSION[/]")
    return 0


def _show(client: RegistryClient, args: argparse.Namespace) -> int:
    _print(client.rollout(RolloutId(args.rollout)), args)
    return 0


_ACTIONS = {"create": _create, "list": _list, "show": _show}


def _print(rollout: Rollout, args: argparse.Namespace) -> None:
    if args.json:
        document: dict[str, Any] = wire.to_builtins(rollout)
        write_json(document)
    else:
        results().print(rollout_table(rollout, time.time()))


def _wait(client: RegistryClient, rollout: Rollout, timeout_s: float) -> Rollout:
    """Look at the rollout, showing it on stderr, until it runs no more."""
    deadline = time.monotonic() + timeout_s
    with Live(console=progress(), transient=True, auto_refresh=False) as live:
        while rollout.state is RolloutState.RUNNING:
            live.update(rollout_table(rollout, time.time()), refresh=True)
            if time.monotonic() >= deadline:
                waiting = ", ".join(
                    f"{each.device} ({each.state})"
                    for each in rollout.executions
                    if each.state not in TERMINAL_EXECUTION_STATES
                )
                raise TransportError(
                    "rollout-wait-timeout",
                    f"rollout {rollout.id} has not ended within {timeout_s:g} s; it goes on",
                    found=f"not done: {waiting}",
                    next_step=f"see `edgewright rollout show {rollout.id}`",
                )
            time.sleep(_POLL_S)
            rollout = _look(client, rollout.id)
    return rollout


def _look(client: RegistryClient, ref: RolloutId) -> Rollout:
    try:
        return client.rollout(ref)
    except TransportError as error:
        raise TransportError(
            error.code,
            f"{error.what} any more; rollout {ref} goes on",
            found=error.found,
            next_step=f"when the registry answers again: `edgewright rollout show {ref}`",
        ) from None
