"""What could bend a measurement: which cores, how fast they ran, how hot and how busy the machine was."""

from __future__ import annotations

import os
from pathlib import Path


def fastest_cpus(count: int, sys_root: Path = Path("/sys")) -> tuple[int, ...]:
    """The `count` CPUs to pin to: of those this process may use, the ones with the highest maximum clock.

    On a board with big and little cores these are big ones. Among equals the last, since interrupts go to the first.
    """
    allowed = sorted(os.sched_getaffinity(0))
    ranked = sorted(allowed, key=lambda cpu: (_khz(sys_root, cpu, "cpuinfo_max_freq") or 0.0, cpu), reverse=True)
    return tuple(sorted(ranked[:count]))


def clock_mhz(cpus: tuple[int, ...], sys_root: Path = Path("/sys")) -> float | None:
    """Mean clock of `cpus` now; None where the system does not tell."""
    readings = [khz for cpu in cpus if (khz := _khz(sys_root, cpu, "scaling_cur_freq")) is not None]
    return sum(readings) / len(readings) / 1e3 if readings else None


def temperature_c(sys_root: Path = Path("/sys")) -> float | None:
    """The hottest thermal zone; None where there is none."""
    readings = [
        value / 1e3
        for zone in sorted((sys_root / "class/thermal").glob("thermal_zone*/temp"))
        if (value := _number(zone)) is not None
    ]
    return max(readings, default=None)


def load_average() -> float | None:
    """Runnable processes over the last minute; None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _khz(sys_root: Path, cpu: int, name: str) -> float | None:
    return _number(sys_root / f"devices/system/cpu/cpu{cpu}/cpufreq/{name}")


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None
