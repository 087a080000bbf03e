"""``pacs-guard doctor``: what would keep the node from working."""

from __future__ import annotations

import socket
import time
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from pacs_guard.cli import output
from pacs_guard.cli.configuration import settings_from
from pacs_guard.cli.output import print_json
from pacs_guard.cli.wiring import open_stores
from pacs_guard.domain.selftest import SELF_TEST
from pacs_guard.errors import ConfigurationError, PacsGuardError
from pacs_guard.tls.inventory import WARNING_SECONDS, certificate_files, check_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pacs_guard.config import DestinationSettings, Settings
    from pacs_guard.tls.inventory import CertificateFile


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at.

    Attributes
    ----------
    what : str
    ok : bool
    detail : str
    """

    what: str
    ok: bool
    detail: str


def run_doctor(config: Path | None, *, json: bool) -> int:
    """Look at everything the node needs, and print what was found.

    Returns
    -------
    int
        0 if all is well, else 1.
    """
    settings = settings_from(config)
    found = list(_examine(settings))
    if json:
        print_json([asdict(one) for one in found])
    else:
        table = Table("", "what", "found")
        for one in found:
            table.add_row("ok" if one.ok else Text("NO", "bold red"), one.what, one.detail)
        output.console().print(table)
    return 0 if all(one.ok for one in found) else 1


def _examine(settings: Settings) -> Iterator[Diagnosis]:
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("data folder and disk", _disk),
        ("database", _database),
        *((f"DICOM port {port}", partial(_dicom_port, port)) for port in settings.receive.ports),
        ("metrics port", _metrics_port),
    ]
    for what, check in checks:
        yield _guarded(what, partial(check, settings))
    files = certificate_files(settings)
    if files:
        yield _guarded("DICOM TLS", partial(_tls, settings))
    for one in files:
        yield _guarded(one.setting, partial(_certificate, one))
    yield from _decoders()
    for name in settings.detect.detectors:
        yield _guarded(f"detector {name}", partial(_detector, name))
    results = settings.results.destination
    # the self-test's destination listens only while that runs
    lasting = [destination for destination in settings.destinations if destination.name != SELF_TEST]
    for destination in (*lasting, *([results] if results is not None else [])):
        yield _guarded(f"destination {destination.name}", partial(_answers, settings, destination))
    for destination in settings.destinations:
        yield _guarded(f"proof by {destination.name}", partial(_proves, settings, destination))


def _proves(settings: Settings, destination: DestinationSettings) -> str:
    from pacs_guard.deliver.prover import offered
    from pacs_guard.domain.proof import ProofMethod

    method = destination.proof.method
    if method is ProofMethod.NONE:
        return "not to be asked"
    found = offered(destination, settings.node.ae_title)
    if found:
        return f"offers {', '.join(found)}"
    if method is not ProofMethod.AUTO:
        raise PacsGuardError(f"proof = {method.value!r} is set, and {destination.ae_title} does not offer it")
    return "offers neither storage commitment nor queries: its answers to C-STORE are enough"


def _answers(settings: Settings, destination: DestinationSettings) -> str:
    from pacs_guard.deliver.echo import echo

    echo(settings, destination)
    over = " over TLS" if destination.tls is not None else ""
    return f"{destination.ae_title} at {destination.host}:{destination.port} answers C-ECHO{over}"


def _guarded(what: str, check: Callable[[], str]) -> Diagnosis:
    try:
        return Diagnosis(what, ok=True, detail=check())
    except (PacsGuardError, OSError) as error:
        return Diagnosis(what, ok=False, detail=str(error))


def _disk(settings: Settings) -> str:
    stores = open_stores(settings)
    free = stores.spool().free_bytes()
    needed = settings.receive.min_free_bytes
    if free < needed:
        raise PacsGuardError(f"{free} bytes free, instances are refused below {needed}; make room")
    return f"{settings.node.data_dir.resolve()}, {free / 1e9:.1f} GB free"


def _database(settings: Settings) -> str:
    return f"schema {open_stores(settings).database.revision()}"


def _dicom_port(port: int, settings: Settings) -> str:
    return _port(settings.receive.host, port)


def _certificate(one: CertificateFile) -> str:
    left = one.expires - time.time()
    if left <= 0:
        raise ConfigurationError([f"{one.file} ended {-left / 86400:.1f} days ago; renew it, then pacs-guard reload"])
    soon = "RENEW IT: it " if left < WARNING_SECONDS else ""
    return f"{one.file}: {soon}ends in {left / 86400:.0f} days"


def _tls(settings: Settings) -> str:
    check_certificates(settings)
    return "certificates, keys and authorities fit"


def _metrics_port(settings: Settings) -> str:
    return _port(settings.ops.metrics_host, settings.ops.metrics_port)


def _port(host: str, port: int) -> str:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return f"{host}:{port} in use (by a running node, or by something else: {error.strerror})"
    return f"{host}:{port} is free"


def _decoders() -> Iterator[Diagnosis]:
    from pydicom import uid
    from pydicom.pixels.decoders.base import get_decoder

    for syntax in (
        uid.RLELossless,
        uid.JPEGBaseline8Bit,
        uid.JPEGLosslessSV1,
        uid.JPEGLSLossless,
        uid.JPEG2000Lossless,
        uid.HTJ2KLossless,
    ):
        decoder = get_decoder(syntax)
        plugins = ", ".join(decoder.available_plugins)
        yield Diagnosis(
            f"decoder {syntax.name}", ok=decoder.is_available, detail=plugins or "none; reinstall pacs-guard"
        )


def _detector(name: str) -> str:
    from pacs_guard.detect.registry import load_detector

    detector = load_detector(name)
    return f"{detector.name} {detector.version}"
