import itertools

from edgewright.contracts.states import TERMINAL_EXECUTION_STATES, may_move
from edgewright.contracts.states import ExecutionState as S
from edgewright.edge_agent.events import Event
from edgewright.edge_agent.machine import _KINDS
from edgewright.edge_agent.state import SWITCHED
from edgewright.edge_agent.table import IGNORED, RESTING, TABLE, Do, Kind


def test_every_state_and_kind_is_a_row_or_named_as_ignored():
    for state, kind in itertools.product(RESTING, Kind):
        row, ignored = (state, kind) in TABLE, state in IGNORED.get(kind, ())
        assert row != ignored, (state, kind)


def test_rows_begin_only_where_an_execution_can_rest():
    assert {state for state, _ in TABLE} == set(RESTING)


def test_every_row_moves_as_the_contract_allows():
    for (state, kind), row in TABLE.items():
        for before, after in itertools.pairwise((state, *row.path)):
            assert may_move(before, after), (state, kind)


def test_rows_end_in_a_state_with_rows_or_in_an_end():
    ends = {row.path[-1] for row in TABLE.values() if row.path}
    assert ends - TERMINAL_EXECUTION_STATES == set(RESTING) - {S.OFFERED}


def test_no_way_back_from_a_switch_leaves_it_switched():
    for (state, kind), row in TABLE.items():
        if state in SWITCHED and row.path and row.path[-1] not in SWITCHED:
            assert Do.ROLL_BACK in row.do, (state, kind)


def test_after_a_restart_each_state_asks_again_for_what_brought_it_there():
    for (_, kind), row in TABLE.items():
        if row.path and row.path[-1] in RESTING and kind is not Kind.RESTARTED:
            assert TABLE[row.path[-1], Kind.RESTARTED].do == row.do[-1:]


def test_whatever_interrupts_also_stops_what_is_being_done():
    for (state, kind), row in TABLE.items():
        if kind in (Kind.SUPERSEDED, Kind.WITHDRAWN, Kind.DEADLINE):
            assert row.do[0] is Do.ABORT, (state, kind)


def test_every_event_has_a_meaning():
    # These depend on the model, or are the beginning of an execution.
    by_model = {"Assigned", "Chosen", "VerifyFailed", "ProbeFailed", "BenchmarkDone"}
    assert {kind.__name__ for kind in _KINDS} | by_model == {kind.__name__ for kind in Event.__subclasses__()}
