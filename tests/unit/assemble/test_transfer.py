from __future__ import annotations

import io
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pacs_guard.assemble.transfer import read_series
from pacs_guard.confined import read_message, write_message
from pacs_guard.errors import ConfinementError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["", "x", "hu"]) | st.floats(),
    lambda inner: st.lists(inner, max_size=3),
)


def message(content):
    return struct.pack(">Q", len(content)) + content


def volume(**shapes):
    return {
        "study_uid": "1", "series_uid": "2", "refusal": None, "files": {}, "out_of_scope": False, "notes": [],
        "instances": [], "shapes": shapes, "volume": {"spacing_mm": [1, 1, 1]},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "ended"),
        (struct.pack(">Q", 2**63), "at most 100"),
        (message(b"[1]"), "no JSON object"),
        (message(b"{"), "no JSON"),
        (struct.pack(">Q", 10) + b"{}", "ended"),
        (message(b"[" * 100), "no JSON"),
    ],
)
def test_what_is_no_message_is_refused(content, reason):
    with pytest.raises(ConfinementError, match=reason):
        read_message(io.BytesIO(content), most=100)


def test_a_message_comes_out_as_it_went_in():
    file = io.BytesIO()
    write_message(file, {"a": [1, "\x1b\ud800"]})
    file.seek(0)
    assert read_message(file, most=100) == {"a": [1, "\x1b\ud800"]}


@pytest.mark.parametrize(
    "shapes",
    [
        {"hu": [10**6, 10**6, 10**6]},
        {"hu": [-1, 4, 4]},
        {"hu": [-1, -1, 4]},
        {"other": [1]},
        {"hu": "x"},
        {"hu": [2, 2]},
    ],
)
def test_room_is_made_for_no_more_than_allowed(shapes):
    with pytest.raises(ConfinementError):
        read_series(io.BytesIO(), {"series": volume(**shapes)}, most_bytes=1000)


@given(st.dictionaries(st.sampled_from([*volume(), "x"]), VALUES), st.binary(max_size=20))
def test_any_json_is_a_series_or_refused(content, rest):
    try:
        series = read_series(io.BytesIO(rest), {"series": json.loads(json.dumps(content))}, most_bytes=1000)
    except ConfinementError:
        return
    assert series.volume is None
