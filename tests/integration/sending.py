"""A scanner that sends a file's data set byte for byte as it lies there."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydicom import dcmread
from pynetdicom import AE, _config, evt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACKNOWLEDGED = 0x0000
TIMEOUT_SECONDS = 20


@contextmanager
def verbatim() -> Iterator[None]:
    """Let pynetdicom send files without decoding them."""
    before = _config.STORE_SEND_CHUNKED_DATASET
    _config.STORE_SEND_CHUNKED_DATASET = True
    try:
        yield
    finally:
        _config.STORE_SEND_CHUNKED_DATASET = before


def associate(port: int, sample: Path):
    """Open an association that can carry files like `sample`."""
    meta = dcmread(sample, stop_before_pixels=True).file_meta
    entity = AE(ae_title="CT1")
    entity.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = TIMEOUT_SECONDS
    return entity.associate("127.0.0.1", port, ae_title="PACSGUARD", evt_handlers=[(evt.EVT_CONN_OPEN, _send_at_once)])


def _send_at_once(event) -> None:
    # or every instance waits 40 ms for a delayed acknowledgement
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def send_verbatim(port: int, files: list[Path]) -> None:
    """Send every file over one association; each must be acknowledged."""
    with verbatim():
        association = associate(port, files[0])
        assert association.is_established
        for file in files:
            assert association.send_c_store(file).Status == ACKNOWLEDGED
        association.release()
