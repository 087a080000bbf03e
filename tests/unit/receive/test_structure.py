from __future__ import annotations

import io
import struct
import zlib

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from pacs_guard.errors import DataSetError
from pacs_guard.receive.structure import Identity, identify

IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
DEFLATED, JPEG_LOSSLESS = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.70"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPECTED = Identity(CT, "1.2.3.3", "1.2.3.1", "1.2.3.2")


def a_data_set() -> Dataset:
    data_set = Dataset()
    data_set.SOPClassUID = CT
    data_set.SOPInstanceUID = "1.2.3.3"
    data_set.StudyInstanceUID = "1.2.3.1"
    data_set.SeriesInstanceUID = "1.2.3.2"
    inner = Dataset()
    inner.StudyInstanceUID = "9.9.9"  # of another study; only the top level counts
    item = Dataset()
    item.SOPInstanceUID = "9.9"
    item.ReferencedImageSequence = Sequence([inner])
    data_set.ReferencedStudySequence = Sequence([item, Dataset()])
    data_set.Rows = data_set.Columns = 16
    data_set.BitsAllocated = 16
    data_set.PixelData = bytes(512)
    data_set["PixelData"].VR = "OW"
    return data_set


def make_lengths_undefined(data_set: Dataset) -> Dataset:
    for element in data_set:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                make_lengths_undefined(item)
    return data_set


def encode(data_set: Dataset, syntax: str = EXPLICIT) -> bytes:
    buffer = io.BytesIO()
    data_set.save_as(buffer, implicit_vr=syntax == IMPLICIT, little_endian=syntax != BIG_ENDIAN)
    return deflate(buffer.getvalue()) if syntax == DEFLATED else buffer.getvalue()


def deflate(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(content) + compressor.flush()


class InMemory(io.BytesIO):
    def skip(self, count):
        self.seek(count, io.SEEK_CUR)


def look(content: bytes, syntax: str = EXPLICIT) -> Identity:
    return identify(InMemory(content), len(content), syntax)


def refusal(content: bytes, syntax: str = EXPLICIT) -> tuple[int, str]:
    with pytest.raises(DataSetError) as caught:
        look(content, syntax)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize("undefined", [False, True], ids=["defined lengths", "undefined lengths"])
@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED])
def test_uids_of_the_top_level_are_found(syntax, undefined):
    data_set = make_lengths_undefined(a_data_set()) if undefined else a_data_set()
    assert look(encode(data_set, syntax), syntax) == EXPECTED


def test_encapsulated_pixel_data_is_passed_over():
    data_set = a_data_set()
    data_set.PixelData = encapsulate([b"\xfe\xff\xdd\xe0\0\0\0\0" * 20, b"x" * 33])
    data_set["PixelData"].VR = "OB"
    data_set["PixelData"].is_undefined_length = True
    content = encode(data_set)
    assert look(content, JPEG_LOSSLESS) == EXPECTED
    assert refusal(content[:-8], JPEG_LOSSLESS)[0] == 0xC000  # its sequence delimiter is missing


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("undefined", [False, True], ids=["defined lengths", "undefined lengths"])
def test_data_set_cut_short_anywhere_within_an_element_is_refused(syntax, undefined):
    data_set = make_lengths_undefined(a_data_set()) if undefined else a_data_set()
    del data_set.PixelData
    content = encode(data_set, syntax)
    accepted = []
    for length in range(1, len(content)):
        try:
            look(content[:length], syntax)
        except DataSetError:
            continue
        accepted.append(length)
    # only between two elements of the top level can nobody see that something is missing
    ends = ends_of_elements(data_set, syntax)
    assert set(accepted) < ends


def ends_of_elements(data_set: Dataset, syntax: str) -> set[int]:
    ends, so_far = set(), Dataset()
    for element in data_set:
        so_far.add(element)
        ends.add(len(encode(so_far, syntax)))
    return ends


def test_deflated_data_set_cut_short_is_refused():
    content = encode(a_data_set(), DEFLATED)
    for length in range(1, len(content)):
        assert refusal(content[:length], DEFLATED)[0] == 0xC000


def test_deflated_data_set_may_be_padded_by_one_byte_but_not_more():
    content = encode(a_data_set(), DEFLATED)
    assert look(content + b"\0", DEFLATED) == EXPECTED
    assert refusal(content + b"garbage", DEFLATED) == (0xC000, "7 bytes follow the deflated data set")


def test_deflated_garbage_is_refused():
    assert "cannot be inflated" in refusal(b"\xff" * 100, DEFLATED)[1]


def test_large_deflated_value_is_inflated_piece_by_piece():
    data_set = a_data_set()
    data_set.PixelData = bytes(20_000_000)
    assert look(encode(data_set, DEFLATED), DEFLATED) == EXPECTED


def test_deflated_data_set_without_end_is_given_up(monkeypatch):
    monkeypatch.setattr("pacs_guard.receive.structure._LONGEST_INFLATED", 1_000_000)
    data_set = a_data_set()
    data_set.PixelData = bytes(2_000_000)
    assert "inflates to more than" in refusal(encode(data_set, DEFLATED), DEFLATED)[1]


def test_unknown_value_of_undefined_length_is_a_sequence_in_implicit_vr():
    item = struct.pack("<HHI", 0x0040, 0xA160, 4) + b"text"
    unknown = (
        struct.pack("<HH2sHI", 0x0009, 0x1001, b"UN", 0, 0xFFFFFFFF)
        + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
        + item
        + struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
        + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    )
    content = encode(a_data_set())
    at = content.rindex(struct.pack("<HH", 0x0020, 0x000D))
    assert look(content[:at] + unknown + content[at:]) == EXPECTED


def test_element_without_vr_in_an_explicit_syntax_is_passed_over():
    odd = struct.pack("<HHI", 0x0009, 0x1001, 4) + b"data"
    content = encode(a_data_set())
    at = content.rindex(struct.pack("<HH", 0x0020, 0x000D))
    assert look(content[:at] + odd + content[at:]) == EXPECTED


def test_uid_given_twice_with_different_values_is_refused():
    other = struct.pack("<HH2sH", 0x0020, 0x000D, b"UI", 6) + b"9.9.9\0"
    assert refusal(encode(a_data_set()) + other) == (0xC000, "StudyInstanceUID is there twice, with different values")


def test_sequences_nested_without_end_are_refused():
    head = struct.pack("<HH2sHI", 0x0040, 0xA730, b"SQ", 0, 0xFFFFFFFF)
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    assert "nested" in refusal((head + item) * 5000)[1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (bytes(1000), "has no place"),
        (b"not a data set, rather a letter", "cut short"),
        (bytes(128) + b"DICM" + bytes(100), "has no place"),
        (struct.pack("<HHI", 0xFFFE, 0xE00D, 0), "has no place"),
    ],
)
def test_what_is_no_data_set_is_refused(content, reason):
    status, message = refusal(content)
    assert (status, reason in message) == (0xC000, True)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_missing_or_empty_uid_is_named(keyword):
    data_set = a_data_set()
    setattr(data_set, keyword, "")
    status, message = refusal(encode(data_set))
    assert (status, keyword in message) == (0xA900, True)
    delattr(data_set, keyword)
    assert refusal(encode(data_set)) == (0xA900, f"{keyword} is missing")


def test_data_set_in_another_transfer_syntax_is_refused():
    assert refusal(encode(a_data_set(), BIG_ENDIAN), EXPLICIT)[0] == 0xC000
    assert refusal(encode(a_data_set(), EXPLICIT), DEFLATED)[0] == 0xC000
