"""A receiving PACS for the demonstration: DCMTK's storescp where it is installed, else a small one of our own."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pacs_guard.errors import SupervisionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AE_TITLE = "DEMOPACS"
_START_SECONDS = 20.0


@contextmanager
def demo_pacs(folder: Path, port: int) -> Iterator[str]:
    """Run a PACS that writes what it receives, bit for bit, into `folder`; yields its name."""
    folder.mkdir(parents=True, exist_ok=True)
    program = _dcmtk_storescp()
    if program is not None:
        command = [program, "+B", "-aet", AE_TITLE, "-od", str(folder), str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_port(port)
            yield "DCMTK storescp"
        finally:
            process.terminate()
            process.wait()
        return
    server = _own_pacs(folder, port)
    try:
        yield "pynetdicom storage SCP"
    finally:
        server.shutdown()


def _dcmtk_storescp() -> str | None:
    """Find DCMTK's program; pynetdicom installs one of the same name that does not keep bytes as they came."""
    for folder in os.get_exec_path():
        program = shutil.which("storescp", path=folder)
        if program is not None:
            answer = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
            if "dcmtk" in answer.stdout:
                return program
    return None


def _own_pacs(folder: Path, port: int) -> Any:
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt

    def store(event: Any) -> int:
        name = hashlib.sha256(str(event.request.AffectedSOPInstanceUID).encode()).hexdigest()[:24]
        (folder / f"{name}.dcm").write_bytes(event.encoded_dataset())
        return 0x0000

    entity = AE(ae_title=AE_TITLE)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)  # type: ignore[arg-type]
    return entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])


def received_hashes(folder: Path) -> set[str]:
    """Return the SHA-256 of the data set of every DICOM file in `folder`."""
    return {data_set_hash(file) for file in folder.iterdir() if file.is_file()}


def data_set_hash(path: Path) -> str:
    """Return the SHA-256 of a Part 10 file's data set as it is encoded."""
    from pydicom.filereader import read_file_meta_info, read_preamble

    with path.open("rb") as file:
        read_preamble(file, force=False)
        meta = read_file_meta_info(path)
        # preamble, prefix, the group length element, and the group
        file.seek(132 + 12 + int(meta.FileMetaInformationGroupLength))
        return hashlib.sha256(file.read()).hexdigest()


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until something listens on a local port.

    Raises
    ------
    SupervisionError
        If nothing does in time, or `process` ended.
    """
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process is not None and process.poll() is not None:
            raise SupervisionError(f"the process ended with code {process.returncode} before it listened on {port}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SupervisionError(f"nothing listens on port {port} after {_START_SECONDS:g} s")
