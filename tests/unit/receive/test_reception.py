from __future__ import annotations

import hashlib
import io

import pytest
from pydicom import dcmread
from pynetdicom.dimse_messages import C_FIND_RQ, C_STORE_RQ

from pacs_guard.errors import SpoolFullError
from pacs_guard.receive.dimse import DataSetStream
from pacs_guard.receive.part10 import file_head
from pacs_guard.receive.reception import Reception, Sender, StoreRequest
from pacs_guard.spool.incoming import IncomingFile

EXPLICIT = "1.2.840.10008.1.2.1"
REQUEST = StoreRequest(Sender("a" * 32, "CT1", "10.0.0.1", "ct"), "1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT)


@pytest.fixture
def reception(spool):
    return Reception(spool, REQUEST, min_free_bytes=0)


def incoming(spool):
    return list((spool.root / "incoming").iterdir())


def test_fragments_are_written_and_hashed_as_they_come(reception):
    for fragment in (b"abc", b"", b"defg"):
        reception.write(fragment)
    assert reception.file.sha256 == hashlib.sha256(b"abcdefg").hexdigest()
    assert (reception.length, reception.file.length) == (7, 7)
    assert reception.file.reader().read(9) == b"abcdefg"


def test_no_file_is_made_before_the_first_fragment(spool, reception):
    assert incoming(spool) == []
    reception.write(b"a")
    assert len(incoming(spool)) == 1


def test_full_disk_is_remembered_and_the_rest_let_go(spool, reception, monkeypatch):
    reception.write(b"abc")

    def full(*_):
        raise SpoolFullError("No space left on device")

    monkeypatch.setattr(IncomingFile, "write", full)
    reception.write(b"defg")
    monkeypatch.undo()
    reception.write(b"hi")
    assert isinstance(reception.error, SpoolFullError)
    assert (reception.length, reception.file, incoming(spool)) == (9, None, [])


def test_nothing_is_taken_below_the_watermark(spool, monkeypatch):
    monkeypatch.setattr(spool, "free_bytes", lambda: 99)
    reception = Reception(spool, REQUEST, min_free_bytes=100)
    reception.write(b"abc")
    assert str(reception.error) == "99 bytes are free in the spool; 100 are kept free"
    assert incoming(spool) == []


def test_what_comes_after_a_drop_makes_no_new_file(spool, reception):
    reception.write(b"abc")
    reception.drop()
    reception.write(b"def")
    reception.drop()
    assert incoming(spool) == []


class Provider:
    def __init__(self, reception):
        self.reception = reception
        self.began = 0

    def begin(self, _message):
        self.began += 1
        return self.reception


def test_stream_passes_fragments_of_a_store_request_on(reception):
    provider = Provider(reception)
    stream = DataSetStream(provider, C_STORE_RQ())
    assert [stream.write(b"abc"), stream.write(b"de")] == [3, 2]
    assert provider.began == 1
    assert (reception.length, stream.getvalue()) == (5, b"")


def test_stream_holds_nothing_of_other_messages(reception):
    provider = Provider(reception)
    stream = DataSetStream(provider, C_FIND_RQ())
    stream.write(b"abc")
    assert (provider.began, stream.getvalue(), stream.reception) == (0, b"", None)


def test_stream_lets_go_what_comes_over_a_context_that_was_not_accepted():
    stream = DataSetStream(Provider(None), C_STORE_RQ())
    assert stream.write(b"abc") == 3
    assert stream.getvalue() == b""


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize("sop_uid", ["1.2.3", "1.2.34", "no_uid_at_all"])
def test_file_head_is_read_back_as_it_was_given(sop_uid):
    head = file_head("1.2.840.10008.5.1.4.1.1.2", sop_uid, EXPLICIT)
    meta = dcmread(io.BytesIO(head)).file_meta
    assert meta.MediaStorageSOPInstanceUID == sop_uid
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.FileMetaInformationGroupLength == len(head) - 144
    assert meta.ImplementationVersionName == "PACS_GUARD_0.1"
