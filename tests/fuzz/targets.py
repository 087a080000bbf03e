"""What is fuzzed: each target takes any bytes, and raises only if a promise is broken."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import struct
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import RLELossless

from pacs_guard.assemble.confined import ConfinedAssembly
from pacs_guard.assemble.files import find_instances
from pacs_guard.assemble.reading import read_instance
from pacs_guard.assemble.series import assemble_series
from pacs_guard.assemble.transfer import read_series, write_series
from pacs_guard.confined import Limits, read_message
from pacs_guard.domain.volume import Volume
from pacs_guard.errors import ConfinementError, DataSetError, ProtocolError
from pacs_guard.receive.structure import identify
from pacs_guard.receive.wire.command import read_store_command, store_response
from pacs_guard.receive.wire.messages import MessageStream
from pacs_guard.receive.wire.pdus import ControlPdu, Fragment, PduParser
from pacs_guard.simulate.writer import WRITABLE
from pacs_guard.simulate.writer import write_series as write_dicom

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pacs_guard.domain.instance import StoredInstance

CT = "1.2.840.10008.5.1.4.1.1.2"
_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
_MOST_PIECES = 8


@dataclass(frozen=True)
class Target:
    """Something that takes bytes from outside.

    Attributes
    ----------
    name : str
    seeds : callable
        Returns inputs that are nearly right, to begin with.
    check : callable
        Raises if any promise is broken by its input.
    """

    name: str
    seeds: Callable[[], list[bytes]]
    check: Callable[[bytes], None]


# the wire


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHL", 0, number, len(value)) + value


def _pdu(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(content)) + content


def _pdv(context: int, control: int, content: bytes) -> bytes:
    return struct.pack(">LBB", len(content) + 2, context, control) + content


def _store_command() -> bytes:
    return b"".join(
        (
            _element(0x0000, struct.pack("<L", 90)),
            _element(0x0002, CT.encode() + b"\0"),
            _element(0x0100, struct.pack("<H", 1)),
            _element(0x0110, struct.pack("<H", 1)),
            _element(0x0700, struct.pack("<H", 0)),
            _element(0x0800, struct.pack("<H", 1)),
            _element(0x1000, b"1.2.3.4.5\0"),
        )
    )


def wire_seeds() -> list[bytes]:
    """Streams of PDUs; the first byte says how they are cut."""
    store = [_pdu(4, _pdv(1, 3, _store_command())), _pdu(4, _pdv(1, 0, b"data") + _pdv(1, 2, b"set"))]
    return [b"\x03" + b"".join(store), b"\x00" + store[0] + store[1] * 2, b"\x01" + _pdu(5, bytes(4)), b"\x05"]


class _Sink:
    """Takes data sets as an open association does, in memory."""

    def begin(self, *, sop_class_uid: str, sop_uid: str, transfer_syntax_uid: str) -> io.BytesIO:
        assert sop_class_uid
        assert sop_uid.isascii()
        assert transfer_syntax_uid
        return io.BytesIO()

    def finish(self, reception: io.BytesIO) -> object:  # the interface
        return _Sink

    status, comment = 0xA900, "refused"


class _Library:
    message = None

    def receive_primitive(self, primitive: object) -> None:
        assert primitive is not None


@dataclass(frozen=True)
class _Context:
    abstract_syntax: str = CT
    transfer_syntax: tuple[str, ...] = (_SYNTAXES[0],)


def _through_the_wire(content: bytes, cuts: Iterator[int]) -> list[object]:
    """Return what happens to a stream that comes in pieces; a protocol error is the last of it."""
    sent: list[object] = []
    parser = PduParser(max_length=1 << 16)
    messages = MessageStream({1: _Context(), 3: _Context()}, _Sink(), _Library(), sent.append)
    at = 0
    try:
        while at < len(content):
            size = next(cuts)
            for event in parser.feed(content[at : at + size]):
                if isinstance(event, Fragment):
                    messages.take(event)
                elif isinstance(event, ControlPdu):
                    sent.append(event)
            at += size
    except ProtocolError as error:
        sent.append(str(error))
    return sent


def check_wire(data: bytes) -> None:
    """However the bytes are cut, the same comes out, and nothing but a protocol error."""
    content = data[1:]
    whole = _through_the_wire(content, itertools.repeat(max(1, len(content))))
    pieces = _through_the_wire(content, itertools.cycle((1, 1 + data[0] % 32 if data else 1)))
    # a fragment that comes in pieces may complete the limit of a command set earlier, never another outcome
    assert whole == pieces, f"{whole} in one piece, {pieces} in several"
    request = read_store_command(content)
    if request is not None:
        assert store_response(1, request, 0, "x" * 64)


# the data set as it is received


@cache
def _files() -> list[tuple[str, bytes]]:
    """Transfer syntax and Part 10 file of a small CT slice in each."""
    rng = np.random.default_rng(0)
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for number, syntax in enumerate(WRITABLE):
            volume = Volume(
                hu=rng.integers(-1000, 1000, (1, 32, 32)).astype(np.int16),
                padding=None,
                spacing_mm=(2.0, 0.7, 0.7),
                orientation=(1, 0, 0, 0, 1, 0),
                positions_mm=np.zeros((1, 3)),
                sop_uids=(f"1.2.3.4.{number}",),
                study_uid="1.2.3",
                series_uid="1.2.3.1",
            )
            [path] = write_dicom(volume, Path(folder) / str(number), transfer_syntax_uid=syntax)
            made.append((str(syntax), path.read_bytes()))
    return made


@cache
def _offsets() -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number:02}.dcm" for number in range(len(_files()))]
        for path, (_, content) in zip(paths, _files(), strict=True):
            path.write_bytes(content)
        found, _ = find_instances(paths)
        return [instance.offset for instance in found]


def data_set_seeds() -> list[bytes]:
    """Data sets; the first byte says in which transfer syntax."""
    known = {syntax: number for number, syntax in enumerate(_SYNTAXES)}
    return [
        bytes([known.get(syntax, 0)]) + content[offset:]
        for (syntax, content), offset in zip(_files(), _offsets(), strict=True)
    ]


class _InMemory(io.BytesIO):
    def skip(self, count: int) -> None:
        self.seek(count, io.SEEK_CUR)


def check_structure(data: bytes) -> None:
    """A data set has usable UIDs, or it is refused."""
    if not data:
        return
    syntax, content = _SYNTAXES[data[0] % len(_SYNTAXES)], data[1:]
    refusal = None
    try:
        found = identify(_InMemory(content), len(content), syntax)
    except DataSetError as error:
        refusal = error
    if refusal is not None:
        assert refusal.status in {0xA900, 0xC000}
        assert str(refusal).isprintable()
        return
    for uid in (found.sop_class_uid, found.sop_uid, found.study_uid, found.series_uid):
        assert 0 < len(uid) <= 64
        assert uid.isascii()
        assert uid.isprintable()


# the data set as it is read


def reader_seeds() -> list[bytes]:
    """Part 10 files whose pixels no codec in C decodes: one that crashes would end the fuzzer, not the node."""
    return [content for syntax, content in _files() if syntax in {*_SYNTAXES, RLELossless}]


def confined_seeds() -> list[bytes]:
    """Part 10 files in every transfer syntax that the simulation writes."""
    return [content for _, content in _files()]


@cache
def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))


def _stored(content: bytes, number: int = 0) -> StoredInstance:
    from pacs_guard.domain.identifiers import InstanceKey  # noqa: PLC0415
    from pacs_guard.domain.instance import StoredInstance  # noqa: PLC0415

    path = _scratch() / f"{number}.dcm"
    path.write_bytes(content)
    key = InstanceKey("1.2.3", "1.2.3.1", f"1.2.3.4.{number}", f"{number:064}")
    return StoredInstance(0, key, CT, _SYNTAXES[0], path.name, 0, len(content))


def check_reader(data: bytes) -> None:
    """An instance has slices or a refusal, in text that can be shown."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = read_instance(_stored(data), _scratch())
    assert bool(found.planes) != bool(found.refusal)
    assert (found.refusal or "").isprintable()
    assert found.facts.modality.isprintable()
    assert found.facts.sop_class_uid.isprintable()
    for plane in found.planes:
        assert plane.hu.dtype == np.int16
        assert plane.hu.ndim == 2


