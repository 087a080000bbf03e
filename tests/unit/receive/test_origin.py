"""What a record keeps of an instance beside its bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pacs_guard.receive.origin import Origin, decoded
from pacs_guard.spool.records import LONGEST_ORIGIN

UID = "1." + "9" * 62


@given(st.lists(st.text(max_size=64), min_size=8, max_size=8))
def test_what_is_encoded_is_decoded(texts):
    assert decoded(Origin(*texts).encoded()) == Origin(*texts)


def test_nothing_known_is_none():
    assert decoded(b"") is None


def test_the_longest_of_everything_fits_into_a_header():
    origin = Origin(UID, UID, UID, UID, UID, "s" * 64, "\x1b" * 16, "0" * 32)
    assert len(origin.encoded()) <= LONGEST_ORIGIN
