"""``serve`` and ``run``: the node's processes."""

from __future__ import annotations

import gc
import os
import shutil
import socket
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Protocol

import structlog

from pacs_guard.cli.auditing import AuditTrail, note_reload, note_stop
from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.report import report_chores
from pacs_guard.cli.results import ResultsRoom
from pacs_guard.cli.selftest import self_test_chores
from pacs_guard.cli.wiring import CLOCK, default_policy, open_stores, owner, owner_prefix, prepare_folder
from pacs_guard.domain.audit import AuditEvent
from pacs_guard.errors import BundleError, DeliveryError, SupervisionError
from pacs_guard.ops.logs import configure_logging, set_level
from pacs_guard.ops.reload import Reloader, on_hangup, outcomes
from pacs_guard.ops.roles import ROLES, Heartbeat, heartbeat_ages, process_name, role_lock, stop_event
from pacs_guard.ops.schedule import Chores, start_schedule, unproved_removable
from pacs_guard.ops.supervisor import Supervisor, role_commands

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pacs_guard.cli.wiring import Stores
    from pacs_guard.config import Settings
    from pacs_guard.detect.models import ModelsInForce
    from pacs_guard.domain.drift import Drift
    from pacs_guard.domain.models import LoadedModel
    from pacs_guard.ops.http import Check, Protection
    from pacs_guard.ops.metrics import RoleMetrics

_LOG = structlog.get_logger(__name__)
_DRAIN_SECONDS = 20.0
_LATE_SECONDS = 60.0
_LOOK_SECONDS = 2.0
_RETRAINING_SECONDS = 3600.0
_PRUNE_SECONDS = 3600.0
_GIVE_BACK_SECONDS = 60.0
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class _Room(Protocol):
    """What runs in threads of a role."""

    def start(self) -> None: ...

    def stop(self, timeout: float) -> bool: ...

    @property
    def is_alive(self) -> bool: ...


def serve_node(config: Path | None) -> None:
    """Run every role until told to stop."""
    settings = settings_from(config)
    configure_logging(form=settings.ops.log_format, level=settings.ops.log_level, role="serve")
    stop = stop_event(supervised=False)
    prepare_folder(settings.node.data_dir)
    _check_models(settings)
    _check_certificates(settings)
    with role_lock(_run_dir(settings), "serve", wait_seconds=5.0):
        stores = open_stores(settings)
        # no role runs yet, so every file without a row was left by a crash
        with ExitStack() as receivers:
            for name in _receivers(settings):
                receivers.enter_context(role_lock(_run_dir(settings), name))
            _chores(stores).reconcile(grace_seconds=0.0)
        stores.database.close()
        shutil.rmtree(settings.metrics_dir, ignore_errors=True)
        _LOG.info("node starts", ae_title=settings.node.ae_title, port=settings.receive.port)
        supervisor = Supervisor(role_commands(ROLES, config, receivers=settings.receive.processes))
        on_hangup(supervisor.request_reload)
        supervisor.run(stop)
        _LOG.info("node stopped")


def _receivers(settings: Settings) -> list[str]:
    return [process_name("receive", number) for number in range(1, settings.receive.processes + 1)]


def run_role(role: str, config: Path | None, *, supervised: bool, process: int = 1) -> None:
    """Run one role until told to stop; of ``receive`` several processes may run, each with its number."""
    settings = settings_from(config)
    configure_logging(form=settings.ops.log_format, level=settings.ops.log_level, role=role)
    stop = stop_event(supervised=supervised)
    run_dir = _run_dir(settings)
    name = process_name(role, process)
    reloader = Reloader(role, settings, load=lambda: settings_from(config), folder=run_dir, clock=CLOCK, process=name)
    on_hangup(reloader.request)
    with role_lock(run_dir, name):
        metrics = _metrics(settings, role)
        stores = open_stores(settings)
        heartbeat = Heartbeat(run_dir, name)
        heartbeat.start()
        stores.auditing.note(AuditEvent.STARTED, role=role)
        reloader.tell = note_reload(stores, role)
        try:
            own = {"receive": partial(_run_receive, name=name), "ops": partial(_run_ops, config=config)}
            runner = own.get(role) or _RUNNERS[role]
            runner(stores, metrics, stop, reloader)
        finally:
            reloader.stop()
            heartbeat.stop()
            note_stop(stores, role)
            stores.database.close()


