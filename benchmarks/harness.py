"""What every benchmark shares: the machine's description, and the form of a result.

A result is `results/NAME.json`: {"name", "date", "commit", "machine", "command", "figures", "raw"}. A figure has a
value that was measured, a unit, a goal, whether it was met, what it is held against, and how it was measured.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure. `value` None: it could not be measured, and `how` says why; `met` None: it has no goal."""

    value: float | None
    unit: str
    how: str
    goal: str | None = None
    met: bool | None = None
    against: str | None = None


def machine() -> dict[str, Any]:
    """The machine this runs on, without anything that names it."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    cpu = next((line.split(":")[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    return {
        "cpu": f"{cpu} ({platform.machine()}{', AVX512-VNNI' if 'avx512_vnni' in cpuinfo else ''})",
        "cores": os.cpu_count(),
        "memory": f"{memory / 2**30:.0f} GiB",
        "os": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
        "python": platform.python_version(),
    }


def write_result(name: str, figures: dict[str, Figure], raw: Any) -> None:
    """Write `results/NAME.json` and show the figures."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    document = {
        "name": name,
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "commit": commit,
        "machine": machine(),
        "command": f"make bench-{name}",
        "figures": {key: asdict(figure) for key, figure in figures.items()},
        "raw": raw,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    for key, figure in figures.items():
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
        print(f"{key:<40} {figure.value} {figure.unit}  {figure.goal or ''} {verdict}")
