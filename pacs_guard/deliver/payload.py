"""Data sets as they go out: read from the spool once, checked on the way, and handed on in pieces."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pacs_guard.errors import SpoolCorruptError, SpoolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs_guard.domain.instance import StoredInstance
    from pacs_guard.spool.store import StoredFiles

PIECE_BYTES = 1 << 22
"""Instances up to this size are checked before anything of them leaves; no more than this is ever held."""


class VerifiedReader:
    """Reads one instance after another through one buffer.

    Parameters
    ----------
    spool : StoredFiles
    piece_bytes : int
        Most bytes held, an even number.
    """

    def __init__(self, spool: StoredFiles, piece_bytes: int = PIECE_BYTES) -> None:
        self._spool = spool
        self._piece_bytes = piece_bytes
        self._buffer = bytearray()
        self._ahead: StoredInstance | None = None

    def read_ahead(self, instance: StoredInstance) -> None:
        """Read and check the instance that `pieces` will be asked for next; the pieces of the last one end with it.

        A large instance is left alone. Nothing is raised: `pieces` meets the same obstacle, and says so.
        """
        self._ahead = None
        if instance.length > self._piece_bytes:
            return
        with suppress(SpoolError):
            for _ in self._checked(instance):
                self._ahead = instance

    def pieces(self, instance: StoredInstance) -> Iterator[memoryview]:
        """Yield an instance's data set; the last piece comes only if all of it agrees with its hash.

        Each piece is valid until the next is asked for. A small instance is one piece, so nothing of it leaves
        unchecked. A large one would have to be read twice for that; whoever sends it without its last piece has sent
        no instance.

        Raises
        ------
        SpoolCorruptError
            Instead of the last piece, or before, if its bytes are not those that were received.
        SpoolError
            If it cannot be opened just now.
        """
        ahead, self._ahead = self._ahead, None
        if instance is ahead:
            yield memoryview(self._buffer)[: instance.length]
        else:
            yield from self._checked(instance)

    def _checked(self, instance: StoredInstance) -> Iterator[memoryview]:
        digest, left = hashlib.sha256(), instance.length
        for piece in self._read(instance):
            digest.update(piece)
            left -= len(piece)
            if not left and digest.hexdigest() != instance.key.sha256:
                raise SpoolCorruptError(f"instance {instance.id}: the bytes in {instance.path} are not those received")
            yield piece

    def _read(self, instance: StoredInstance) -> Iterator[memoryview]:
        size = min(instance.length, self._piece_bytes)
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        left = instance.length
        descriptor, position = self._spool.descriptor(instance)
        try:
            while True:
                piece = memoryview(self._buffer)[: min(size, left)]
                _fill(descriptor, position, piece, instance)
                position += len(piece)
                left -= len(piece)
                yield piece
                if not left:
                    return
        finally:
            os.close(descriptor)


def _fill(descriptor: int, position: int, piece: memoryview, instance: StoredInstance) -> None:
    filled = 0
    while filled < len(piece):
        try:
            count = os.preadv(descriptor, (piece[filled:],), position + filled)
        except OSError as error:
            raise SpoolCorruptError(  # a bad sector, most likely
                f"instance {instance.id}: {instance.path} cannot be read: {error}"
            ) from error
        if not count:
            raise SpoolCorruptError(f"instance {instance.id}: {instance.path} was cut short while it was read")
        filled += count