def _live(apply: Callable[[Settings], None]) -> Callable[[Settings], None]:
    def apply_all(settings: Settings) -> None:
        apply(settings)
        set_level(settings.ops.log_level)

    return apply_all


def _check_certificates(settings: Settings) -> None:
    from pacs_guard.tls.inventory import check_certificates, warnings

    check_certificates(settings)
    for warning in warnings(settings, CLOCK()):
        _LOG.warning("certificate", problem=warning)


def _check_models(settings: Settings) -> None:
    """Stop before anything is received if a detector cannot be loaded: whoever starts the node is there to see it."""
    from pacs_guard.cli.model import detector_versions

    try:
        detector_versions(settings.detect.detectors)
    except BundleError as error:
        raise SupervisionError(f"detect.detectors: {error}") from error


def _model_versions(stores: Stores) -> list[LoadedModel]:
    """Return what the workers judge by; before one was heard of, what the settings name."""
    from pacs_guard.cli.model import detector_versions
    from pacs_guard.domain.models import LoadedModel

    heard = [model for _, model in stores.models.loaded()]
    if heard:
        return heard
    versions: dict[str, str] = {}
    for name in stores.settings.detect.detectors:
        try:
            versions |= detector_versions([name])
        except BundleError:
            versions[name] = "unavailable"
    return [LoadedModel(name, version, None) for name, version in versions.items()]


def _prune_drift(stores: Stores) -> Callable[[], None]:
    def prune_drift() -> None:
        stores.drift.prune(stores.settings.detect.drift_days)

    return prune_drift


def _drift(stores: Stores) -> list[Drift]:
    models = {(one.name, one.version) for one in _model_versions(stores)}
    return stores.drift.drift(models, stores.settings.detect.drift_days)


def _models_in_force(stores: Stores) -> ModelsInForce:
    """Load the detectors, and have every later change of them written down."""
    from pacs_guard.detect.models import ModelsInForce
    from pacs_guard.detect.observe import calibrated_scores

    told: dict[str, str] = {}

    def report(loaded: Iterable[LoadedModel]) -> None:
        named = list(loaded)
        stores.models.report(owner_prefix("detect"), named)
        versions = {one.name: one.version for one in named}
        if told != versions:  # whoever switches is audited; this says when a worker took it
            stores.auditing.note(AuditEvent.MODELS, role="detect", models=versions)
            told.clear()
            told.update(versions)
            for bundle in models.bundles:
                if (scores := calibrated_scores(bundle)) is not None:
                    stores.drift.calibrate(bundle.name, bundle.version, scores)

    settings = stores.settings
    models = ModelsInForce(settings.detect.detectors, settings.models_dir, stores.models.in_force, report)
    models.refresh()
    return models


def _run_dir(settings: Settings) -> Path:
    return settings.node.data_dir / "run"


def _metrics(settings: Settings, role: str) -> RoleMetrics:
    prepare_folder(settings.metrics_dir)
    # the library reads this once, when it is first imported
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(settings.metrics_dir)
    from pacs_guard.ops.metrics import RoleMetrics, role_registry

    return RoleMetrics(role_registry(settings.metrics_dir, role))


def _run_receive(stores: Stores, metrics: RoleMetrics, stop: threading.Event, reloader: Reloader, name: str) -> None:
    from pacs_guard.queue.intake import Intake
    from pacs_guard.receive.commitment import CommitmentService
    from pacs_guard.receive.receiver import Receiver

    intake = Intake(stores.database, CLOCK, f"{socket.gethostname()}:{name}")
    commitment = CommitmentService(stores.settings, stores.requests, stores.proving)
    receiver = Receiver(stores.settings, stores.spool(), intake, metrics, commitment=commitment)
    receiver.start()
    _set_aside()  # the DICOM library collects garbage itself, every few seconds
    reloader.start(_live(receiver.reconfigure))
    stop.wait()
    receiver.stop(_DRAIN_SECONDS)


def _set_aside() -> None:
    """Have garbage collection pass over what is there by now and stays: looking through it holds up every thread."""
    gc.collect()
    gc.freeze()


