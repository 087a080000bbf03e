from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pacs_guard.domain.text import printable


@given(st.text(), st.integers(1, 50))
def test_what_comes_out_is_printable_and_has_an_end(text, longest):
    found = printable(text, longest=longest)
    assert found.isprintable()
    assert len(found) <= longest


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"]), max_size=50))
def test_ordinary_text_stays_as_it_is(text):
    assert printable(text) == text


def test_a_new_line_stays_where_that_is_wanted():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\N{REPLACEMENT CHARACTER}"
