"""Whatever elements an instance has, reading and assembling it ends in slices or in a refusal."""

from __future__ import annotations

import struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword

from tests.fuzz.targets import check_assembler, check_reader, join, reader_seeds

USED = (
    *("SOPClassUID", "Modality", "ImageType", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelSpacing"),
    *("ImagePositionPatient", "ImageOrientationPatient", "SliceThickness", "RescaleSlope", "RescaleIntercept"),
    *("RescaleType", "PixelPaddingValue", "InstanceNumber", "SliceLocation", "SpecificCharacterSet", "PixelData"),
    *("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"),
)
TAGS = st.sampled_from([tag_for_keyword(keyword) for keyword in USED]) | st.integers(0x00080000, 0xFFFFFFFF)
VRS = st.sampled_from([b"CS", b"DS", b"IS", b"US", b"SS", b"UI", b"OW", b"OB", b"SQ", b"UN", b"FD", b"LT", b"zz"])
VALUES = st.sampled_from(
    [b"", b"1", b"-1", b"nan", b"1e999", b"1\\0\\0\\0\\1\\0", b"\xff\xff", b"\0\0", b"CT", b"\x1b[2J"]
)
SMALL = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def element(tag, vr, value, lie):
    value += b" " * (len(value) % 2)
    long = vr in {b"OW", b"OB", b"SQ", b"UN", b"zz"}
    length = (len(value) + lie) % (1 << 32 if long else 1 << 16)
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + vr
    return head + (struct.pack("<HL", 0, length) if long else struct.pack("<H", length)) + value


ELEMENTS = st.builds(
    element, TAGS, VRS, VALUES | st.binary(max_size=40), st.sampled_from([0, 0, 0, 0, 2, -2, 255, 65535, 2**31])
)


def with_elements(content, elements):
    """A file with elements in front of those that it has, after its file meta information."""
    at = content.index(b"\x08\0\x08\0CS")
    return content[:at] + b"".join(sorted(elements)) + content[at:]


@SMALL
@given(st.lists(ELEMENTS, max_size=6), st.integers(0, 1))
def test_any_elements_make_slices_or_a_refusal(elements, front):
    good = reader_seeds()[0]
    check_reader(with_elements(good, elements) if front else good + b"".join(sorted(elements)))


@SMALL
@given(st.lists(st.lists(ELEMENTS, max_size=3), min_size=1, max_size=4))
def test_any_instances_make_a_volume_or_a_refusal(many):
    good = reader_seeds()[0]
    check_assembler(join([with_elements(good, elements) for elements in many]))