def _stand_back(nice: int, scheduling: str) -> None:
    """Let other processes go first; threads and processes that this one starts later do the same."""
    os.nice(nice)
    policy = getattr(os, f"SCHED_{scheduling.upper()}", None)  # Linux; there is no SCHED_NORMAL
    if policy is None:
        return
    try:
        os.sched_setscheduler(0, policy, os.sched_param(0))
    except OSError as error:  # a sandbox forbids it: slower receiving is no reason to judge nothing
        _LOG.warning("the detector's scheduling stays as it is", wanted=scheduling, error=str(error))


def _run_detect(stores: Stores, metrics: RoleMetrics, stop: threading.Event, reloader: Reloader) -> None:
    from pacs_guard.assemble.confined import ConfinedAssembly
    from pacs_guard.confined import Limits
    from pacs_guard.detect.device import want
    from pacs_guard.detect.worker import Worker

    settings = stores.settings
    limits = Limits(settings.detect.reader_memory_bytes, settings.detect.reader_seconds)
    _stand_back(settings.detect.nice, settings.detect.scheduling)
    if settings.detect.threads:
        # read once by the numeric libraries, which are not loaded yet
        os.environ |= dict.fromkeys(_THREAD_VARIABLES, str(settings.detect.threads))
    want(settings.detect.accelerator)
    models = _models_in_force(stores)
    # no other worker runs on this machine, so whatever one of them had leased is free
    stores.assessing.release_leases(owner_prefix("detect"))
    stores.late.release_leases(owner_prefix("detect"))
    worker = Worker(
        assessing=stores.assessing,
        assemble=ConfinedAssembly(settings.spool_dir, limits),
        detectors=(),
        models=models,
        policies=settings.policies(),
        default_policy=default_policy(),
        data_dir=settings.node.data_dir,
        metrics=metrics,
        clock=CLOCK,
        owner=owner("detect"),
        lease_seconds=settings.detect.lease_seconds,
        max_attempts=settings.detect.max_attempts,
        late=stores.late,
    )

    def reconfigure(changed: Settings) -> None:
        stores.assessing.reconfigure([destination.name for destination in changed.destinations])
        worker.reconfigure(changed.policies())

    reloader.start(_live(reconfigure))
    worker.run(stop)
    stores.models.report(owner_prefix("detect"), ())


def _run_deliver(stores: Stores, metrics: RoleMetrics, stop: threading.Event, reloader: Reloader) -> None:
    from pacs_guard.deliver.answerer import Answerer
    from pacs_guard.deliver.deliverer import Deliverer
    from pacs_guard.deliver.notify import Notifier
    from pacs_guard.deliver.proofroom import ProofRoom

    deliverer = Deliverer(stores.settings, stores.spool(), stores.forwarding, metrics, CLOCK)
    notifier = Notifier(stores.settings, stores.outbox, metrics)
    results = ResultsRoom(stores, metrics)
    proofs = ProofRoom(stores.settings, stores.proving, metrics, CLOCK)
    answers = Answerer(stores.settings, stores.requests, stores.spool(), metrics, CLOCK)
    rooms: list[_Room] = [deliverer, notifier, results, proofs, answers]
    for room in rooms:
        room.start()
    _set_aside()

    def reconfigure(changed: Settings) -> None:
        deliverer.reconfigure(changed)
        notifier.reconfigure(changed)
        results.reconfigure(changed)
        proofs.reconfigure(changed)
        answers.reconfigure(changed)

    reloader.start(_live(reconfigure))
    while not stop.wait(_LOOK_SECONDS):
        if not all(room.is_alive for room in rooms):
            raise DeliveryError("a thread of this role ended; the role has to start again")
    for room in rooms:
        room.stop(_DRAIN_SECONDS)


