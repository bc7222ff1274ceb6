"""Which profiles a machine answers to.

Rules: machine, CPU flags, compute capability and, where a profile names boards, the board are hard facts: one that
differs is a blocker, and a profile with a blocker does not fit. Among those that fit, the more specific is better:
board before GPU before the number of CPU flags it counts on. The order is total: equal scores go by id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from edgewright.contracts.hardware import Fingerprint, HardwareProfile
from edgewright.contracts.ids import ProfileId
from edgewright.hardware_profiles.parsing import names

# Each weight is above all lighter ones together; a profile has at most schema.MAX_CPU_FLAGS flags of one point each.
_BOARD = 1000.0
_GPU = 200.0
_GPU_NAME = 100.0
_MACHINE = 1.0


@dataclass(frozen=True, kw_only=True)
class Match:
    """How a machine and a profile go together. `score` is 0 where it does not fit; `blockers` say why not."""

    profile: ProfileId
    score: float
    fits: bool
    reasons: tuple[str, ...]
    blockers: tuple[str, ...]


@dataclass(frozen=True)
class _Verdict:
    """One fact compared: a sentence, and its points if it holds. What does not hold blocks."""

    holds: bool
    sentence: str
    points: float = 0.0


def match(fingerprint: Fingerprint, profiles: Mapping[ProfileId, HardwareProfile]) -> tuple[Match, ...]:
    """All `profiles`, the best first; those that do not fit come last, the ones with the fewest blockers before."""
    # What fits has the point for its machine at least; what does not fit has none.
    matches = [_match(profile, fingerprint) for profile in profiles.values()]
    return tuple(sorted(matches, key=lambda m: (-m.score, len(m.blockers), m.profile)))


def _match(profile: HardwareProfile, fingerprint: Fingerprint) -> Match:
    verdicts = tuple(_compare(profile, fingerprint))
    fits = all(verdict.holds for verdict in verdicts)
    return Match(
        profile=profile.id,
        score=sum(verdict.points for verdict in verdicts) if fits else 0.0,
        fits=fits,
        reasons=tuple(verdict.sentence for verdict in verdicts if verdict.holds),
        blockers=tuple(verdict.sentence for verdict in verdicts if not verdict.holds),
    )


def _compare(profile: HardwareProfile, fingerprint: Fingerprint) -> Iterator[_Verdict]:
    if profile.boards:
        yield _compare_board(profile, fingerprint)
    if profile.sm is not None:
        yield _compare_gpu(profile, fingerprint)
    if profile.machine != fingerprint.machine:
        # The names of CPU flags mean nothing on another architecture.
        yield _Verdict(False, f"machine is {fingerprint.machine or 'unknown'}, not {profile.machine}")
        return
    yield _Verdict(True, f"machine is {profile.machine}", _MACHINE)
    lacking = [flag for flag in profile.cpu_flags if flag not in fingerprint.cpu_flags]
    if lacking:
        yield _Verdict(False, f"the CPU lacks {', '.join(lacking)}")
    elif profile.cpu_flags:
        yield _Verdict(True, f"the CPU has {', '.join(profile.cpu_flags)}", float(len(profile.cpu_flags)))


def _compare_board(profile: HardwareProfile, fingerprint: Fingerprint) -> _Verdict:
    # A processor sold in machines of many makers is known by its own name.
    for found in (fingerprint.board, fingerprint.cpu_model):
        if found and any(names(board, found) for board in profile.boards):
            return _Verdict(True, f"it is a {found}", _BOARD)
    return _Verdict(
        False, f"it is {fingerprint.board or fingerprint.cpu_model or 'an unknown board'}, not {profile.name}"
    )


def _compare_gpu(profile: HardwareProfile, fingerprint: Fingerprint) -> _Verdict:
    gpu = fingerprint.gpu
    if gpu is None:
        return _Verdict(False, f"it has no GPU of SM {profile.sm}")
    if gpu.sm != profile.sm:
        return _Verdict(False, f"its GPU {gpu.name} is SM {gpu.sm}, not {profile.sm}")
    same = profile.gpu is not None and names(profile.gpu, gpu.name)
    return _Verdict(True, f"its GPU {gpu.name} is SM {gpu.sm}", _GPU + _GPU_NAME * same)
