"""What a person should know of an artifact although it was built: part of reports, never a reason to stop."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing noticed. `code` is stable and kebab-case; `where` names the layer or file; `next_step` what to do."""

    code: str
    message: str
    severity: Severity = Severity.WARNING
    where: str | None = None
    next_step: str | None = None
