"""The demo, timed: how long the whole loop takes after installation, and what it gives against float32."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from harness import ROOT, Figure, write_result


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder) / "demo"
        subprocess.run([sys.executable, ROOT / "examples/digits/demo.py", work], check=True)
        summary = json.loads((work / "summary.json").read_text())
    figures = {
        "time-after-installation": Figure(
            value=summary["seconds"],
            unit="s",
            goal="< 180",
            met=summary["seconds"] < 180,
            how="wall clock of `make demo` with .venv ready: training to closing table, one run",
        )
    }
    for row in summary["rows"]:
        name = f"{row['profile']}, {row['target']}"
        figures[f"{name}: size"] = Figure(
            value=row["fp32_size_bytes"] / row["size_bytes"],
            unit="x smaller",
            against="float32 parameters",
            how="bytes of float32 parameters and buffers / bytes of the artifact's files without the probe",
        )
        figures[f"{name}: accuracy"] = Figure(
            value=(row["accuracy"] - row["fp32_accuracy"]) * 100,
            unit="points",
            goal=">= -1",
            met=row["accuracy"] >= row["fp32_accuracy"] - 0.01,
            against="float32 model",
            how="accuracy on 540 images not trained on; "
            + ("simulated by ONNX Runtime" if row["target"] == "tensorrt" else "the built artifact ran"),
        )
        figures[f"{name}: latency"] = Figure(
            value=row["speedup"][1] if row["speedup"] else None,
            unit="x faster",
            against="float32 artifact, same runtime, same device",
            how="median of paired blocks, measured by the agent on this machine; 95 %: {0:.2f} to {2:.2f}".format(
                *row["speedup"]
            )
            if row["speedup"]
            else "not yet measured: no such device at hand",
        )
    write_result("demo", figures, summary)


if __name__ == "__main__":
    main()
