"""Which artifact of a release a machine gets.

Rules: never one that the machine cannot run. A candidate is refused when its profile has a blocker on this machine or
one of its requirements is not met; what is required must be known to be there. Compute capability must be equal,
because TensorRT's engines do not move across it. Among the rest the order is total, so that the order of the
candidates does not matter: best matching profile, that profile's order of targets, its order of precisions, smaller
download, digest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from edgewright.contracts.errors import DeviceError
from edgewright.contracts.hardware import Fingerprint, HardwareProfile
from edgewright.contracts.ids import ProfileId
from edgewright.contracts.manifest import Requirements
from edgewright.contracts.messages import Candidate
from edgewright.hardware_profiles.matching import Match, match

_MIB = 1024**2


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The artifact to run, why, and why the others that cannot run here were refused."""

    candidate: Candidate
    reasons: tuple[str, ...]
    refused: tuple[tuple[Candidate, str], ...]


def incompatibilities(requirements: Requirements, fingerprint: Fingerprint) -> tuple[str, ...]:
    """Why a machine cannot run what has these requirements, a sentence each; empty: it can.

    An empty list of machines or runtimes means any. Of several runtimes one is enough. `memory_bytes` is compared with
    all memory of the machine, not with what happens to be free. `sm` must be equal.
    """
    found: list[str] = []
    if requirements.machine and fingerprint.machine not in requirements.machine:
        found.append(f"it is for {' or '.join(requirements.machine)}, this is {fingerprint.machine or 'unknown'}")
    lacking = [flag for flag in requirements.cpu_flags if flag not in fingerprint.cpu_flags]
    if lacking:
        found.append(f"the CPU lacks {', '.join(lacking)}")
    if requirements.runtimes:
        objections = [
            _runtime_objection(*needed, fingerprint.runtimes) for needed in sorted(requirements.runtimes.items())
        ]
        if all(objections):
            found.append(" and ".join(filter(None, objections)))
    if requirements.memory_bytes > fingerprint.memory_bytes:
        there = f"{fingerprint.memory_bytes // _MIB} MiB are there" if fingerprint.memory_bytes else "it is not known"
        found.append(f"it needs {-(-requirements.memory_bytes // _MIB)} MiB of memory, {there}")
    if requirements.sm is not None and (fingerprint.gpu is None or fingerprint.gpu.sm != requirements.sm):
        there = f"this one is SM {fingerprint.gpu.sm}" if fingerprint.gpu else "there is none"
        found.append(f"it needs a GPU of SM {requirements.sm}, {there}")
    return tuple(found)


def _runtime_objection(runtime: str, wanted: str, installed: Mapping[str, str]) -> str | None:
    version = installed.get(runtime)
    if version is None:
        return f"{f'{runtime} {wanted}'.strip()} is not available here"  # not installed, or not allowed
    try:
        # A pre-release that someone installed is meant to be used.
        if SpecifierSet(wanted).contains(Version(version), prereleases=True):
            return None
    except (InvalidSpecifier, InvalidVersion) as error:
        return f"{runtime} {version} cannot be compared with {wanted!r}: {error}"
    return f"{runtime} is {version}, not {wanted}"


def choose(
    candidates: Sequence[Candidate],
    fingerprint: Fingerprint,
    profiles: Mapping[ProfileId, HardwareProfile],
    runtimes_allowed: Collection[str] | None = None,
) -> Choice:
    """The best of `candidates` for the machine; see the module's rules.

    Args:
        candidates: artifacts of one release.
        fingerprint: the machine.
        profiles: the profiles known here; a candidate for another one is refused.
        runtimes_allowed: if given, other runtimes count as not installed.

    Raises:
        DeviceError: `no-artifact-fits`; says for each candidate why not.
    """
    if runtimes_allowed is not None:
        allowed = {name: version for name, version in fingerprint.runtimes.items() if name in runtimes_allowed}
        fingerprint = replace(fingerprint, runtimes=allowed)
    matches = match(fingerprint, profiles)
    by_profile = {found.profile: found for found in matches}
    judged = [(candidate, _objections(candidate, fingerprint, by_profile)) for candidate in candidates]
    refused = tuple(sorted(((c, "; ".join(why)) for c, why in judged if why), key=lambda row: _label(row[0])))
    fitting = [candidate for candidate, why in judged if not why]
    if not fitting:
        raise _nothing_fits(refused)
    rank = {found.profile: place for place, found in enumerate(matches)}
    best = min(fitting, key=lambda c: (rank[c.profile], *_preference(c, profiles[c.profile])))
    reasons = (*_profile_reasons(best, matches, candidates), *_target_reasons(best, profiles[best.profile], fitting))
    return Choice(candidate=best, reasons=reasons, refused=refused)


def _objections(candidate: Candidate, fingerprint: Fingerprint, matches: Mapping[ProfileId, Match]) -> tuple[str, ...]:
    found = matches.get(candidate.profile)
    if found is None:
        return (f"profile {candidate.profile} is not known here",)
    # On hardware that it is not for, what else it needs is beside the point.
    return found.blockers or incompatibilities(candidate.requirements, fingerprint)


def _preference(candidate: Candidate, profile: HardwareProfile) -> tuple[int | str, ...]:
    return (
        _place(candidate.target, profile.targets),
        _place(candidate.precision, profile.precisions),
        candidate.size_bytes,
        *_identity(candidate),
    )


def _place(name: str, order: tuple[str, ...]) -> int:
    return order.index(name) if name in order else len(order)


def _identity(candidate: Candidate) -> tuple[str, str]:
    # Equal digests mean equal candidates, if their sender is honest.
    return candidate.artifact, repr(candidate)


def _label(candidate: Candidate) -> tuple[str, ...]:
    return candidate.profile, candidate.target, candidate.precision, *_identity(candidate)


def _profile_reasons(best: Candidate, matches: tuple[Match, ...], candidates: Sequence[Candidate]) -> tuple[str, ...]:
    offered = {candidate.profile for candidate in candidates}
    reasons: list[str] = []
    for found in matches:
        if found.profile == best.profile:
            how = "fits, and is the best left" if reasons else "fits best"
            return (*reasons, f"profile {found.profile} {how}: {'; '.join(found.reasons)}")
        why = "nothing made for it can run here" if found.profile in offered else "the release has nothing for it"
        reasons.append(f"profile {found.profile} would fit better: {why}")
    return tuple(reasons)


def _target_reasons(best: Candidate, profile: HardwareProfile, fitting: Sequence[Candidate]) -> tuple[str, ...]:
    rivals = [candidate for candidate in fitting if candidate.profile == best.profile and candidate != best]
    if not rivals:
        return (f"{best.target} {best.precision} is its only artifact that can run here",)
    if any(rival.target != best.target for rival in rivals):
        return (f"{best.target} comes first of its targets that can run here: {', '.join(profile.targets)}",)
    if any(rival.precision != best.precision for rival in rivals):
        return (f"{best.precision} comes first of its precisions: {', '.join(profile.precisions)}",)
    return (f"it is the smallest: {best.size_bytes:,} bytes",)


def _nothing_fits(refused: tuple[tuple[Candidate, str], ...]) -> DeviceError:
    lines = [f"{c.profile} {c.target} {c.precision} ({c.artifact[7:19]}): {why}" for c, why in refused]
    return DeviceError(
        "no-artifact-fits",
        "no artifact of the release can run on this machine",
        expected="one made for a profile that fits, and whose requirements are met",
        found="\n            ".join(lines) if lines else "the release has no artifacts",
        next_step="compile for a profile that fits (`edgewright profiles match` on the device), or install a runtime",
    )
