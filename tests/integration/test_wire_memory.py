"""Receiving holds no data set: memory is bounded with many associations, and with objects of any size."""

from __future__ import annotations

import struct

import pytest

from pacs_guard.deliver.command import StoreRequest, encode_store_request
from pacs_guard.deliver.pdu import p_data
from tests.benchmarks import measure
from tests.benchmarks.loads import small
from tests.benchmarks.receivers import pacs_guard
from tests.benchmarks.sender import _Association

ASSOCIATIONS = 64
LARGE_BYTES = 256 << 20
_PIECE = bytes(1 << 18)


@pytest.fixture(scope="module")
def receiver(tmp_path_factory):
    with pacs_guard(tmp_path_factory.mktemp("memory") / "node") as running:
        begin(running, 2).release()  # what is loaded once is there
        yield running


@pytest.fixture
def growth(receiver):
    """Gives by how many MiB the receiver's memory grew at its largest."""
    measure.reset_peak(receiver.pid)
    before = measure.peak_mib(receiver.pid)
    return lambda: measure.peak_mib(receiver.pid) - before


def begin(running, length):
    """Open an association, and announce a data set whose pixels have `length` bytes."""
    load = small()
    association = _Association(running.port, running.ae_title, load.sop_class_uid)
    [(sop, head)] = load.heads(1)
    request = encode_store_request(StoreRequest(1, 1, load.sop_class_uid, sop))
    head = head[:-4] + struct.pack("<I", length)
    size = association.size
    association.send([*p_data(request, context_id=1, size=size, command=True)])
    association.send([*p_data(head, context_id=1, size=size, last=False)])
    return association


def pixels(association, length, *, last):
    for at in range(0, length, len(_PIECE)):
        piece = _PIECE[: length - at]
        is_last = last and at + len(piece) == length
        association.send([*p_data(piece, context_id=1, size=association.size, last=is_last)])


def test_large_object_is_streamed(receiver, growth):
    association = begin(receiver, LARGE_BYTES)
    pixels(association, LARGE_BYTES, last=True)
    assert association.status() == 0x0000
    association.release()
    assert growth() < 16


def test_each_of_many_associations_takes_a_buffer_and_little_more(receiver, growth):
    associations = [begin(receiver, 4 << 20) for _ in range(ASSOCIATIONS)]
    for association in associations:  # each is left within its data set
        pixels(association, 3 << 20, last=False)
    for association in associations:
        pixels(association, 1 << 20, last=True)
        assert association.status() == 0x0000
        association.release()
    assert growth() < 2 * ASSOCIATIONS
