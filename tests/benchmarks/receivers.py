"""The receivers that are compared, each started as its users start it."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.integration import peers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """\
[node]
data_dir = "{folder}/data"
[receive]
host = "127.0.0.1"
port = {port}
min_free_bytes = 0
{extra}
[ops]
log_level = "warning"
[[sources]]
name = "ct-1"
ae_titles = ["CT1"]
[[destinations]]
name = "pacs"
ae_title = "PACS"
port = 1
"""
# DCMTK's dcmrecv accepts nothing without a profile
PROFILE = """\
[[TransferSyntaxes]]
[Uncompressed]
TransferSyntax1 = LittleEndianExplicit
[[PresentationContexts]]
[StorageSCP]
PresentationContext1 = CTImageStorage\\Uncompressed
PresentationContext2 = EnhancedCTImageStorage\\Uncompressed
[[Profiles]]
[Default]
PresentationContexts = StorageSCP
"""


@dataclass(frozen=True)
class Running:
    """A receiver that listens.

    Attributes
    ----------
    port : int
    pid : int
        Root of its process tree.
    ae_title : str
    """

    port: int
    pid: int
    ae_title: str = "PACSGUARD"


@contextmanager
def program(command: list[str], port: int, log: Path) -> Iterator[subprocess.Popen]:
    """Run a program until the block ends, and wait for its port first."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=peers.ENVIRONMENT)
    try:

        def ready() -> bool:
            assert process.poll() is None, f"{command} ended: {log.read_text(errors='replace')[-2000:]}"
            return peers.is_listening(port)

        peers.wait_until(ready, seconds=60, what=f"{command[0]} listening")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def pacs_guard(folder: Path, *, extra: str = "", delay_ms: float = 0.0, processes: int = 1) -> Iterator[Running]:
    """Run PACS Guard's receiver as processes of its own; `extra` are further settings of it.

    Its data folder is `folder`/data, which may be there already.
    Of several processes the first is told as the root: CPU and memory are those of one.
    """
    port = peers.free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "pacs-guard.toml"
    config.write_text(CONFIG.format(folder=folder, port=port, extra=extra))
    launcher = ["-m", "tests.benchmarks.slow_disk", f"{delay_ms:g}"] if delay_ms else ["-m", "pacs_guard"]
    command = [sys.executable, *launcher, "run", "receive", "--config", str(config)]
    with ExitStack() as running:
        first = running.enter_context(program(command, port, folder / "log"))
        for number in range(2, processes + 1):
            running.enter_context(program([*command, "--process", str(number)], port, folder / f"log-{number}"))
        yield Running(port, first.pid)


@contextmanager
def dcmtk(folder: Path, name: str, *options: str) -> Iterator[Running]:
    """Run DCMTK's `storescp` or `dcmrecv`, writing into `folder`."""
    port = peers.free_port()
    (folder / "received").mkdir(parents=True)
    path = peers.dcmtk(name)
    assert path, f"DCMTK's {name} is not installed"
    if name == "dcmrecv":
        (folder / "profile").write_text(PROFILE)
        options = (*options, "-xf", str(folder / "profile"), "Default")
    command = [path, "-q", *options, "-od", str(folder / "received"), str(port)]
    with program(command, port, folder / "log") as process:
        yield Running(port, process.pid, "ANY-SCP")


@contextmanager
def orthanc(folder: Path) -> Iterator[Running]:
    """Run Orthanc as it is shipped."""
    with peers.orthanc(folder) as found:
        pid = subprocess.run(
            ["pgrep", "-f", str(folder / "orthanc.json")], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        yield Running(found.dicom_port, int(pid), found.ae_title)


Start = "Callable[[Path], AbstractContextManager[Running]]"


def receivers(delay_ms: float, *, stock: bool, processes: int) -> dict[str, Start]:
    """Every receiver that is installed, by the name in the table."""
    found: dict[str, Start] = {"PACS Guard": pacs_guard}
    if processes > 1:
        found[f"PACS Guard, {processes} processes"] = lambda folder: pacs_guard(
            folder, extra=f"processes = {processes}", processes=processes
        )
    if stock:
        found["PACS Guard, stock transport"] = lambda folder: pacs_guard(folder, extra='transport = "stock"')
    if delay_ms:
        found[f"PACS Guard, sync + {delay_ms:g} ms"] = lambda folder: pacs_guard(folder, delay_ms=delay_ms)
    if peers.dcmtk("storescp"):
        found["storescp +B"] = lambda folder: dcmtk(folder, "storescp", "+B")
        found["storescp +B --fork"] = lambda folder: dcmtk(folder, "storescp", "+B", "--fork")
    if peers.dcmtk("dcmrecv"):
        found["dcmrecv +B"] = lambda folder: dcmtk(folder, "dcmrecv", "+B")
    if peers.orthanc_program():
        found["Orthanc"] = orthanc
    return found
