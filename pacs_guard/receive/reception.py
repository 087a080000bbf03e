"""A data set on its way in: from an association's fragments to a file in the spool."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs_guard.errors import PacsGuardError, SpoolFullError
from pacs_guard.receive.part10 import file_head

if TYPE_CHECKING:
    from pacs_guard.spool.store import Incoming, Spool


@dataclass(frozen=True, slots=True)
class Sender:
    """Who is sending.

    Attributes
    ----------
    association_id : str
    calling_ae : str
    address : str
        IP address.
    source : str
        Name of the configured source.
    certificate : str or None
        Subject of the certificate it has shown.
    """

    association_id: str
    calling_ae: str
    address: str
    source: str
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class StoreRequest:
    """What a C-STORE request's command set says, and how its data set is encoded.

    Attributes
    ----------
    sender : Sender
    sop_class_uid, sop_uid : str
        Affected SOP Class and Instance UID; empty if the command set lacks them.
    transfer_syntax_uid : str
        Of its presentation context.
    """

    sender: Sender
    sop_class_uid: str
    sop_uid: str
    transfer_syntax_uid: str


class Reception:
    """One data set being received.

    Writing never raises: the thread that writes also reads the network, and has nobody to tell. What went wrong is
    kept in `error`, the rest of the data set is let go, and the sender learns of it in the answer.

    Parameters
    ----------
    spool : Spool
    request : StoreRequest
    min_free_bytes : int
        With less room than this in the spool nothing is taken.

    Attributes
    ----------
    file : Incoming or None
        None before the first fragment, and after an error or `drop`.
    length : int
        Bytes of the data set so far, let go or not.
    error : PacsGuardError or None
    """

    def __init__(self, spool: Spool, request: StoreRequest, min_free_bytes: int) -> None:
        self.request = request
        self.file: Incoming | None = None
        self.length = 0
        self.error: PacsGuardError | None = None
        self._spool = spool
        self._min_free = min_free_bytes
        self._began = time.perf_counter()
        self._dropped = False
        self._lock = threading.Lock()

    @property
    def seconds(self) -> float:
        """Time since the command set was there."""
        return time.perf_counter() - self._began

    def write(self, fragment: bytes | memoryview) -> None:
        """Take the next fragment; its memory stays as it is until the data set is finished, or `detach` is called."""
        with self._lock:
            self.length += len(fragment)
            if self.error is not None or self._dropped:
                return
            try:
                if self.file is None:
                    self.file = self._open()
                self.file.write(fragment)
            except PacsGuardError as error:
                self.error = error
                self._discard()

    def detach(self) -> None:
        """Let go of the memory of all fragments so far."""
        with self._lock:
            if self.file is not None:
                self.file.detach()

    def drop(self) -> None:
        """Let go of the data set, and of what may still come of it."""
        with self._lock:
            self._dropped = True
            self._discard()

    def _open(self) -> Incoming:
        free = self._spool.free_bytes()
        if free < self._min_free:
            raise SpoolFullError(f"{free} bytes are free in the spool; {self._min_free} are kept free")
        request = self.request
        return self._spool.receive(file_head(request.sop_class_uid, request.sop_uid, request.transfer_syntax_uid))

    def _discard(self) -> None:
        if self.file is not None:
            self.file.discard()
            self.file = None
