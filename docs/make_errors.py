"""Makes docs/errors.md from the sources: every code, the class it is raised as, and what it says.

`make docs` writes the page; with `--check` it only says whether the page is up to date. A code is the first argument of
one of the classes in `contracts/errors.py`; codes that are computed are listed in `COMPUTED`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from edgewright.contracts import errors
from edgewright.contracts.errors import EdgewrightError

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "errors.md"
FOLDERS = (
    "contracts", "hardware_profiles", "kernels", "measurement", "targets", "compiler", "registry", "edge_agent",
)  # fmt: skip
CLASSES = {
    name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, EdgewrightError)
}
COMPUTED = {
    f"{kind}-malformed": ("UserError", f"not a {kind}")
    for kind in ("digest", "profile", "device", "tenant", "execution", "version")
} | {
    f"{whose}-output-nan": ("CompileError", "output … of … has NaN or infinity for … of … samples")
    for whose in ("model", "artifact")
}
HEAD = """\
# Error codes

Made by `docs/make_errors.py` from the sources. A code is stable: a program may rely on it. On the command line it is in
brackets after `error`, with `--json` in `error.code`, over HTTP in `code` of the problem+json, and over MQTT in
`reason`. An error also says what was expected, what was found and what to do next.

| code | class | exit | HTTP | what it says |
| --- | --- | ---: | ---: | --- |
"""


def main() -> int:
    """Write or check the page."""
    page = HEAD + "".join(rows())
    if "--check" in sys.argv:
        if PAGE.read_text() == page:
            return 0
        print("docs/errors.md is not what the sources say; run `make docs`", file=sys.stderr)
        return 1
    PAGE.write_text(page)
    return 0


def rows() -> Iterator[str]:
    """The table, sorted by code."""
    found = dict(COMPUTED)
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        found |= dict(raised_in(path))
    for path in (ROOT / "src/edgewright").glob("*.py"):
        found |= dict(raised_in(path))
    for code, (name, what) in sorted(found.items()):
        cls = CLASSES[name]
        yield f"| `{code}` | {name} | {cls.exit_status} | {cls.http_status} | {what} |\n"


def raised_in(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """(code, (class, message)) of every error that a file makes with a literal code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLASSES):
            continue
        if len(node.args) > 1 and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value), (node.func.id, _text(node.args[1]))


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        parts = (str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        return re.sub(r"'…'", "…", "".join(parts)).replace("|", "\\|")
    return str(node.value).replace("|", "\\|") if isinstance(node, ast.Constant) else "(as the cause says)"


if __name__ == "__main__":
    sys.exit(main())