_SPLIT = b"\xff|\xff"


def join(pieces: list[bytes]) -> bytes:
    """Put Part 10 files together to one input of the assembler."""
    return _SPLIT.join(pieces)


def assembler_seeds() -> list[bytes]:
    """Several Part 10 files of one series, one after the other."""
    explicit = [content for syntax, content in _files() if syntax in _SYNTAXES[:2]]
    moved = [explicit[0].replace(b"0.0\\0.0\\0.0", b"0.0\\0.0\\2.0"), explicit[0].replace(b"1.2.3.4.0", b"1.2.3.4.9")]
    return [join(group) for group in ([explicit[0], *moved], explicit, [explicit[0]] * 2)]


def check_assembler(data: bytes) -> None:
    """A series has a volume or a refusal, all of its instances are there, and it survives the way between processes."""
    pieces = data.split(_SPLIT)[:_MOST_PIECES]
    instances = [_stored(piece, number) for number, piece in enumerate(pieces)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for split_gaps in (False, True):
            found = list(assemble_series(instances, _scratch(), split_gaps=split_gaps))
            for series in found:
                assert (series.volume is None) == bool(series.refusal)
                assert (series.refusal or "").isprintable()
                if series.volume is not None:
                    assert np.isfinite(series.volume.positions_mm).all()
                    assert len(series.volume.hu) == len(series.volume.sop_uids)
                file = io.BytesIO()
                write_series(file, series)
                file.seek(0)
                again = read_series(file, read_message(file, most=1 << 20), most_bytes=1 << 26)
                assert again.instances == series.instances
            if not split_gaps:
                assert [len(series.instances) for series in found] == [len(instances)]


@cache
def _confined() -> tuple[ConfinedAssembly, StoredInstance]:
    good = dataclasses.replace(_stored(_files()[0][1], 99))
    return ConfinedAssembly(_scratch(), Limits(1 << 30, 5.0)), good


def check_confined(data: bytes) -> None:
    """Whatever an instance does to its reader, codecs in C included, it is refused and the next one is read."""
    assembly, good = _confined()
    [found] = assembly([_stored(data)])
    assert (found.volume is None) == bool(found.refusal)
    assert (found.refusal or "").isprintable()
    [again] = assembly([good])
    assert again.volume is not None, again.refusal


# what the reading process answers


def transfer_seeds() -> list[bytes]:
    """Answers of a series."""
    seeds = []
    for data in assembler_seeds():
        pieces = data.split(_SPLIT)
        [series] = assemble_series([_stored(piece, number) for number, piece in enumerate(pieces)], _scratch())
        file = io.BytesIO()
        write_series(file, series)
        seeds.append(file.getvalue())
    return seeds


def check_transfer(data: bytes) -> None:
    """An answer is a series of bounded size, or it is refused."""
    file = io.BytesIO(data)
    try:
        series = read_series(file, read_message(file, most=1 << 16), most_bytes=1 << 20)
    except ConfinementError:
        return
    assert series.volume is None or series.volume.hu.nbytes <= 1 << 20


TARGETS = {
    target.name: target
    for target in (
        Target("wire", wire_seeds, check_wire),
        Target("structure", data_set_seeds, check_structure),
        Target("reader", reader_seeds, check_reader),
        Target("assembler", assembler_seeds, check_assembler),
        Target("confined", confined_seeds, check_confined),
        Target("transfer", transfer_seeds, check_transfer),
    )
}
