"""Real peers for the tests: DCMTK's and Orthanc's programs, found, started and asked."""

from __future__ import annotations

import functools
import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# without it every small PDU waits for the peer's delayed acknowledgement
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
START_SECONDS = 30.0


@functools.cache
def dcmtk(name: str) -> str | None:
    """Path of a DCMTK program; pynetdicom installs programs of the same names, which do not count."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        candidate = Path(folder, name)
        if not os.access(candidate, os.X_OK):
            continue
        answer = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False, timeout=30)
        if "$dcmtk" in answer.stdout:
            return str(candidate)
    return None


def orthanc_program() -> str | None:
    return shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/local/bin")


def needs_dcmtk(test):
    missing = [name for name in ("storescp", "storescu", "dcmsend", "echoscu") if dcmtk(name) is None]
    skip = pytest.mark.skipif(bool(missing), reason=f"DCMTK is not installed: {', '.join(missing)} not found")
    return pytest.mark.peer(skip(test))


def needs_orthanc(test):
    skip = pytest.mark.skipif(orthanc_program() is None, reason="Orthanc is not installed")
    return pytest.mark.peer(skip(test))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, *, seconds: float = 10.0, what: str = "the condition"):
    """Poll until `condition()` is true, and return what it gave."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds} s"
        time.sleep(0.01)
    return result


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=ENVIRONMENT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(process: subprocess.Popen, port: int, log: Path) -> None:
    def ready() -> bool:
        assert process.poll() is None, f"the peer ended with {process.returncode}: {log.read_text(errors='replace')}"
        return is_listening(port)

    wait_until(ready, seconds=START_SECONDS, what=f"a peer listening on port {port}")


@dataclass(frozen=True)
class StoreScp:
    """A running `storescp +B`: what it received lies in `folder`, byte for byte."""

    port: int
    folder: Path
    ae_title: str
    log: Path

    def files(self) -> list[Path]:
        return sorted(file for file in self.folder.iterdir() if file.is_file())

    def data_sets(self) -> list[bytes]:
        return [dataset_bytes(file) for file in self.files()]


@contextmanager
def storescp(
    folder: Path, *, port: int | None = None, ae_title: str = "STORESCP", options: Sequence[str] = ("+xa",)
) -> Iterator[StoreScp]:
    """Run DCMTK's storage SCP, which writes into `folder`; `options` replace the accepted transfer syntaxes."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    command = [dcmtk("storescp"), "-v", "+B", "-od", str(folder), "-aet", ae_title, *options, str(port)]
    with _process(command, log) as process:
        _wait_for_port(process, port, log)
        yield StoreScp(port, folder, ae_title, log)


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc."""

    dicom_port: int
    http_port: int
    ae_title: str
    log: Path

    def get(self, path: str) -> httpx.Response:
        return httpx.get(f"http://127.0.0.1:{self.http_port}{path}", timeout=30).raise_for_status()

    def post(self, path: str, content: bytes) -> httpx.Response:
        return httpx.post(f"http://127.0.0.1:{self.http_port}{path}", content=content, timeout=30).raise_for_status()

    def instances(self) -> list[str]:
        return self.get("/instances").json()

    def file(self, instance: str) -> bytes:
        """Part 10 file of an instance, as Orthanc stored it."""
        return self.get(f"/instances/{instance}/file").content

    def data_sets(self) -> dict[str, bytes]:
        """Data sets' bytes by SOP Instance UID."""
        return {
            self.get(f"/instances/{instance}").json()["MainDicomTags"]["SOPInstanceUID"]: dataset_bytes(
                self.file(instance)
            )
            for instance in self.instances()
        }


@contextmanager
def orthanc(
    folder: Path, *, dicom_port: int | None = None, ae_title: str = "ORTHANC", **settings: object
) -> Iterator[Orthanc]:
    """Run Orthanc with its storage in `folder`; `settings` are added to its configuration."""
    dicom_port, http_port = dicom_port or free_port(), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "Name": "test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [],
        "DicomAet": ae_title,
        "DicomPort": dicom_port,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowEcho": True,
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
        "AcceptedTransferSyntaxes": ["1.2.840.10008.1.*"],
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        **settings,
    }
    file, log = folder / "orthanc.json", folder / "orthanc.log"
    file.write_text(json.dumps(configuration))
    with _process([orthanc_program(), str(file)], log) as process:
        _wait_for_port(process, http_port, log)
        _wait_for_port(process, dicom_port, log)
        yield Orthanc(dicom_port, http_port, ae_title, log)


def _run(name: str, port: int, files: Sequence[Path | str], options: Sequence[str], calling: str, called: str):
    command = [dcmtk(name), *options, "-aet", calling, "-aec", called, "127.0.0.1", str(port), *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT)


def run_storescu(
    port: int,
    files: Sequence[Path | str],
    *,
    calling: str = "STORESCU",
    called: str = "PACSGUARD",
    options: Sequence[str] = ("-v", "-R"),
) -> subprocess.CompletedProcess:
    """Send with DCMTK's `storescu`; with -R and -x… it proposes the files' own syntax and sends them unchanged."""
    return _run("storescu", port, files, options, calling, called)


def run_dcmsend(
    port: int,
    files: Sequence[Path | str],
    *,
    calling: str = "DCMSEND",
    called: str = "PACSGUARD",
    options: Sequence[str] = ("-v", "-dn"),
) -> subprocess.CompletedProcess:
    """Send with DCMTK's `dcmsend`; with -dn compressed instances go as they are or not at all."""
    return _run("dcmsend", port, files, options, calling, called)


def run_echoscu(
    port: int, *, calling: str = "ECHOSCU", called: str = "PACSGUARD", options: Sequence[str] = ("-v",)
) -> subprocess.CompletedProcess:
    return _run("echoscu", port, (), options, calling, called)


def dataset_bytes(file: Path | bytes) -> bytes:
    """Encoded data set of a Part 10 file, without preamble and file meta information (PS3.10 7.1)."""
    content = file if isinstance(file, bytes) else file.read_bytes()
    assert content[128:132] == b"DICM", "no Part 10 file"
    assert content[132:138] == b"\x02\x00\x00\x00UL", "file meta information without its group length"
    return content[144 + int.from_bytes(content[140:144], "little") :]
