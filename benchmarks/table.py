"""Makes docs/benchmarks.md from benchmarks/results/*.json."""

from __future__ import annotations

import json

from harness import RESULTS, ROOT


def main() -> None:
    """Write the page."""
    lines = [
        "# Benchmarks",
        "",
        "Made by `benchmarks/table.py` from `benchmarks/results/`. Each file there describes the machine and holds the",
        "raw data; each benchmark is one command. What could not be measured says so.",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        result = json.loads(path.read_text())
        about = result["machine"]
        lines += [
            "",
            f"## {result['name']}",
            "",
            f"`{result['command']}`, {result['date']}, commit {result['commit']}; {about['cpu']}, "
            f"{about['cores']} cores, {about['memory']}, {about['os']}, Python {about['python']}.",
            "",
            "| figure | value | goal | against | how |",
            "| --- | ---: | --- | --- | --- |",
        ]
        for key, figure in result["figures"].items():
            value = "not measured" if figure["value"] is None else f"{figure['value']:.4g} {figure['unit']}"
            goal = figure["goal"] or ""
            if figure["met"] is not None:
                goal += " (met)" if figure["met"] else " **(missed)**"
            lines.append(f"| {key} | {value} | {goal} | {figure['against'] or ''} | {figure['how']} |")
    (ROOT / "docs" / "benchmarks.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
