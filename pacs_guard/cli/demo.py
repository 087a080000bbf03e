"""``pacs-guard demo``: a clean and a tampered synthetic series through a real node to a real PACS."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from pacs_guard.cli.demo_pacs import AE_TITLE, data_set_hash, demo_pacs, free_port, received_hashes, wait_for_port
from pacs_guard.cli.wiring import open_stores
from pacs_guard.config import load_settings
from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.errors import SupervisionError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pacs_guard.cli.wiring import Stores
    from pacs_guard.domain.volume import Volume
    from pacs_guard.queue.rows import StudySummary

_SCANNER = "DEMOCT"
_NODE = "PACSGUARD"
_PATIENCE_SECONDS = 150.0
_SETTLED = {StudyState.DELIVERED, StudyState.HELD, StudyState.FAILED, StudyState.REJECTED}
_CONFIG = """\
[node]
ae_title = "{node}"
data_dir = "{data_dir}"

[receive]
host = "127.0.0.1"
port = {port}
min_free_bytes = 0

[completeness]
quiet_seconds = 2
sweep_seconds = 0.5

[ops]
metrics_port = {metrics_port}
log_format = "console"

[[sources]]
name = "demo-scanner"
ae_titles = ["{scanner}"]
addresses = ["127.0.0.1"]

