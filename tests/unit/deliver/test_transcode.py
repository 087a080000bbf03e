from __future__ import annotations

import hashlib
import io
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.filereader import read_dataset
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from pacs_guard.deliver import transcode as room
from pacs_guard.deliver.transcode import transcode
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.errors import PermanentDeliveryError

CRASHING = Path(__file__).parents[2] / "fuzz" / "findings" / "confined-935926996fb2"
FILES = [
    "CT_small.dcm",
    "MR_small_implicit.dcm",
    "MR_small_bigendian.dcm",
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "image_dfl.dcm",
    "SC_rgb_rle_16bit_2frame.dcm",
    "SC_rgb_small_odd_big_endian.dcm",
    "liver_expb_1frame.dcm",
    "rtdose_rle.dcm",
]


def dcmread_meta(content: bytes) -> pydicom.dataset.FileMetaDataset:
    file = io.BytesIO(content[132:])
    return pydicom.filereader._read_file_meta_info(file)


def spooled(spool, content: bytes, syntax: str | None = None) -> StoredInstance:
    """Put a Part 10 file into the spool, with what its queue row would say."""
    meta = dcmread_meta(content)
    offset = 144 + int.from_bytes(content[140:144], "little")
    incoming = spool.receive(content[:offset])
    incoming.write(content[offset:])
    path = spool.path_for("1.2")
    incoming.commit(path)
    return StoredInstance(
        1,
        InstanceKey("1.2", "1.2.3", str(meta.MediaStorageSOPInstanceUID), hashlib.sha256(content[offset:]).hexdigest()),
        str(meta.MediaStorageSOPClassUID),
        syntax or str(meta.TransferSyntaxUID),
        path,
        offset,
        len(content) - offset,
    )


def parsed(encoded: bytes, syntax: str) -> pydicom.Dataset:
    ds = read_dataset(io.BytesIO(encoded), UID(syntax).is_implicit_VR, is_little_endian=True)
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return ds


def content_of(name: str) -> bytes:
    return Path(get_testdata_file(name)).read_bytes()


@pytest.mark.parametrize("target", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("name", FILES)
def test_pixels_and_identifiers_survive(spool, name, target):
    content = content_of(name)
    original = pydicom.dcmread(io.BytesIO(content))
    result = parsed(transcode(spool, spooled(spool, content), target), target)
    assert np.array_equal(result.pixel_array, original.pixel_array)
    assert result.SOPInstanceUID == original.SOPInstanceUID
    assert {element.tag for element in result} == {element.tag for element in original}
    assert [e.value for e in result if e.VR == "PN"] == [e.value for e in original if e.VR == "PN"]


def test_a_deflated_data_set_is_inflated_and_nothing_else(spool):
    content = content_of("image_dfl.dcm")
    instance = spooled(spool, content)
    inflated = zlib.decompress(content[instance.offset :], -zlib.MAX_WBITS)
    assert transcode(spool, instance, ExplicitVRLittleEndian) == inflated


def test_a_deflated_data_set_that_is_cut_short_is_refused(spool):
    content = content_of("image_dfl.dcm")[:-500]
    with pytest.raises(PermanentDeliveryError, match="cut short"):
        transcode(spool, spooled(spool, content, DeflatedExplicitVRLittleEndian), ExplicitVRLittleEndian)


def test_an_object_without_pixels_is_re_encoded(spool):
    content = content_of("reportsi.dcm")
    result = parsed(transcode(spool, spooled(spool, content), ImplicitVRLittleEndian), ImplicitVRLittleEndian)
    original = pydicom.dcmread(io.BytesIO(content))
    assert result.ContentSequence[0].ConceptNameCodeSequence == original.ContentSequence[0].ConceptNameCodeSequence


@pytest.mark.parametrize(("source", "target"), [(JPEG2000, ExplicitVRLittleEndian), (RLELossless, RLELossless)])
def test_what_is_not_lossless_to_uncompressed_is_refused(spool, source, target):
    with pytest.raises(PermanentDeliveryError, match="not transcoded"):
        transcode(spool, spooled(spool, content_of("MR_small_RLE.dcm"), source), target)


def test_pixels_that_cannot_be_decoded_are_a_permanent_failure(spool):
    ds = pydicom.dcmread(get_testdata_file("MR_small_jp2klossless.dcm"))
    ds.PixelData = ds.PixelData[:200] + bytes(len(ds.PixelData) - 200)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    with pytest.raises(PermanentDeliveryError, match="cannot be transcoded from JPEG 2000"):
        transcode(spool, spooled(spool, buffer.getvalue()), ExplicitVRLittleEndian)


def test_other_pixels_after_transcoding_are_never_sent(spool, monkeypatch):
    monkeypatch.setattr(room, "_swap_words", lambda _ds: None)
    instance = spooled(spool, content_of("MR_small_bigendian.dcm"))
    with pytest.raises(ValueError, match="pixels differ"):
        room.transcoded(spool, instance, ExplicitVRLittleEndian)


def test_a_codec_that_crashes_fails_its_instance_and_no_other(spool):
    # a JPEG 2000 stream on which GDCM ends its process
    content = CRASHING.read_bytes()
    meta = dcmread_meta(content_of("MR_small_jp2klossless.dcm"))
    good = content_of("MR_small_jp2klossless.dcm")
    instance = spooled(spool, good[: 144 + int.from_bytes(good[140:144], "little")] + content[data_set_at(content) :])
    with pytest.raises(PermanentDeliveryError, match="SIGABRT"):
        transcode(spool, instance, ExplicitVRLittleEndian)
    assert transcode(spool, spooled(spool, good), ExplicitVRLittleEndian)
    assert meta.TransferSyntaxUID == instance.transfer_syntax_uid


def data_set_at(content: bytes) -> int:
    return content.index(b"\x08\0\x08\0CS")
