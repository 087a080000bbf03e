"""Completeness, retry arithmetic, identifiers, and the examples in the docstrings."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_guard.domain import identifiers, lifecycle, retry
from pacs_guard.domain.completeness import CompletenessRule
from pacs_guard.domain.identifiers import ae_title, is_uid, uid
from pacs_guard.domain.retry import RetryPolicy
from pacs_guard.errors import IdentifierError


@pytest.mark.parametrize(
    ("now", "last", "sending", "whole"),
    [(29, 0, False, False), (30, 0, False, True), (99, 0, True, False), (100, 99, True, True), (100, 100, False, True)],
)
def test_study_is_whole_when_quiet_or_after_the_longest_wait(now, last, sending, whole):
    rule = CompletenessRule(30, 100)
    assert rule.is_complete(now=now, opened_at=0, last_instance_at=last, still_sending=sending) is whole


@pytest.mark.parametrize(
    ("attempts", "chance", "wait"),
    [(1, 0, 5), (2, 0, 10), (4, 0, 40), (5, 0, 60), (9, 0, 60), (10, 0, None), (1, 0.5, 4.5)],
)
def test_wait_after_each_attempt(attempts, chance, wait):
    assert RetryPolicy(10, 5, 2, 60, 0.2).delay(attempts, chance) == wait


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True), st.floats(1, 10), st.floats(0.1, 1e4), st.floats(0, 1))
def test_wait_is_never_longer_than_the_cap_nor_shorter_than_jitter_allows(attempts, chance, factor, base, jitter):
    policy = RetryPolicy(10**7, base, factor, 900, jitter)
    wait = policy.delay(attempts, chance)
    assert min(base, 900) * (1 - jitter) * (1 - 1e-9) <= wait <= 900


@pytest.mark.parametrize(("given_title", "title"), [("PACS", "PACS"), ("  A B  ", "A B"), ("X" * 16, "X" * 16)])
def test_ae_title(given_title, title):
    assert ae_title(given_title) == title


@pytest.mark.parametrize("bad", ["", "   ", "X" * 17, "A\\B", "Ä", "A\tB", "A\0"])
def test_impossible_ae_title_is_refused(bad):
    with pytest.raises(IdentifierError, match="AE title"):
        ae_title(bad)


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("1.2.840", True),
        ("0.0", True),
        ("1.02", False),
        ("1..2", False),
        ("1.2.", False),
        ("", False),
        ("1.2\n", False),
        ("1." + "2" * 62, True),
        ("1." + "2" * 63, False),
        ("1.a", False),
        ("\u0661.\u0662", False),
    ],
)
def test_uid_rules(text, valid):
    assert is_uid(text) is valid


def test_padding_is_no_part_of_a_uid_and_harmless_text_is_let_through():
    assert uid("1.2\0") == uid("1.2 ") == "1.2"
    assert uid("not-a-uid") == "not-a-uid"
    for bad in ("", "\0", "1.2/\x07", "é", "1" * 65, "1 2"):
        with pytest.raises(IdentifierError, match="StudyInstanceUID"):
            uid(bad, name="StudyInstanceUID")


@pytest.mark.parametrize("module", [identifiers, lifecycle, retry])
def test_examples_run(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
