"""Values of a data set as they come, whatever VR it gives them."""

from __future__ import annotations

import pytest
from pydicom import Dataset
from pydicom.dataelem import DataElement

from pacs_guard.assemble import header


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        ("CS", ["ORIGINAL", "PRIMARY ", "LOCALIZER"], ("ORIGINAL", "PRIMARY", "LOCALIZER")),
        ("CS", "ORIGINAL", ("ORIGINAL",)),
        ("CS", None, ()),
        ("DS", "1", ()),
        ("DS", ["1", "2"], ()),
        ("US", 1, ()),
        ("OB", b"ORIGINAL", ()),
        ("SQ", [Dataset()], ()),
        ("PN", "A^B", ()),
    ],
)
def test_words_are_what_is_text(vr, value, expected):
    ds = Dataset()
    ds.add(DataElement(0x00080008, vr, value))
    assert header.words(ds, "ImageType") == expected
    assert header.words(ds, "SOPClassUID") == ()
