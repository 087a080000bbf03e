"""Data sets that claim, unpack to, or nest more than anybody can hold: each is refused, and the next one is read."""

from __future__ import annotations

import dataclasses
import os
import signal
import struct
import threading
import time
import zlib

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from pacs_guard.assemble.confined import ConfinedAssembly
from pacs_guard.assemble.files import find_instances
from pacs_guard.assemble.series import assemble_study
from pacs_guard.confined import Limits
from pacs_guard.domain.identifiers import InstanceKey
from pacs_guard.domain.instance import StoredInstance
from pacs_guard.errors import SpoolError

MEBIBYTE = 1 << 20
ROOMY = Limits(1 << 29, 60.0)


@pytest.fixture(scope="module")
def confined(tmp_path_factory):
    assembly = ConfinedAssembly(tmp_path_factory.getbasetemp(), ROOMY)
    yield assembly
    assembly.close()


@pytest.fixture
def series(tmp_path, image, save):
    folder = save(tmp_path / "good", [image(2.5 * n, number=n, PixelPaddingValue=17) for n in range(4)])
    return find_instances([folder])[0]


def stored(path, *, syntax="1.2.840.10008.1.2.1", sop_uid="1.2.3.4"):
    return StoredInstance(
        0, InstanceKey("1.2.3", "1.2.3.1", sop_uid, "0" * 64), "1.2.840.10008.5.1.4.1.1.2", syntax, str(path), 0, 1
    )


def one(assembly, instances):
    [found] = assembly(instances)
    return found


def assert_equal(one, other):
    for field in dataclasses.fields(one):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if dataclasses.is_dataclass(mine):
            assert_equal(mine, theirs)
        elif isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        else:
            assert mine == theirs, field.name


def test_a_series_is_what_it_is_without_another_process(confined, series, tmp_path):
    assert series[0].path.startswith("/")
    [expected] = assemble_study(series, tmp_path)
    assert expected.volume.padding is not None
    assert_equal(one(confined, series), expected)


def test_series_come_one_by_one_with_their_refusals(confined, tmp_path, image, save):
    sets = [image(0, series="1.2.3.7"), image(0, series="1.2.3.8", RescaleSlope=None), image(9, series="1.2.3.9")]
    instances, _ = find_instances([save(tmp_path / "three", sets)])
    expected = list(assemble_study(instances, tmp_path))
    for mine, theirs in zip(confined(instances), expected, strict=True):
        assert_equal(mine, theirs)


def test_answers_that_nobody_took_are_not_those_of_the_next_series(confined, series, tmp_path, image, save):
    instances, _ = find_instances([save(tmp_path / "two", [image(0, series="1.2.3.7"), image(0, series="1.2.3.8")])])
    next(iter(confined(instances)))
    assert one(confined, series).series_uid == "1.2.3.1"
    split = ConfinedAssembly(tmp_path, ROOMY, split_gaps=True)
    try:
        apart = [dataclasses.replace(one, key=dataclasses.replace(one.key, series_uid="1.2.3.7")) for one in instances]
        next(iter(split(apart)))
        assert one(split, series).series_uid == "1.2.3.1"
    finally:
        split.close()


def test_a_file_that_is_gone_is_the_spools_fault(confined, series, tmp_path):
    with pytest.raises(SpoolError, match="gone from the spool"):
        list(confined([stored(tmp_path / "gone")]))
    assert one(confined, series).volume is not None


def claiming(image, syntax, content):
    ds = image(Rows=65535, Columns=65535)
    ds.PixelData = encapsulate([content])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.file_meta.TransferSyntaxUID = syntax
    return ds


RLE_HEADER = struct.pack("<16L", 2, 64, 66, *([0] * 13)) + b"\x81\x00\x81\x00"
J2K_HEADER = bytes.fromhex("ff4fff510029" + "0000" + "0000ffff0000ffff" + "00" * 8 + "0000ffff0000ffff" + "00" * 8)


@pytest.mark.parametrize(
    ("syntax", "content"),
    [(RLELossless, RLE_HEADER), (JPEG2000Lossless, J2K_HEADER + bytes.fromhex("00010f0101ffd9"))],
    ids=["RLE", "JPEG 2000"],
)
def test_pixels_that_claim_eight_gigabytes_are_a_refusal(confined, series, tmp_path, image, save, syntax, content):
    [path] = save(tmp_path / "bomb", [claiming(image, syntax, content)]).iterdir()
    found = one(confined, [stored(path, syntax=str(syntax))])
    assert found.volume is None
    assert "cannot be decoded" in found.refusal
    assert one(confined, series).volume is not None


