"""Names that must not be mixed up: each is a type of its own, made only by its parse function.

At run time all of them are plain strings, so that every codec and database takes them as they are.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import NewType

from edgewright.contracts.errors import UserError

Digest = NewType("Digest", str)
"""SHA-256 of some bytes, written as ``sha256:`` and 64 lower-case hex digits."""

ProfileId = NewType("ProfileId", str)
DeviceId = NewType("DeviceId", str)
TenantId = NewType("TenantId", str)
RolloutId = NewType("RolloutId", str)
ExecutionId = NewType("ExecutionId", str)

# One safe alphabet for all names: they become folder names, topic levels and URL parts.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

DEFAULT_TENANT = TenantId("default")


def _parse(kind: str, text: str, pattern: re.Pattern[str], expected: str) -> str:
    if not pattern.fullmatch(text) or ".." in text:
        raise UserError(f"{kind}-malformed", f"not a {kind}", expected=expected, found=repr(text[:100]))
    return text


def _parse_name(kind: str, text: str) -> str:
    return _parse(kind, text, _NAME, "1 to 64 of a-z 0-9 . _ -, starting and ending with a letter or digit, no '..'")


def parse_digest(text: str) -> Digest:
    """Raises UserError `digest-malformed`."""
    return Digest(_parse("digest", text, _DIGEST, "sha256: and 64 lower-case hex digits"))


def parse_profile_id(text: str) -> ProfileId:
    """Raises UserError `profile-malformed`."""
    return ProfileId(_parse_name("profile", text))


def parse_device_id(text: str) -> DeviceId:
    """Raises UserError `device-malformed`."""
    return DeviceId(_parse_name("device", text))


def parse_tenant_id(text: str) -> TenantId:
    """Raises UserError `tenant-malformed`."""
    return TenantId(_parse_name("tenant", text))


def parse_execution_id(text: str) -> ExecutionId:
    """Raises UserError `execution-malformed`."""
    return ExecutionId(_parse_name("execution", text))


def digest_of(data: bytes) -> Digest:
    """The digest of `data`."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


@dataclass(frozen=True, order=True)
class ReleaseRef:
    """One version of one model, written ``name:version``."""

    name: str
    version: str

    def __post_init__(self) -> None:
        _parse_name("release", self.name)
        _parse_name("version", self.version)

    @classmethod
    def parse(cls, text: str) -> ReleaseRef:
        """Raises UserError `release-malformed` or `version-malformed`."""
        name, colon, version = text.partition(":")
        if not colon:
            raise UserError("release-malformed", "not a release", expected="NAME:VERSION", found=repr(text[:100]))
        return cls(name, version)

    def __str__(self) -> str:
        return f"{self.name}:{self.version}"
