"""How long a command takes to say anything: `edgewright --help` and the agent's imports against `python -c pass`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from harness import Figure, write_result

ROUNDS = 40
_BIN = Path(sys.executable).parent
_PEAK = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "edgewright --help": [str(_BIN / "edgewright"), "--help"],
    "edgewright-agent --help": [str(_BIN / "edgewright-agent"), "--help"],
    "import edgewright.edge_agent.main": [sys.executable, "-c", "import edgewright.edge_agent.main"],
    "edgewright compile --help": [str(_BIN / "edgewright"), "compile", "--help"],
}


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, command in COMMANDS.items():  # in turns, so that a busy moment meets all alike
            start = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            times[name].append(time.perf_counter() - start)
    base = statistics.median(times["python -c pass"])
    figures = {}
    for name, seconds in times.items():
        median = statistics.median(seconds)
        figures[name] = Figure(
            value=median * 1e3,
            unit="ms",
            how=f"median of {ROUNDS} runs, all commands in turns, files in the page cache",
        )
        if name != "python -c pass":
            figures[f"{name}, ratio"] = Figure(
                value=median / base, unit="x", against="python -c pass", how="ratio of the medians"
            )
    code = f"import edgewright.edge_agent.main; {_PEAK}"
    kilobytes = int(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    figures["import edgewright.edge_agent.main, memory"] = Figure(
        value=kilobytes / 1024, unit="MiB", how="peak resident memory of the process, Python included"
    )
    write_result("startup", figures, times)


if __name__ == "__main__":
    main()
