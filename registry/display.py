"""Rollouts and fleets as tables for people. Everything a device wrote is shown as plain text, whatever it contains."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from edgewright.contracts.api import Device, Execution, Fleet, Rollout, RunningModel
from edgewright.contracts.benchmark import BenchmarkReport
from edgewright.contracts.states import TERMINAL_EXECUTION_STATES, ExecutionState, RolloutState

_GOOD = frozenset({ExecutionState.SUCCEEDED, ExecutionState.NOOP})
_WITHDRAWN = frozenset({ExecutionState.SUPERSEDED, ExecutionState.CANCELED})
_ROLLOUT_STYLES = {
    RolloutState.SUCCEEDED: "green",
    RolloutState.FAILED: "red",
    RolloutState.CANCELED: "dim",
}
_WIDE = 130
_NONE = Text("–", style="dim")
_LATENCIES = ("p50", "p90", "p99")


def fleet_table(fleet: Fleet, now: float, width: int) -> Group:
    """Which device runs what, and how fast; in `width` columns of the terminal."""
    wide = width >= _WIDE
    names = ("model", "version", "profile", "target", "precision") if wide else ("model",)
    table = _table("device", *names)
    for name in _LATENCIES:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("last execution", overflow="fold", min_width=11)
    table.add_column("seen", justify="right", no_wrap=True)
    for device in fleet.devices:
        for number, model in enumerate(device.running or (None,)):
            who, last, seen = _about(device, now) if number == 0 else (Text(), Text(), Text())
            cells = _model(model)
            about = cells if wide or model is None else (_stacked(*cells),)
            table.add_row(who, *about[: len(names)], *_latency(model.benchmark if model else None), last, seen)
    online = sum(device.online for device in fleet.devices)
    notes = f"{_count(len(fleet.devices), 'device')}, {online} online; latencies in milliseconds"
    if any(_mark(model.benchmark) for device in fleet.devices for model in device.running):
        notes += "; * not measured on the hardware itself: simulated or emulated"
    return Group(table, Text(f"\n{notes}", style="dim"))


def rollout_list(rollouts: Sequence[Rollout], now: float) -> Table:
    """One line a rollout."""
    table = _table("rollout", "release", "state", "devices", "executions", "created")
    for rollout in rollouts:
        states = [execution.state for execution in rollout.executions]
        tally = Text(", ").join(
            Text.assemble(f"{states.count(state)} ", _state(state)) for state in ExecutionState if state in states
        )
        table.add_row(
            Text(rollout.id, style="bold"),
            str(rollout.release),
            Text(rollout.state, style=_ROLLOUT_STYLES.get(rollout.state, "yellow")),
            str(len(states)),
            tally,
            _age(now - rollout.created_at),
        )
    return table


def rollout_table(rollout: Rollout, now: float) -> Group:
    """One rollout, device by device."""
    head = Text.assemble(
        "rollout ",
        (rollout.id, "bold"),
        "  ",
        (str(rollout.release), "bold"),
        "  ",
        (str(rollout.state), _ROLLOUT_STYLES.get(rollout.state, "yellow")),
        (f"  {_age(now - rollout.created_at)}\n", "dim"),
    )
    table = _table("device", "state", "reason")
    for name in _LATENCIES:
        table.add_column(f"{name} ms", justify="right", no_wrap=True)
    table.add_column("since", justify="right", no_wrap=True)
    for execution in rollout.executions:
        why = ": ".join(filter(None, (execution.reason, execution.detail)))
        table.add_row(
            Text(execution.device, style="bold"),
            _state(execution.state),
            plain(why) if why else _NONE,
            *_latency(execution.benchmark),
            _age(now - execution.updated_at),
        )
    return Group(head, table)


def plain(text: str) -> Text:
    """Text from elsewhere, without anything that a terminal would act on."""
    return Text("".join(each if each.isprintable() else " " for each in text))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _about(device: Device, now: float) -> tuple[Text, Text, Text]:
    dot = ("●\u00a0", "green") if device.online else ("○\u00a0", "red")
    last = _NONE if device.execution is None else _execution(device.execution)
    return Text.assemble(dot, (device.id, "bold")), last, _age(now - device.last_seen)


def _model(model: RunningModel | None) -> tuple[Text, ...]:
    if model is None:
        return (_NONE,) * 5
    active = model.model
    return tuple(
        map(plain, (active.release.name, active.release.version, active.profile, active.target, model.precision))
    )


def _stacked(model: Text, version: Text, profile: Text, *runtime: Text) -> Text:
    return Text.assemble(model, ":", version, "\n", (f"{profile}\n{Text(' ').join(runtime)}", "dim"))


def _latency(report: BenchmarkReport | None) -> tuple[Text, ...]:
    if report is None:
        return (_NONE,) * len(_LATENCIES)
    latency = report.latency_us
    return tuple(Text(f"{us / 1000:.3f}{_mark(report)}") for us in (latency.p50, latency.p90, latency.p99))


def _mark(report: BenchmarkReport | None) -> str:
    return "" if report is None or report.conditions.how == "measured" else "*"


def _execution(execution: Execution) -> Text:
    state = _state(execution.state)
    return state if execution.reason is None else Text.assemble(state, "\n", (plain(execution.reason).plain, "dim"))


def _state(state: ExecutionState) -> Text:
    if state in _GOOD:
        style = "green"
    elif state in _WITHDRAWN:
        style = "dim"
    else:
        style = "red" if state in TERMINAL_EXECUTION_STATES else "yellow"
    return Text(state, style=style)


def _age(seconds: float) -> Text:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return Text(f"{seconds / size:.0f} {unit} ago", style="dim")
    return Text(f"{max(0.0, seconds):.0f} s ago", style="dim")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
