from __future__ import annotations

import pytest

from pacs_guard.deliver.status import Disposition, disposition, sentence

TABLE = [
    (Disposition.DELIVERED, [0x0000, 0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB006, 0xB007, 0xBFFF]),
    (Disposition.TRANSIENT, [0xA700, 0xA701, 0xA7FF, 0x0110, 0x0210, 0x0213, 0xFE00]),
    (Disposition.PERMANENT, [0xA900, 0xA9FF, 0xC000, 0xC123, 0xCFFF, 0x0117, 0x0122, 0x0124, 0x0211, 0x0212]),
]


@pytest.mark.parametrize(("expected", "status"), [(kind, status) for kind, codes in TABLE for status in codes])
def test_the_table_of_the_standard(expected, status):
    assert disposition(status) is expected


@pytest.mark.parametrize("status", [0x1234, 0xA600, 0xA800, 0xD000, 0xFFFF])
def test_an_unknown_status_is_never_taken_for_success(status):
    assert disposition(status) is Disposition.TRANSIENT


def test_a_status_is_told_with_its_meaning_and_the_destinations_comment():
    assert sentence(0xA900, "no PatientID") == "answered 0xA900 (data set does not match SOP class): no PatientID"
    assert sentence(0x0111) == "answered 0x0111 (already stored)"
