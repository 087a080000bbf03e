"""Proof of delivery: every pair of its table, every reason, and what is planned."""

from __future__ import annotations

import itertools

import pytest

from pacs_guard.domain.proof import (
    FAILURE_REASONS,
    TRANSITIONS,
    Proof,
    ProofEvent,
    ProofItem,
    ProofMethod,
    ProofRules,
    ProofState,
    Question,
    Remedy,
    advance,
    failure_sentence,
    plan,
    questions,
    remedy,
)
from pacs_guard.errors import LifecycleError

S, E, M, Q = ProofState, ProofEvent, ProofMethod, Question
LEGAL = {
    **{(state, E.DELIVERED): S.DUE for state in S},
    **{(state, E.ALL_DECIDED): S.SETTLED for state in S},
    (S.DUE, E.ASKED): S.ASKED,
    (S.ASKED, E.ASKED): S.ASKED,
    (S.DUE, E.ASKED_IN_VAIN): S.DUE,
    (S.ASKED, E.ASKED_IN_VAIN): S.DUE,
    (S.DUE, E.REPORTED_IN_PART): S.DUE,
    (S.ASKED, E.REPORTED_IN_PART): S.DUE,
    (S.SETTLED, E.REPORTED_IN_PART): S.SETTLED,
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(S, E)), ids=str)
def test_pair(state, event):
    if (state, event) in LEGAL:
        assert advance(state, event) is LEGAL[state, event]
    else:
        with pytest.raises(LifecycleError, match=state.value):
            advance(state, event)


def test_table_has_no_other_pairs():
    assert TRANSITIONS == LEGAL


@pytest.mark.parametrize(
    ("method", "stages"),
    [
        (M.AUTO, [(Q.COMMITMENT, Q.COUNT)] * 3 + [(Q.COUNT,)] * 3 + [()]),
        (M.COMMITMENT, [(Q.COMMITMENT,)] * 3 + [()]),
        (M.COUNT, [(Q.COUNT,)] * 3 + [()]),
        (M.NONE, [(), ()]),
    ],
)
def test_each_way_of_asking_is_tried_so_often_and_no_more(method, stages):
    assert [questions(method, attempts, 3) for attempts in range(len(stages))] == stages
    assert questions(method, 1000, 3) == ()


def test_every_reason_has_a_remedy_and_an_unknown_one_is_asked_about_again():
    assert {code: found for code, (found, _) in FAILURE_REASONS.items()} == {
        0x0110: Remedy.ASK_AGAIN,
        0x0112: Remedy.RESEND,
        0x0119: Remedy.FAIL,
        0x0122: Remedy.GIVE_UP,
        0x0131: Remedy.ASK_AGAIN,
        0x0213: Remedy.ASK_AGAIN,
    }
    assert remedy(0x4242) is Remedy.ASK_AGAIN
    assert (
        failure_sentence(0x4242) == "storage commitment failed with 0x4242 (a reason that the standard does not know)"
    )


def item(number: int, proof: Proof | None = None, reason: int | None = None, **more) -> ProofItem:
    return ProofItem(number, "1.1", "1.2", f"1.{number}", proof, reason, **more)


RULES = ProofRules(M.AUTO, attempts=2, resends=1)
PLACES = [
    (item(1), 0, "ask"),
    (item(1, Proof.ASKED), 3, "ask"),
    (item(1, Proof.ASKED), 4, "give_up"),
    (item(1, Proof.DENIED, 0x0112), 0, "resend"),
    (item(1, Proof.DENIED, 0x0112), 9, "resend"),
    (item(1, Proof.DENIED, 0x0112, resends=1), 0, "fail"),
    (item(1, Proof.DENIED, None), 4, "resend"),
    (item(1, Proof.DENIED, None, resends=1), 4, "give_up"),
    (item(1, Proof.DENIED, 0x0119), 0, "fail"),
    (item(1, Proof.DENIED, 0x0122), 0, "give_up"),
    (item(1, Proof.DENIED, 0x0110), 0, "ask"),
    (item(1, Proof.DENIED, 0x0110), 4, "give_up"),
    (item(1, is_ambiguous=True), 0, "give_up"),
    (item(1, Proof.DENIED, 0x0112, is_ambiguous=True), 0, "give_up"),
]


@pytest.mark.parametrize(("one", "attempts", "place"), PLACES)
def test_what_is_planned_for_an_instance(one, attempts, place):
    planned = plan([one], attempts, RULES)
    lists = {name: getattr(planned, name) for name in ("ask", "resend", "fail", "give_up", "unasked")}
    assert {name for name, chosen in lists.items() if chosen} == {place}


def test_without_a_method_nothing_is_asked():
    planned = plan([item(1), item(2, Proof.DENIED, 0x0112)], 0, ProofRules(M.NONE))
    assert len(planned.unasked) == 2
    assert planned.questions == ()
