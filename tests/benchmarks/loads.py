"""What the benchmarks send: instances that share everything but their UIDs, so that making them costs nothing."""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from tests.integration.samples import make_data_set

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_UID_LENGTH = 44
_counter = itertools.count()


def new_uid() -> str:
    """A UID that always has the same length, so that it can take another's place."""
    return (
        f"2.25.{uuid.uuid4().int % 10**33:033d}".replace("2.25.0", "2.25.1") + f".{next(_counter) % 10**4 + 10000:05d}"
    )


@dataclass(frozen=True)
class Load:
    """Encoded instances of one kind.

    Attributes
    ----------
    name : str
        As the table says.
    sop_class_uid : str
    instances : int
        How many are sent by default.
    head : bytes
        The data set up to its pixels, with placeholders for UIDs.
    tail : bytes
        The rest, the same in every instance.
    """

    name: str
    sop_class_uid: str
    instances: int
    head: bytes
    tail: bytes = field(repr=False)
    sop_uid: str = ""
    study_uid: str = ""
    series_uid: str = ""

    @property
    def length(self) -> int:
        return len(self.head) + len(self.tail)

    def heads(self, count: int) -> Iterator[tuple[str, bytes]]:
        """(SOP Instance UID, head) of each instance of a new study."""
        study, series = new_uid(), new_uid()
        base = self.head.replace(self.study_uid.encode(), study.encode()).replace(
            self.series_uid.encode(), series.encode()
        )
        for _ in range(count):
            sop = new_uid()
            yield sop, base.replace(self.sop_uid.encode(), sop.encode())

    def write_files(self, folder: Path, count: int) -> list[Path]:
        """Write a new study as Part 10 files."""
        folder.mkdir(parents=True)
        files = []
        for number, (sop, head) in enumerate(self.heads(count)):
            file = folder / f"{number:06d}.dcm"
            file.write_bytes(self.preamble(sop) + head + self.tail)
            files.append(file)
        return files

    def preamble(self, sop: str) -> bytes:
        """Part 10 preamble and file meta information of one instance."""

        def element(number: int, vr: str, value: bytes) -> bytes:
            value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
            return b"\x02\0" + number.to_bytes(2, "little") + vr.encode() + len(value).to_bytes(2, "little") + value

        meta = (
            b"\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01"
            + element(0x02, "UI", self.sop_class_uid.encode())
            + element(0x03, "UI", sop.encode())
            + element(0x10, "UI", ExplicitVRLittleEndian.encode())
            + element(0x12, "UI", b"1.2.3.4")
        )
        return bytes(128) + b"DICM\x02\0\0\0UL\x04\0" + len(meta).to_bytes(4, "little") + meta

    def sha256(self, head: bytes) -> str:
        return hashlib.sha256(head + self.tail).hexdigest()


def _load(name: str, instances: int, *, rows: int, frames: int = 1) -> Load:
    uids = [new_uid() for _ in range(3)]
    sop, study, series = uids
    data_set = make_data_set(study, series, 1, rows=rows)
    data_set.SOPInstanceUID = sop
    if frames > 1:
        data_set.SOPClassUID = EnhancedCTImageStorage
        data_set.NumberOfFrames = frames
        data_set.PixelData = np.resize(np.frombuffer(data_set.PixelData, np.uint16), rows * rows * frames).tobytes()
    buffer = io.BytesIO()
    data_set.save_as(buffer, implicit_vr=False, little_endian=True)
    encoded = buffer.getvalue()
    pixels = encoded.index(b"\xe0\x7f\x10\x00OW") + 12
    assert all(len(uid) == _UID_LENGTH and encoded[:pixels].count(uid.encode()) == 1 for uid in uids)
    sop_class = EnhancedCTImageStorage if frames > 1 else CTImageStorage
    return Load(name, str(sop_class), instances, encoded[:pixels], encoded[pixels:], sop, study, series)


@functools.cache
def small() -> Load:
    """Return instances that are next to nothing but their attributes."""
    return _load("small instances, 64 x 64", 2000, rows=64)


@functools.cache
def loads() -> dict[str, Load]:
    """Every kind of load by its short name."""
    return {
        "ct": _load("CT slices, 512 x 512", 300, rows=512),
        "small": small(),
        "multiframe": _load("one object of 400 frames, 512 x 512", 1, rows=512, frames=400),
    }