def test_a_data_set_that_inflates_to_gigabytes_is_a_refusal(confined, series, tmp_path, image, save):
    [good] = save(tmp_path / "meta", [image()]).iterdir()
    meta = good.read_bytes()
    start = meta.index(b"\x08\x00\x08\x00")  # ImageType, the first element of the data set
    syntax = str(DeflatedExplicitVRLittleEndian).encode()
    meta = meta[:start].replace(b"1.2.840.10008.1.2.1\0", syntax)
    squeeze = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    head = struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 640 * MEBIBYTE)
    packed = [squeeze.compress(head)] + [squeeze.compress(bytes(16 * MEBIBYTE)) for _ in range(40)]
    path = tmp_path / "deflated"
    length = struct.unpack("<L", meta[140:144])[0] + len(syntax) - 20
    path.write_bytes(meta[:140] + struct.pack("<L", length) + meta[144:] + b"".join(packed) + squeeze.flush())
    assert path.stat().st_size < 4 * MEBIBYTE
    found = one(confined, [stored(path, syntax=syntax.decode())])
    assert found.volume is None
    assert "cannot be parsed" in found.refusal
    assert one(confined, series).volume is not None


def nested(depth, *, unknown):
    content = b""
    for _ in range(depth):
        item = struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
        head = struct.pack("<HH2sHL", *((0x7FE1, 0x1001, b"UN") if unknown else (0xFFFA, 0xFFFA, b"SQ")), 0, len(item))
        content = head + item
    return content


@pytest.mark.parametrize("unknown", [False, True])
def test_sequences_nested_without_end_are_a_refusal(confined, series, tmp_path, image, save, unknown):
    [good] = save(tmp_path / "meta", [image()]).iterdir()
    path = tmp_path / "nested"
    path.write_bytes(good.read_bytes() + nested(3000, unknown=unknown))
    found = one(confined, [stored(path)])
    assert "nested more than 64 deep" in (found.refusal or "") or unknown  # what is unknown is left alone
    assert one(confined, series).volume is not None


def test_more_memory_than_allowed_for_the_volume_is_a_refusal(confined, tmp_path, image, save):
    ds = image()
    ds.Rows = ds.Columns = 4096
    ds.PixelData = bytes(2 * 4096 * 4096)
    folder = save(tmp_path / "large", [ds])
    [instance] = find_instances([folder])[0]
    many = [
        dataclasses.replace(instance, key=dataclasses.replace(instance.key, sha256=f"{number:064}"))
        for number in range(12)
    ]
    assert one(confined, many).refusal == f"not judged: reading it takes more than {ROOMY.memory_bytes} bytes of memory"


def test_processor_time_is_limited(tmp_path, series):
    assembly = ConfinedAssembly(tmp_path, Limits(1 << 30, 1.0))
    try:
        path = tmp_path / "long"
        items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) * 4_000_000
        path.write_bytes(struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, len(items)) + items)
        found = one(assembly, [stored(path)])
        assert found.refusal == "not judged: reading failed: it took more than 1 s of processor time"
    finally:
        assembly.close()


@pytest.fixture
def stuck(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return stored(tmp_path / "pipe")  # opening it waits for a writer that never comes


def test_time_on_the_clock_is_limited(tmp_path, stuck):
    assembly = ConfinedAssembly(tmp_path, Limits(1 << 30, 0.15))
    try:
        assert one(assembly, [stuck]).refusal == "not judged: reading failed: it took more than 1.5 s"
    finally:
        assembly.close()


def test_a_reader_that_crashes_refuses_its_series_and_the_next_is_read(confined, stuck, series):
    assert one(confined, series).volume is not None
    crash = threading.Timer(0.3, lambda: os.kill(confined._process._process.pid, signal.SIGSEGV))
    crash.start()
    found = one(confined, [stuck])
    assert "SIGSEGV" in found.refusal
    assert found.instances[0].content_sha256 == stuck.key.sha256
    assert one(confined, series).volume is not None


def test_the_reader_goes_with_its_node(confined, series):
    one(confined, series)
    process = confined._process._process
    confined.close()
    assert process.returncode == -signal.SIGKILL
    one(confined, series)
    confined._process._process.stdin.close()  # as when the worker dies
    deadline = time.monotonic() + 10
    while confined._process._process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert confined._process._process.returncode == 0
