"""Every error edgewright raises on purpose.

    EdgewrightError
    ├── UserError        what was asked for cannot be done as it was asked     exit 2   HTTP 422
    │   ├── NotFound     a name that nothing answers to                        exit 2   HTTP 404
    │   └── Conflict     it would change what must not change                  exit 2   HTTP 409
    ├── ArtifactError    bytes that are not what their digest or manifest says exit 2   HTTP 422
    ├── CompileError     a pass or a target could not do its work              exit 4   HTTP 500
    │   └── GoalsNotMet  the work was done and the goals were missed           exit 3   HTTP 422
    ├── TransportError   the other side was not reached; may be tried again    exit 5   HTTP 503
    └── DeviceError      this machine cannot run, hold or measure it           exit 6   HTTP 422

Each error has a stable, kebab-case `code` (a program may rely on it; `docs/errors.md` lists all of them), and says what
failed, what was expected, what was found and what to do next. The CLI maps the class to an exit status, the web API
to a problem+json, MQTT to a reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class EdgewrightError(Exception):
    """Root of the tree; raised only through its subclasses.

    Args:
        code: stable name of the cause, kebab-case, e.g. ``recipe-unknown-key``.
        what: one sentence: what failed.
        expected: what would have been right, if that can be said.
        found: what was there instead.
        next_step: what the reader can do about it.
    """

    exit_status: ClassVar[int] = 1
    http_status: ClassVar[int] = 500

    def __init__(
        self,
        code: str,
        what: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(what)
        self.code = code
        self.what = what
        self.expected = expected
        self.found = found
        self.next_step = next_step

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; the default of Exception would lose the keyword fields.
        return _rebuild, (type(self), self.code, self.what, self.expected, self.found, self.next_step)

    def __str__(self) -> str:
        lines = [f"error[{self.code}]: {self.what}"]
        for label, text in (("expected", self.expected), ("found", self.found), ("next", self.next_step)):
            if text is not None:
                lines.append(f"  {label + ':':<10}{text}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, str | None]:
        """The error as a JSON-ready document, the same on the command line, over HTTP and over MQTT."""
        return {
            "code": self.code,
            "what": self.what,
            "expected": self.expected,
            "found": self.found,
            "next": self.next_step,
        }


def _rebuild(
    cls: type[EdgewrightError],
    code: str,
    what: str,
    expected: str | None,
    found: str | None,
    next_step: str | None,
) -> EdgewrightError:
    return cls(code, what, expected=expected, found=found, next_step=next_step)


class UserError(EdgewrightError):
    """What was asked for cannot be done as it was asked."""

    exit_status = 2
    http_status = 422


class NotFound(UserError):
    """A name that nothing answers to."""

    http_status = 404


class Conflict(UserError):
    """It would change what must not change, such as a published version."""

    http_status = 409


class ArtifactError(EdgewrightError):
    """Bytes that are not what their digest or their manifest says."""

    exit_status = 2
    http_status = 422


class CompileError(EdgewrightError):
    """A pass or a target could not do its work."""

    exit_status = 4


class GoalsNotMet(CompileError):
    """The work was done, and the goals were missed."""

    exit_status = 3
    http_status = 422


class TransportError(EdgewrightError):
    """The other side was not reached, or did not answer as agreed. May be tried again."""

    exit_status = 5
    http_status = 503


class DeviceError(EdgewrightError):
    """This machine cannot run, hold or measure what it was given."""

    exit_status = 6
    http_status = 422


def did_you_mean(word: str, known: Iterable[str], otherwise: str) -> str:
    """A next step that names the known word nearest to `word`, or says `otherwise` when none is near."""
    import difflib  # only errors need it, and every command imports this module

    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.55)
    return f"did you mean '{near[0]}'?" if near else otherwise
