"""The transition table of an execution on the device: the whole behaviour in one place. Plain data.

Rules: every pair of a state and a kind is a row of `TABLE`, or is named in `IGNORED`; the moves are among contracts'
EXECUTION_MOVES; a state names what is being done, so that after a restart it says what to do again; no way out of
`activating` or `soaking` other than success leaves the stable path where it was switched to.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum, auto
from typing import NamedTuple

from edgewright.contracts.states import ExecutionState as S


class Kind(StrEnum):
    """What an event means to the model it reaches."""

    CHOSEN = auto()
    CHOSEN_ACTIVE = auto()  # ... and it is the one that is active already
    NOTHING_FITS = auto()
    DOWNLOADED = auto()
    VERIFIED = auto()
    CORRUPT = auto()  # wrong bytes, worth another download
    PLACED = auto()
    PROBE_PASSED = auto()
    PROBE_WRONG = auto()
    BENCHMARKED = auto()
    OVER_LIMIT = auto()  # measured, and the policy says no
    ACTIVATED = auto()
    SOAKED = auto()
    FAILED = auto()
    SUPERSEDED = auto()
    WITHDRAWN = auto()
    DEADLINE = auto()
    RESTARTED = auto()


class Do(StrEnum):
    """What is to be done outside; effects.py does it. Every one may be done twice."""

    CHOOSE = auto()
    DOWNLOAD = auto()
    VERIFY = auto()
    STAGE = auto()
    PROBE = auto()
    BENCHMARK = auto()
    ACTIVATE = auto()
    SOAK = auto()
    ROLL_BACK = auto()
    DISCARD = auto()  # what was downloaded and not staged
    ABORT = auto()  # what is being done for the execution
    REPORT = auto()  # that what runs is of another release now


class Row(NamedTuple):
    """The states gone through (none: it stays where it is), and what to do then."""

    path: tuple[S, ...]
    do: tuple[Do, ...]


K, D = Kind, Do
_DROP, _BACK = (D.DISCARD,), (D.ROLL_BACK,)
_DROP_NOW, _BACK_NOW = (D.ABORT, D.DISCARD), (D.ABORT, D.ROLL_BACK)

TABLE: Mapping[tuple[S, Kind], Row] = {
    # state           what happened     through                         then do
    (S.OFFERED,       K.CHOSEN):        Row((S.ACCEPTED, S.DOWNLOADING), (D.DOWNLOAD,)),
    (S.OFFERED,       K.CHOSEN_ACTIVE): Row((S.NOOP,),                   (D.REPORT,)),
    (S.OFFERED,       K.NOTHING_FITS):  Row((S.REJECTED,),               ()),
    (S.DOWNLOADING,   K.DOWNLOADED):    Row((S.VERIFYING,),              (D.VERIFY,)),
    (S.VERIFYING,     K.VERIFIED):      Row((S.STAGED,),                 (D.STAGE,)),
    (S.VERIFYING,     K.CORRUPT):       Row((S.DOWNLOADING,),            (D.DISCARD, D.DOWNLOAD)),
    (S.STAGED,        K.PLACED):        Row((S.PROBING,),                (D.PROBE,)),
    (S.PROBING,       K.PROBE_PASSED):  Row((S.BENCHMARKING,),           (D.BENCHMARK,)),
    (S.PROBING,       K.PROBE_WRONG):   Row((S.GATED,),                  ()),
    (S.BENCHMARKING,  K.BENCHMARKED):   Row((S.ACTIVATING,),             (D.ACTIVATE,)),
    (S.BENCHMARKING,  K.OVER_LIMIT):    Row((S.GATED,),                  ()),
    (S.ACTIVATING,    K.ACTIVATED):     Row((S.SOAKING,),                (D.SOAK,)),
    (S.SOAKING,       K.SOAKED):        Row((S.SUCCEEDED,),              ()),

    (S.OFFERED,       K.FAILED):        Row((S.FAILED,),                 ()),
    (S.DOWNLOADING,   K.FAILED):        Row((S.FAILED,),                 _DROP),
    (S.VERIFYING,     K.FAILED):        Row((S.FAILED,),                 _DROP),
    (S.STAGED,        K.FAILED):        Row((S.FAILED,),                 _DROP),
    (S.PROBING,       K.FAILED):        Row((S.FAILED,),                 ()),
    (S.BENCHMARKING,  K.FAILED):        Row((S.FAILED,),                 ()),
    (S.ACTIVATING,    K.FAILED):        Row((S.ROLLED_BACK,),            _BACK),
    (S.SOAKING,       K.FAILED):        Row((S.ROLLED_BACK,),            _BACK),

    (S.OFFERED,       K.SUPERSEDED):    Row((S.SUPERSEDED,),             _DROP_NOW),
    (S.DOWNLOADING,   K.SUPERSEDED):    Row((S.SUPERSEDED,),             _DROP_NOW),
    (S.VERIFYING,     K.SUPERSEDED):    Row((S.SUPERSEDED,),             _DROP_NOW),
    (S.STAGED,        K.SUPERSEDED):    Row((S.SUPERSEDED,),             _DROP_NOW),
    (S.PROBING,       K.SUPERSEDED):    Row((S.SUPERSEDED,),             _DROP_NOW),
    (S.BENCHMARKING,  K.SUPERSEDED):    Row((S.SUPERSEDED,),             _DROP_NOW),
    (S.ACTIVATING,    K.SUPERSEDED):    Row((S.SUPERSEDED,),             _BACK_NOW),
    (S.SOAKING,       K.SUPERSEDED):    Row((S.SUPERSEDED,),             _BACK_NOW),

    (S.OFFERED,       K.WITHDRAWN):     Row((S.CANCELED,),               _DROP_NOW),
    (S.DOWNLOADING,   K.WITHDRAWN):     Row((S.CANCELED,),               _DROP_NOW),
    (S.VERIFYING,     K.WITHDRAWN):     Row((S.CANCELED,),               _DROP_NOW),
    (S.STAGED,        K.WITHDRAWN):     Row((S.CANCELED,),               _DROP_NOW),
    (S.PROBING,       K.WITHDRAWN):     Row((S.CANCELED,),               _DROP_NOW),
    (S.BENCHMARKING,  K.WITHDRAWN):     Row((S.CANCELED,),               _DROP_NOW),
    (S.ACTIVATING,    K.WITHDRAWN):     Row((S.CANCELED,),               _BACK_NOW),
    (S.SOAKING,       K.WITHDRAWN):     Row((S.CANCELED,),               _BACK_NOW),

    (S.OFFERED,       K.DEADLINE):      Row((S.TIMED_OUT,),              _DROP_NOW),
    (S.DOWNLOADING,   K.DEADLINE):      Row((S.TIMED_OUT,),              _DROP_NOW),
    (S.VERIFYING,     K.DEADLINE):      Row((S.TIMED_OUT,),              _DROP_NOW),
    (S.STAGED,        K.DEADLINE):      Row((S.TIMED_OUT,),              _DROP_NOW),
    (S.PROBING,       K.DEADLINE):      Row((S.TIMED_OUT,),              _DROP_NOW),
    (S.BENCHMARKING,  K.DEADLINE):      Row((S.TIMED_OUT,),              _DROP_NOW),

    (S.OFFERED,       K.RESTARTED):     Row((),                          (D.CHOOSE,)),
    (S.DOWNLOADING,   K.RESTARTED):     Row((),                          (D.DOWNLOAD,)),
    (S.VERIFYING,     K.RESTARTED):     Row((),                          (D.VERIFY,)),
    (S.STAGED,        K.RESTARTED):     Row((),                          (D.STAGE,)),
    (S.PROBING,       K.RESTARTED):     Row((),                          (D.PROBE,)),
    (S.BENCHMARKING,  K.RESTARTED):     Row((),                          (D.BENCHMARK,)),
    (S.ACTIVATING,    K.RESTARTED):     Row((),                          (D.ACTIVATE,)),
    (S.SOAKING,       K.RESTARTED):     Row((),                          (D.SOAK,)),
}  # fmt: skip

# The states an execution can rest in; `accepted` is only gone through.
RESTING = (S.OFFERED, S.DOWNLOADING, S.VERIFYING, S.STAGED, S.PROBING, S.BENCHMARKING, S.ACTIVATING, S.SOAKING)


def _all_but(*states: S) -> frozenset[S]:
    return frozenset(RESTING) - set(states)


# What changes nothing, and where. A result counts only in the state that asked for it; elsewhere it is an old one told
# again. A deadline bounds the way to activation; from there on the execution ends by its soak.
IGNORED: Mapping[Kind, frozenset[S]] = {
    K.CHOSEN:        _all_but(S.OFFERED),
    K.CHOSEN_ACTIVE: _all_but(S.OFFERED),
    K.NOTHING_FITS:  _all_but(S.OFFERED),
    K.DOWNLOADED:    _all_but(S.DOWNLOADING),
    K.VERIFIED:      _all_but(S.VERIFYING),
    K.CORRUPT:       _all_but(S.VERIFYING),
    K.PLACED:        _all_but(S.STAGED),
    K.PROBE_PASSED:  _all_but(S.PROBING),
    K.PROBE_WRONG:   _all_but(S.PROBING),
    K.BENCHMARKED:   _all_but(S.BENCHMARKING),
    K.OVER_LIMIT:    _all_but(S.BENCHMARKING),
    K.ACTIVATED:     _all_but(S.ACTIVATING),
    K.SOAKED:        _all_but(S.SOAKING),
    K.DEADLINE:      frozenset({S.ACTIVATING, S.SOAKING}),
}  # fmt: skip
