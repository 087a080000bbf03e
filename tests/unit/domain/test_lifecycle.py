"""Every pair of state and event."""

from __future__ import annotations

import itertools

import pytest

from pacs_guard.domain.lifecycle import TRANSITIONS, StudyEvent, StudyState, advance
from pacs_guard.errors import LifecycleError

S, E = StudyState, StudyEvent
LEGAL = {
    (S.RECEIVING, E.COMPLETED): S.READY,
    (S.READY, E.CLAIMED): S.ASSESSING,
    (S.READY, E.BYPASSED): S.FORWARDING,
    (S.ASSESSING, E.LEASE_EXPIRED): S.READY,
    (S.ASSESSING, E.CLEARED): S.FORWARDING,
    (S.ASSESSING, E.SUSPECTED): S.HELD,
    (S.ASSESSING, E.BYPASSED): S.FORWARDING,
    (S.FORWARDING, E.ALL_DELIVERED): S.DELIVERED,
    (S.FORWARDING, E.GIVEN_UP): S.FAILED,
    (S.FAILED, E.RETRIED): S.FORWARDING,
    (S.DELIVERED, E.RETRIED): S.FORWARDING,
    (S.DELIVERED, E.GIVEN_UP): S.FAILED,
    (S.HELD, E.RELEASED): S.FORWARDING,
    (S.HELD, E.REJECTED): S.REJECTED,
    (S.REJECTED, E.RELEASED): S.FORWARDING,
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)), ids=str)
def test_pair(state, event):
    if event is E.INSTANCE_RECEIVED:
        assert advance(state, event) is S.RECEIVING
    elif (state, event) in LEGAL:
        assert advance(state, event) is LEGAL[state, event]
    else:
        with pytest.raises(LifecycleError, match=state.value):
            advance(state, event)


def test_table_has_no_other_pairs():
    assert len(TRANSITIONS) == len(LEGAL) + len(S)
    assert {state for (state, event), after in TRANSITIONS.items() if after is S.FORWARDING} == {
        S.READY,
        S.ASSESSING,
        S.FAILED,
        S.DELIVERED,
        S.HELD,
        S.REJECTED,
    }
