"""A look at a received data set that decodes nothing: whether it is whole, and whose it is (PS3.5 7).

Only the headers of elements are read; values are skipped, so that the size of the pixel data does not matter.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

from pacs_guard.domain.identifiers import uid
from pacs_guard.errors import DataSetError, IdentifierError

if TYPE_CHECKING:
    from collections.abc import Mapping

IMPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2"
EXPLICIT_BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = {"1.2.840.10008.1.2.1.99"}

NOT_UNDERSTOOD = 0xC000
DOES_NOT_MATCH = 0xA900

_NAMES = {
    (0x0008, 0x0016): "SOPClassUID",
    (0x0008, 0x0018): "SOPInstanceUID",
    (0x0020, 0x000D): "StudyInstanceUID",
    (0x0020, 0x000E): "SeriesInstanceUID",
}
_SHORT_LENGTH = {
    *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL"),
    *(b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
}
_LONG_LENGTH = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_LONGEST_HEADER = struct.Struct("<HH2sHI")
_OUT_OF_PLACE = {0x0000, 0xFFFE}
_WINDOW = 1 << 14
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_LONGEST_UID_VALUE = 256
_DEEPEST = 64
_CHUNK = 1 << 16
_LONGEST_INFLATED = 1 << 32
_MOST_HEADERS = 1 << 22  # the largest objects in use, with a million frames' attributes, stay below


class Content(Protocol):
    """Where a data set is read from."""

    def read(self, count: int, /) -> bytes:
        """Return the next bytes; fewer only where it ends."""
        ...

    def skip(self, count: int, /) -> None:
        """Pass over bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """The UIDs of a data set.

    Attributes
    ----------
    sop_class_uid, sop_uid, study_uid, series_uid : str
        Without padding; usable as keys, though not necessarily valid by PS3.5 9.1.
    """

    sop_class_uid: str
    sop_uid: str
    study_uid: str
    series_uid: str


def identify(file: Content, length: int, transfer_syntax_uid: str) -> Identity:
    """Return whose data set this is, after making sure that it is whole.

    Parameters
    ----------
    file : Content
        At the first byte of the data set.
    length : int
        Bytes of the data set.
    transfer_syntax_uid : str
        How it is encoded.

    Raises
    ------
    DataSetError
        With status C000 if it is empty, cut short or no data set in that transfer syntax; with A900 if one of the
        four UIDs is missing or unusable.
    """
    if length == 0:
        _refuse("the data set is empty")
    source: _Source
    source = _Inflated(file, length) if transfer_syntax_uid in DEFLATED else _Plain(file, length)
    order = ">" if transfer_syntax_uid == EXPLICIT_BIG_ENDIAN else "<"
    walker = _Walker(source, order)
    found = walker.data_set(implicit=transfer_syntax_uid == IMPLICIT_LITTLE_ENDIAN)
    return Identity(
        sop_class_uid=_uid(found, (0x0008, 0x0016)),
        sop_uid=_uid(found, (0x0008, 0x0018)),
        study_uid=_uid(found, (0x0020, 0x000D)),
        series_uid=_uid(found, (0x0020, 0x000E)),
    )


def _uid(found: Mapping[tuple[int, int], bytes], tag: tuple[int, int]) -> str:
    name = _NAMES[tag]
    if tag not in found:
        raise DataSetError(f"{name} is missing", status=DOES_NOT_MATCH)
    try:
        return uid(found[tag].decode("latin-1"), name=name)
    except IdentifierError as error:
        raise DataSetError(str(error), status=DOES_NOT_MATCH) from error


def _refuse(message: str) -> NoReturn:
    raise DataSetError(message, status=NOT_UNDERSTOOD)


class _Source(Protocol):
    def read(self, count: int) -> bytes:
        """Return exactly `count` bytes, or raise DataSetError."""
        ...

    def skip(self, count: int) -> None:
        """Pass over exactly `count` bytes, or raise DataSetError."""
        ...

    def at_end(self) -> bool: ...


class _Plain:
    """The data set's own bytes, a piece of them in memory."""

    def __init__(self, file: Content, length: int) -> None:
        self._file = file
        self._unread = length  # beyond the window
        self._window = b""
        self._at = 0

    def _left(self) -> int:
        return len(self._window) - self._at + self._unread

    def _check(self, count: int) -> None:
        if count > self._left():
            _refuse(f"the data set is cut short: {count} bytes are announced, {self._left()} are left")

    def read(self, count: int) -> bytes:
        if self._at + count > len(self._window):
            self._check(count)
            rest = self._window[self._at :]
            size = min(max(_WINDOW, count) - len(rest), self._unread)
            self._window = rest + self._file.read(size)
            self._unread -= size
            self._at = 0
        start = self._at
        self._at += count
        return self._window[start : self._at]

    def skip(self, count: int) -> None:
        self._check(count)
        beyond = self._at + count - len(self._window)
        if beyond <= 0:
            self._at += count
            return
        self._file.skip(beyond)
        self._unread -= beyond
        self._window, self._at = b"", 0

    def at_end(self) -> bool:
        return self._left() == 0

    def pass_over(self, found: dict[tuple[int, int], bytes]) -> None:
        """Pass over elements of explicit VR little endian that lie in the window, and note the four UIDs.

        What it leaves is looked at in the ordinary way, which would find the same: this is only several times faster.
        """
        window, at = self._window, self._at
        size = len(window)
        last = size - _LONGEST_HEADER.size
        while at <= last:
            group, number, vr, short, long = _LONGEST_HEADER.unpack_from(window, at)
            if vr in _SHORT_LENGTH:
                end = at + 8 + short
            elif vr in _LONG_LENGTH and long != _UNDEFINED:
                end = at + 12 + long
            else:
                break
            if end > size or group in _OUT_OF_PLACE:
                break
            if (tag := (group, number)) in _NAMES:
                value = window[at + 8 : end]
                if vr not in _SHORT_LENGTH or short > _LONGEST_UID_VALUE or found.setdefault(tag, value) != value:
                    break
            at = end
        self._at = at


