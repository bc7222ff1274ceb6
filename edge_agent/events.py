"""What can happen to an execution on the device: the inputs of machine.py."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.contracts.benchmark import BenchmarkReport
from edgewright.contracts.ids import ExecutionId
from edgewright.contracts.messages import Assignment, Candidate


@dataclass(frozen=True, kw_only=True)
class Event:
    """`at` is seconds since 1970 (UTC); `reason` is for a program, `detail` for a person."""

    execution: ExecutionId
    at: float
    reason: str | None = None
    detail: str | None = None


@dataclass(frozen=True, kw_only=True)
class Assigned(Event):
    """The cloud wants this model brought up to date by a new execution."""

    assignment: Assignment


@dataclass(frozen=True, kw_only=True)
class Chosen(Event):
    """This candidate is the best that runs here."""

    candidate: Candidate


class NothingFits(Event):
    """No candidate runs here."""


class Downloaded(Event):
    """All files of the artifact are here."""


class Verified(Event):
    """All files are what the manifest says."""


class VerifyFailed(Event):
    """Some file is not what the manifest says."""


class Placed(Event):
    """The artifact lies in its slot."""


class ProbePassed(Event):
    """The golden probe gave what it must."""


class ProbeFailed(Event):
    """The artifact ran and its outputs were wrong."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkDone(Event):
    """The artifact was measured on this device."""

    report: BenchmarkReport


class Activated(Event):
    """The stable path leads to the artifact."""


class SoakPassed(Event):
    """After its soak the artifact still gives what it must."""


class EffectFailed(Event):
    """What the state asked for could not be done; `reason` is the error's code."""


class Withdrawn(Event):
    """The cloud no longer wants this execution."""


class DeadlinePassed(Event):
    """The execution's time is over."""


class Restarted(Event):
    """The agent has started again and found the execution alive."""