[[destinations]]
name = "demo-pacs"
ae_title = "{pacs}"
port = {pacs_port}
"""


@dataclass(frozen=True)
class _Series:
    """A synthetic series on its way."""

    name: str
    study_uid: str
    files: list[Path]
    expected: StudyState


def run_demo(*, keep: bool, slices: int, output: Path) -> int:
    """Run the demonstration.

    Parameters
    ----------
    keep : bool
        Whether the node's files stay.
    slices : int
        Of each series.
    output : Path
        Where the evidence picture is put.

    Returns
    -------
    int
        0 if the clean series reached the PACS byte-identical and nothing of the tampered one did, else 1.
    """
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="pacs-guard-demo-"))
    try:
        return _run(console, folder, slices, output)
    except SupervisionError as error:
        log = folder / "node.log"
        console.print(f"the demonstration could not run: {error}", markup=False)
        console.print(log.read_text(errors="replace")[-4000:] if log.exists() else "", markup=False)
        return 1
    finally:
        if keep:
            console.print(f"the node's files are in {folder}", highlight=False)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _run(console: Console, folder: Path, slices: int, output: Path) -> int:
    started = time.monotonic()
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
        series = _make_series(folder, slices, progress)
        pacs_port, port, metrics_port = free_port(), free_port(), free_port()
        config = _write_config(folder, pacs_port, port, metrics_port)
        with demo_pacs(folder / "pacs", pacs_port) as pacs_name, _node(config, folder, port):
            step = progress.add_task(f"sending both series over DICOM associations ({pacs_name} behind the node)")
            for one in series:
                _send(one, port)
            progress.update(step, total=1, completed=1)
            stores = open_stores(load_settings(config))
            step = progress.add_task("waiting for the verdicts")
            settled = _wait(stores, series)
            progress.update(step, total=1, completed=1)
            results = [_result(stores, folder, one, settled[one.study_uid]) for one in series]
            picture = _picture(stores, settled, output)
            stores.database.close()
    _print(console, results, picture, time.monotonic() - started)
    return 0 if all(result.ok for result in results) and picture is not None else 1


@dataclass(frozen=True)
class _Result:
    name: str
    verdict: str
    reason: str
    where: str
    seconds: float
    ok: bool


def _make_series(folder: Path, slices: int, progress: Progress) -> list[_Series]:
    from pacs_guard.simulate.phantom import make_phantom
    from pacs_guard.simulate.sites import suggest_site
    from pacs_guard.simulate.tamper import remove_nodule

    step = progress.add_task("making a clean and a tampered synthetic chest CT")
    clean = make_phantom(slices=slices, seed=3)
    original = make_phantom(slices=slices, seed=4)
    tampered = remove_nodule(original, suggest_site(original, "FB"), seed=4, noise="gaussian")
    series = [
        _write(clean, folder / "clean", "clean", StudyState.DELIVERED),
        _write(tampered, folder / "tampered", "tumour removed", StudyState.HELD),
    ]
    progress.update(step, total=1, completed=1)
    return series


def _write(volume: Volume, folder: Path, name: str, expected: StudyState) -> _Series:
    from pydicom import dcmread

    from pacs_guard.simulate.writer import write_series

    files = write_series(volume, folder, description=name)
    return _Series(name, str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID), files, expected)


def _write_config(folder: Path, pacs_port: int, port: int, metrics_port: int) -> Path:
    config = folder / "pacs-guard.toml"
    config.write_text(
        _CONFIG.format(
            node=_NODE,
            data_dir=folder / "data",
            port=port,
            metrics_port=metrics_port,
            scanner=_SCANNER,
            pacs=AE_TITLE,
            pacs_port=pacs_port,
        ),
        encoding="utf-8",
    )
    return config


@contextmanager
def _node(config: Path, folder: Path, port: int) -> Iterator[None]:
    command = [sys.executable, "-m", "pacs_guard", "serve", "--config", str(config)]
    with (folder / "node.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_for_port(port, process)
            yield
        finally:
            process.terminate()
            process.wait()


def _send(series: _Series, port: int) -> None:
    from pydicom import dcmread
    from pynetdicom import AE, evt

    entity = AE(ae_title=_SCANNER)
    first = dcmread(series.files[0], stop_before_pixels=True)
    entity.add_requested_context(first.SOPClassUID, first.file_meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title=_NODE, evt_handlers=[(evt.EVT_CONN_OPEN, _send_at_once)])
    if not association.is_established:
        raise SupervisionError("the node refused the scanner's association")
    for file in series.files:
        status = association.send_c_store(file)
        if "Status" not in status or status.Status != 0x0000:
            raise SupervisionError(f"the node answered {status} to {file.name}")
    association.release()


def _send_at_once(event: Any) -> None:
    # or every instance waits for a delayed acknowledgement
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _wait(stores: Stores, series: list[_Series]) -> dict[str, StudySummary]:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        found = {summary.study_uid: summary for summary in stores.review.list_studies()}
        if all(one.study_uid in found and found[one.study_uid].state in _SETTLED for one in series):
            return found
        if time.monotonic() > deadline:
            states = {uid[-8:]: str(summary.state) for uid, summary in found.items()}
            raise SupervisionError(f"no verdict within {_PATIENCE_SECONDS:g} s; the studies are {states}")
        time.sleep(0.2)


def _result(stores: Stores, folder: Path, series: _Series, summary: StudySummary) -> _Result:
    sent = {data_set_hash(file) for file in series.files}
    arrived = received_hashes(folder / "pacs") & sent
    if summary.state is StudyState.DELIVERED:
        whole = arrived == sent
        where = f"{stores.destinations[0]}, {'byte-identical' if whole else 'NOT ALL IDENTICAL'}"
        ended = summary.finished_at
    else:
        whole = not arrived
        where = f"quarantine, {'nothing forwarded' if whole else 'SOMETHING FORWARDED'}"
        ended = summary.decided_at
    return _Result(
        name=series.name,
        verdict=f"{summary.verdict} {' '.join(summary.kinds)}".strip(),
        reason=summary.reason or "",
        where=where,
        seconds=(ended or summary.created_at) - summary.created_at,
        ok=whole and summary.state is series.expected,
    )


def _picture(stores: Stores, settled: dict[str, StudySummary], output: Path) -> Path | None:
    """Copy the picture of the first held study's strongest finding to where a person will look."""
    for summary in settled.values():
        details = stores.review.details(summary.id)
        if summary.state is not StudyState.HELD or details.assessment is None or not details.assessment["evidence"]:
            continue
        pictures = sorted((stores.settings.node.data_dir / details.assessment["evidence"]).rglob("*.png"))
        if pictures:
            output.mkdir(parents=True, exist_ok=True)
            return Path(shutil.copy(pictures[0], output / "evidence.png"))
    return None


def _print(console: Console, results: list[_Result], picture: Path | None, seconds: float) -> None:
    table = Table("study", "verdict", "where it went", "time", "why")
    for result in results:
        table.add_row(
            ("" if result.ok else "UNEXPECTED: ") + result.name,
            result.verdict,
            result.where,
            f"{result.seconds:.1f} s",
            result.reason,
        )
    console.print(table)
    console.print(f"evidence picture: {picture.resolve() if picture else 'NONE'}", highlight=False, soft_wrap=True)
    console.print(f"the demonstration took {seconds:.0f} s", highlight=False)