class _Inflated:
    """A deflated data set (PS3.5 A.5), inflated bit by bit."""

    def __init__(self, file: Content, length: int) -> None:
        self._file = file
        self._left = length
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._buffer = b""
        self._total = 0

    def _fill(self) -> bool:
        """Inflate some more into the empty buffer; False at the end."""
        while not self._buffer and not self._inflater.eof:
            packed = self._inflater.unconsumed_tail
            if not packed:
                packed = self._file.read(min(_CHUNK, self._left))
                self._left -= len(packed)
            if not packed:
                _refuse("the deflated data set is cut short")
            try:
                self._buffer = self._inflater.decompress(packed, _CHUNK)
            except zlib.error as error:
                raise DataSetError(f"the data set cannot be inflated: {error}", status=NOT_UNDERSTOOD) from error
        self._total += len(self._buffer)
        if self._total > _LONGEST_INFLATED:
            _refuse(f"the data set inflates to more than {_LONGEST_INFLATED} bytes")
        return bool(self._buffer)

    def read(self, count: int) -> bytes:
        parts = []
        while count:
            if not self._buffer and not self._fill():
                _refuse(f"the data set is cut short: {count} bytes are missing")
            part, self._buffer = self._buffer[:count], self._buffer[count:]
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        while count > len(self._buffer):
            count -= len(self._buffer)
            self._buffer = b""
            if not self._fill():
                _refuse(f"the data set is cut short: {count} bytes are missing")
        self._buffer = self._buffer[count:]

    def at_end(self) -> bool:
        if self._buffer or self._fill():
            return False
        surplus = self._left + len(self._inflater.unused_data)
        if surplus > 1:  # one byte may pad the stream to an even length
            _refuse(f"{surplus} bytes follow the deflated data set")
        return True


class _Walker:
    """Goes from element to element.

    Parameters
    ----------
    source : _Source
    order : str
        Byte order as `struct` writes it.
    """

    def __init__(self, source: _Source, order: str) -> None:
        self._source = source
        self._tag = struct.Struct(f"{order}HH")
        self._short = struct.Struct(f"{order}H")
        self._long = struct.Struct(f"{order}I")
        self._headers_left = _MOST_HEADERS

    def data_set(self, *, implicit: bool) -> dict[tuple[int, int], bytes]:
        """Walk all elements of the top level and return the values of the four UIDs."""
        found: dict[tuple[int, int], bytes] = {}
        is_usual = self._tag.format == "<HH" and not implicit
        while not self._source.at_end():
            if is_usual and isinstance(self._source, _Plain):
                self._source.pass_over(found)
                if self._source.at_end():
                    break
            tag, vr, length = self._header(implicit=implicit)
            if tag[0] in _OUT_OF_PLACE:
                _refuse(f"element ({tag[0]:04X},{tag[1]:04X}) has no place in a data set")
            if tag not in _NAMES:
                self._value(vr, length, implicit=implicit, depth=0)
                continue
            if length > _LONGEST_UID_VALUE:
                _refuse(f"{_NAMES[tag]} is {length} bytes long")
            value = self._source.read(length)
            if found.setdefault(tag, value) != value:
                _refuse(f"{_NAMES[tag]} is there twice, with different values")
        return found

    def _header(self, *, implicit: bool) -> tuple[tuple[int, int], bytes, int]:
        self._headers_left -= 1
        if self._headers_left < 0:
            _refuse(f"the data set has more than {_MOST_HEADERS} elements and items")
        head = self._source.read(8)
        group, number = self._tag.unpack_from(head)
        vr = head[4:6]
        # equipment is known to write some elements without a VR in explicit transfer syntaxes
        if implicit or group == 0xFFFE or not (vr.isalpha() and vr.isupper()):
            return (group, number), b"", self._long.unpack_from(head, 4)[0]
        if vr in _SHORT_LENGTH:
            return (group, number), vr, self._short.unpack_from(head, 6)[0]
        return (group, number), vr, self._long.unpack(self._source.read(4))[0]

    def _value(self, vr: bytes, length: int, *, implicit: bool, depth: int) -> None:
        if length != _UNDEFINED:
            self._source.skip(length)
        else:
            # a value of unknown VR and length is a sequence in implicit VR (PS3.5 6.2.2)
            self._items(implicit=implicit or vr == b"UN", depth=depth + 1)

    def _items(self, *, implicit: bool, depth: int) -> None:
        """Pass over the items of a sequence, or the fragments of pixel data, of undefined length."""
        if depth > _DEEPEST:
            _refuse(f"sequences are nested more than {_DEEPEST} deep")
        while True:
            tag, _, length = self._header(implicit=implicit)
            if tag == _SEQUENCE_END:
                return
            if tag != _ITEM:
                _refuse(f"({tag[0]:04X},{tag[1]:04X}) stands where an item is expected")
            if length == _UNDEFINED:
                self._item(implicit=implicit, depth=depth)
            else:
                self._source.skip(length)

    def _item(self, *, implicit: bool, depth: int) -> None:
        while True:
            tag, vr, length = self._header(implicit=implicit)
            if tag == _ITEM_END:
                return
            if tag[0] in _OUT_OF_PLACE:
                _refuse(f"({tag[0]:04X},{tag[1]:04X}) stands inside an item")
            self._value(vr, length, implicit=implicit, depth=depth)