def _run_ops(
    stores: Stores, _metrics: RoleMetrics, stop: threading.Event, reloader: Reloader, config: Path | None = None
) -> None:
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    from pacs_guard.cli.retraining import retraining_chore
    from pacs_guard.ops.certificate_metrics import CertificateCollector
    from pacs_guard.ops.drift_metrics import DriftCollector
    from pacs_guard.ops.heap import give_back_memory, share_one_heap
    from pacs_guard.ops.http import WatchServer
    from pacs_guard.ops.metrics import NodeCollector
    from pacs_guard.ops.model_metrics import ModelsCollector
    from pacs_guard.ops.proposals import latest_proposals
    from pacs_guard.ops.selftest import SelfTestCollector
    from pacs_guard.ops.settings_metrics import SettingsCollector
    from pacs_guard.tls.inventory import certificate_files

    share_one_heap()  # chores take turns on the scheduler's threads
    settings = stores.settings
    chores = _chores(stores)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(settings.metrics_dir))  # type: ignore[no-untyped-call]  # the library's
    run_dir = _run_dir(settings)
    registry.register(
        NodeCollector(
            gauges=stores.reports.gauges,
            free_bytes=chores.spool.free_bytes,
            roles=lambda: heartbeat_ages(run_dir, CLOCK()),
        )
    )
    registry.register(DriftCollector(lambda: _drift(stores)))
    proposals = partial(latest_proposals, settings.proposals_dir)
    registry.register(ModelsCollector(lambda: _model_versions(stores), lambda: proposals().values()))
    registry.register(
        SettingsCollector(outcomes=lambda: outcomes(run_dir), min_free_bytes=lambda: chores.min_free_bytes)
    )
    registry.register(SelfTestCollector(run_dir, settings.self_test.every_hours * 3600.0))
    registry.register(CertificateCollector(lambda: certificate_files(reloader.settings)))
    trail = AuditTrail(stores)
    server = WatchServer(
        settings.ops.metrics_host,
        settings.ops.metrics_port,
        registry,
        lambda: _readiness(stores, chores),
        _protection(settings),
        trail.login,
    )
    server.start()
    more = [*trail.chores, *report_chores(stores), *self_test_chores(settings, config, stop)]
    more += [(_prune_drift(stores), _PRUNE_SECONDS), (give_back_memory, _GIVE_BACK_SECONDS)]
    if settings.retraining.enabled:
        more.append((retraining_chore(stores, stop), _RETRAINING_SECONDS))
    scheduler = start_schedule(chores, settings.completeness.sweep_seconds, more)

    def reconfigure(changed: Settings) -> None:
        server.protect(_protection(changed))
        trail.reconfigure(changed)
        chores.reconfigure(changed)

    reloader.start(_live(reconfigure))
    stop.wait()
    scheduler.shutdown(wait=True)
    server.stop()


def _protection(settings: Settings) -> Protection:
    from pacs_guard.ops.http import Protection

    ops = settings.ops
    password = ops.metrics_password.get_secret_value() if ops.metrics_password is not None else None
    return Protection(ops.metrics_user, password, ops.metrics_cert_file, ops.metrics_key_file)


def _chores(stores: Stores) -> Chores:
    from pacs_guard.queue.intake import Intake
    from pacs_guard.receive.recovery import recover

    settings = stores.settings
    return Chores(
        assessing=stores.assessing,
        forwarding=stores.forwarding,
        proving=stores.proving,
        upkeep=stores.upkeep,
        spool=stores.spool(),
        recover=partial(recover, stores.spool(), Intake(stores.database, CLOCK, "recovery"), _LOG),
        rule=settings.completeness.rule(),
        policies=settings.policies(),
        default_policy=default_policy(),
        destinations=stores.destinations,
        unproved_at=unproved_removable(settings),
        retention_seconds=settings.ops.retention_days * 86400.0,
        max_refused_bytes=settings.receive.max_refused_bytes,
        min_free_bytes=settings.receive.min_free_bytes,
        clock=CLOCK,
    )


def _readiness(stores: Stores, chores: Chores) -> list[Check]:
    from pacs_guard.errors import QueueError
    from pacs_guard.ops.http import Check

    settings = stores.settings
    checks = []
    try:
        checks.append(Check("database", ok=True, detail=f"schema {stores.database.revision()}"))
    except QueueError as error:
        checks.append(Check("database", ok=False, detail=str(error)))
    free = chores.spool.free_bytes()
    checks.append(Check("disk", ok=free >= chores.min_free_bytes, detail=f"{free} bytes free"))
    for role, age in sorted(heartbeat_ages(_run_dir(settings), CLOCK()).items()):
        checks.append(Check(role, ok=age < _LATE_SECONDS, detail=f"heard of {age:.0f} s ago"))
    return checks


_RUNNERS = {"detect": _run_detect, "deliver": _run_deliver}
