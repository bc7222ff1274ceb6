"""The latency of a built artifact, where this host is such a machine as its profile describes, and nowhere else.

A host's latency never stands in for a board's: without a figure, a finding says why there is none.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from edgewright.compiler.report import MeasuredLatency, measured_here
from edgewright.contracts.errors import DeviceError
from edgewright.contracts.findings import Finding, Severity
from edgewright.contracts.hardware import Fingerprint, HardwareProfile
from edgewright.contracts.manifest import Manifest
from edgewright.hardware_profiles.fingerprint import take_fingerprint
from edgewright.hardware_profiles.matching import match
from edgewright.hardware_profiles.selection import incompatibilities
from edgewright.measurement.benchmark import benchmark

_SECONDS = 1.0

Measured = tuple[MeasuredLatency | None, tuple[Finding, ...]]


def measure(root: Path, manifest: Manifest, profile: HardwareProfile) -> Measured:
    """Latency of the artifact in `root` and what to know of it; None and the reason where it cannot be measured."""
    blockers = why_not(manifest, profile, _host())
    if blockers:
        return None, (_not_measured(profile, "; ".join(blockers), Severity.INFO),)
    try:
        report = benchmark(root, seconds=_SECONDS)
    except DeviceError as error:
        found = f" ({error.found})" if error.found else ""
        return None, (_not_measured(profile, error.what + found, Severity.WARNING),)
    return measured_here(report.latency_us, report.conditions.how, machine_name(_host())), report.findings


def why_not(manifest: Manifest, profile: HardwareProfile, host: Fingerprint) -> tuple[str, ...]:
    """Why `host` cannot measure for `profile`, a sentence each; empty: it can."""
    (found,) = match(host, {profile.id: profile})
    return found.blockers or incompatibilities(manifest.requirements, host)


def machine_name(host: Fingerprint) -> str:
    """What kind of machine `host` is, as far as latency depends on it."""
    cores = f"{host.cores} core" + ("" if host.cores == 1 else "s")
    return ", ".join(part for part in (host.cpu_model, cores, host.gpu.name if host.gpu else "") if part)


def _not_measured(profile: HardwareProfile, reason: str, severity: Severity) -> Finding:
    return Finding(
        code="latency-not-measured",
        message=f"no latency, because this host is not what the artifact is for: {reason}"
        if severity is Severity.INFO
        else f"no latency, because the benchmark failed: {reason}",
        severity=severity,
        next_step=f"roll it out to a {profile.name}; its agent measures and reports",
    )


@cache
def _host() -> Fingerprint:
    return take_fingerprint()
