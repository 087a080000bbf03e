"""``pacs-guard self-test``: a clean and an altered study through the whole node, to a destination of the test's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import typer

from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.output import print_json
from pacs_guard.cli.wiring import CLOCK, open_stores
from pacs_guard.domain.lifecycle import StudyState
from pacs_guard.domain.selftest import DESTINATION_AE_TITLE
from pacs_guard.errors import ConfigurationError, PacsGuardError, SupervisionError
from pacs_guard.ops.roles import holder, role_lock
from pacs_guard.ops.selftest import SelfTestOutcome, last_outcome, write_outcome
from pacs_guard.queue.selftest import SelfTests

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from pacs_guard.cli.wiring import Stores
    from pacs_guard.config import Settings
    from pacs_guard.domain.volume import Volume
    from pacs_guard.queue.rows import StudySummary

_LOOK_SECONDS = 0.5
_SCHEDULE_SECONDS = 60.0
_NICE = 15
_LOCK = "self-test"
_SETTLED = {StudyState.DELIVERED, StudyState.HELD, StudyState.FAILED, StudyState.REJECTED}
_LOG = structlog.get_logger(__name__)


class SelfTestError(PacsGuardError):
    """The node did not do what it is there for; the text says what."""


@dataclass(frozen=True)
class _Sent:
    """A study on its way: its UID, and the hash of each data set by SOP Instance UID."""

    study_uid: str
    hashes: Mapping[str, str]


def run_self_test(config: Path | None, *, json: bool) -> int:
    """Run the test, keep and print what came of it.

    Returns
    -------
    int
        0 if the node did what it is there for, else 1.
    """
    settings = settings_from(config)
    if not settings.self_test.enabled:
        raise ConfigurationError(["self_test.enabled is false; expected true, and the node restarted or reloaded"])
    os.nice(_NICE)  # what is done for patients comes first
    run_dir = settings.node.data_dir / "run"
    began = CLOCK()
    with role_lock(run_dir, _LOCK, wait_seconds=1.0):
        try:
            ok, reason = True, _test(settings)
        except PacsGuardError as error:
            ok, reason = False, str(error)
        outcome = SelfTestOutcome(ok, reason, CLOCK(), round(CLOCK() - began, 3))
        write_outcome(run_dir, outcome)
    if json:
        print_json(outcome)
    else:
        typer.echo(f"self-test {'succeeded' if ok else 'FAILED'} after {outcome.seconds:.0f} s: {reason}")
    return 0 if ok else 1


def _test(settings: Settings) -> str:
    stores = open_stores(settings)
    tests = SelfTests(stores.database, CLOCK)
    folder = Path(tempfile.mkdtemp(prefix="pacs-guard-self-test-"))
    try:
        _remove(stores, tests, "left by a self-test that was interrupted")
        with _destination(settings) as received:
            clean, altered = (_send(settings, volume, folder / name) for name, volume in _volumes(settings))
            found = _wait(stores, settings, [clean.study_uid, altered.study_uid])
            _check_clean(found[clean.study_uid], clean, received)
            _check_altered(found[altered.study_uid], altered, received)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _remove(stores, tests, "removed after the self-test")
        stores.database.close()
    return f"{len(clean.hashes)} clean instances came out byte-identical, {len(altered.hashes)} altered ones were held"


def _volumes(settings: Settings) -> Iterator[tuple[str, Volume]]:
    """Yield a clean and an altered series; what was done to it is what the configured detectors look for."""
    from pacs_guard.simulate import make_phantom, remove_nodule, suggest_site

    test = settings.self_test
    yield "clean", make_phantom(slices=test.slices, size=test.size, seed=3)
    original = make_phantom(slices=test.slices, size=test.size, seed=4)
    if set(settings.detect.detectors) == {"integrity"}:
        pixels = original.hu.copy()
        pixels[1] = pixels[-1]  # a slice in another one's place
        yield "altered", replace(original, hu=pixels)
    else:
        yield "altered", remove_nodule(original, suggest_site(original, "FB"), seed=4, noise="gaussian")


@contextmanager
def _destination(settings: Settings) -> Iterator[dict[str, str]]:
    """Receive what the node delivers; yields the hash of each data set by SOP Instance UID."""
    from pydicom.uid import CTImageStorage
    from pynetdicom import AE, evt

    received: dict[str, str] = {}

    def store(event: Any) -> int:
        received[str(event.request.AffectedSOPInstanceUID)] = hashlib.sha256(event.encoded_dataset(False)).hexdigest()
        return 0x0000

    test, entity = settings.self_test, AE(DESTINATION_AE_TITLE)
    entity.add_supported_context(CTImageStorage)
    address = (test.listen_host, test.port)
    try:
        server = entity.start_server(address, block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    except OSError as error:
        raise SelfTestError(f"the test's destination cannot listen on {address}: {error.strerror}") from error
    assert server is not None  # noqa: S101  # it does not block
    try:
        yield received
    finally:
        server.shutdown()


def _send(settings: Settings, volume: Volume, folder: Path) -> _Sent:
    from pydicom import dcmread
    from pynetdicom import AE

    from pacs_guard.cli.demo_pacs import data_set_hash
    from pacs_guard.simulate import write_series

    paths = write_series(volume, folder, description="self-test", derivation="a test of PACS Guard, no patient")
    entity = AE(settings.self_test.ae_title)
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    association = entity.associate(settings.self_test.host, settings.receive.port, ae_title=settings.node.ae_title)
    if not association.is_established:
        raise SelfTestError("the node took no association of the test")
    try:
        for path in paths:
            status = association.send_c_store(path)
            if "Status" not in status or status.Status != 0x0000:
                raise SelfTestError(f"the node answered {status.get('Status', 'nothing')} to an instance of the test")
    finally:
        association.release()
    headers = [dcmread(path, specific_tags=["StudyInstanceUID", "SOPInstanceUID"]) for path in paths]
    hashes = {str(header.SOPInstanceUID): data_set_hash(path) for header, path in zip(headers, paths, strict=True)}
    return _Sent(str(headers[0].StudyInstanceUID), hashes)


def _wait(stores: Stores, settings: Settings, study_uids: list[str]) -> dict[str, StudySummary]:
    deadline = time.monotonic() + settings.self_test.timeout_seconds
    while True:
        found = {one.study_uid: one for one in stores.review.list_studies(limit=1000) if one.study_uid in study_uids}
        if len(found) == len(study_uids) and all(one.state in _SETTLED for one in found.values()):
            return found
        if time.monotonic() > deadline:
            states = ", ".join(str(found[uid].state) if uid in found else "unknown" for uid in study_uids)
            limit = settings.self_test.timeout_seconds
            raise SelfTestError(f"after {limit:g} s the clean and the altered study are: {states}")
        time.sleep(_LOOK_SECONDS)


def _check_clean(study: StudySummary, sent: _Sent, received: Mapping[str, str]) -> None:
    if study.state is not StudyState.DELIVERED:
        raise SelfTestError(f"the clean study is {study.state}: {study.reason or 'no reason is known'}")
    arrived = {uid: received.get(uid) for uid in sent.hashes}
    if arrived != sent.hashes:
        differing = sum(arrived[uid] != digest for uid, digest in sent.hashes.items())
        raise SelfTestError(f"{differing} of {len(arrived)} instances of the clean study did not arrive as they were")
    if study.verdict != "CLEAN":
        raise SelfTestError(f"the clean study was forwarded as {study.verdict}: {study.reason}")


def _check_altered(study: StudySummary, sent: _Sent, received: Mapping[str, str]) -> None:
    if study.state is not StudyState.HELD:
        raise SelfTestError(f"the altered study is {study.state}, judged {study.verdict}: {study.reason}")
    if leaked := sent.hashes.keys() & received.keys():
        raise SelfTestError(f"{len(leaked)} instances of the altered study were forwarded")


def _remove(stores: Stores, tests: SelfTests, reason: str) -> None:
    spool, data_dir = stores.spool(), stores.settings.node.data_dir
    for removed in tests.remove_settled(reason):
        for path in removed.paths:
            spool.remove(path)
        for folder in removed.evidence:
            shutil.rmtree(data_dir / folder, ignore_errors=True)


def self_test_chores(
    settings: Settings, config: Path | None, stop: threading.Event
) -> list[tuple[Callable[[], None], float]]:
    """Return what runs the test when its time has come, in a process of its own: the phantoms take memory."""
    if not settings.self_test.enabled:
        return []
    run_dir = settings.node.data_dir / "run"

    def self_test() -> None:
        last = last_outcome(run_dir)
        if last is not None and CLOCK() - last.at < settings.self_test.every_hours * 3600.0:
            return
        if _is_under_way(run_dir):
            return
        tail = ["--config", str(config)] if config is not None else []
        command = [sys.executable, "-m", "pacs_guard", "self-test", *tail]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            if stop.wait(_LOOK_SECONDS):
                process.terminate()
                process.wait()
                return
        outcome = last_outcome(run_dir)
        if outcome is None or outcome == last:
            if _is_under_way(run_dir):  # somebody began one in between, and the lock was theirs
                return
            raise SupervisionError(f"the self-test ended with {process.returncode} and left no outcome")
        say = _LOG.info if outcome.ok else _LOG.error
        say("self-test", ok=outcome.ok, reason=outcome.reason, seconds=outcome.seconds)

    return [(self_test, _SCHEDULE_SECONDS)]


def _is_under_way(run_dir: Path) -> bool:
    """Whether somebody runs the test by hand; its outcome counts, and when the next one is due is seen from it."""
    process = holder(run_dir, _LOCK)
    if process is not None:
        _LOG.info("scheduled self-test skipped: another one is under way", process=process)
    return process is not None
