"""Every certificate file that the settings name: until when it holds, and whether it can be used."""

from __future__ import annotations

import hashlib
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pacs_guard.errors import ConfigurationError
from pacs_guard.tls.certificates import read_certificates, read_revocation_lists
from pacs_guard.tls.profile import client_context, server_context

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pacs_guard.config import DestinationTlsSettings, Settings

WARNING_SECONDS = 30 * 86400.0
"""A certificate that ends sooner has to be renewed."""


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A file of certificates or revocation lists.

    Attributes
    ----------
    setting : str
        The first one that names it: ``tls.cert_file``.
    file : Path
    """

    setting: str
    file: Path

    @property
    def is_revocation_list(self) -> bool:
        """Whether it holds revocation lists."""
        return self.setting.endswith("crl_file")

    @property
    def expires(self) -> float:
        """When the first of what is in it ends, in seconds since the epoch.

        Raises
        ------
        ConfigurationError
            If it cannot be read.
        """
        if self.is_revocation_list:
            due = [one for one in read_revocation_lists(self.file, self.setting) if one is not None]
            return min(due, default=float("inf"))
        return min(one.not_after for one in read_certificates(self.file, self.setting))

    @property
    def digest(self) -> str:
        """SHA-256 of its content; empty if it cannot be read."""
        try:
            return hashlib.sha256(self.file.read_bytes()).hexdigest()
        except OSError:
            return ""


def certificate_files(settings: Settings) -> list[CertificateFile]:
    """Return every file of certificates that the settings name, each once."""
    found: dict[Path, str] = {}
    for setting, file in _named(settings):
        if file is not None:
            found.setdefault(file, setting)
    return [CertificateFile(setting, file) for file, setting in found.items()]


def check_certificates(settings: Settings) -> None:
    """Look whether all of DICOM TLS can be used.

    Raises
    ------
    ConfigurationError
        With one line for each certificate, key or authority that cannot be used.
    """
    problems = []
    try:
        if settings.receive.tls is not None:
            server_context(settings.tls, require_certificate=True)
    except ConfigurationError as error:
        problems += error.problems
    for name, tls in called(settings):
        try:
            client_context(tls, name)
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))


def warnings(settings: Settings, now: float) -> list[str]:
    """Return a sentence for each file that has to be renewed, cannot be read, or is a key that everybody can read."""
    said = [
        f"{setting}: {file} can be read by everybody; chmod o-r"
        for setting, file in _keys(settings).items()
        if _is_open(file)
    ]
    for one in certificate_files(settings):
        try:
            left = one.expires - now
        except ConfigurationError as error:
            said += error.problems
            continue
        if left < WARNING_SECONDS:
            when = f"ends in {left / 86400.0:.1f} days" if left > 0 else f"ended {-left / 86400.0:.1f} days ago"
            said.append(f"{one.setting}: {one.file} {when}; renew it, then pacs-guard reload")
    return said


def called(settings: Settings) -> list[tuple[str, DestinationTlsSettings]]:
    """Return all that is called over TLS: destinations, that of results, and modalities that take reports; by name."""
    results = settings.results.destination
    peers = [(one.name, one.tls) for one in (*settings.destinations, *([results] if results is not None else []))]
    peers += [(one.name, one.commitment.tls) for one in settings.sources]
    return [(name, tls) for name, tls in peers if tls is not None]


def _keys(settings: Settings) -> dict[str, Path]:
    """Return every key file with the first setting that names it."""
    keys = [("tls.key_file", settings.tls.key_file), ("ops.metrics_key_file", settings.ops.metrics_key_file)]
    keys += [(f"destinations[{name}].tls.key_file", theirs.key_file) for name, theirs in called(settings)]
    found: dict[Path, str] = {}
    for setting, file in keys:
        if file is not None:
            found.setdefault(file, setting)
    return {setting: file for file, setting in found.items()}


def _is_open(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:  # said where it is used
        return False


def _named(settings: Settings) -> Iterator[tuple[str, Path | None]]:
    tls = settings.tls
    yield from (("tls.cert_file", tls.cert_file), ("tls.ca_file", tls.ca_file), ("tls.crl_file", tls.crl_file))
    for name, theirs in called(settings):
        where = f"destinations[{name}].tls"
        yield f"{where}.cert_file", theirs.cert_file
        yield f"{where}.ca_file", theirs.ca_file
        yield f"{where}.crl_file", theirs.crl_file
    yield "ops.metrics_cert_file", settings.ops.metrics_cert_file
    if settings.audit.host is not None:
        yield from (("audit.cert_file", settings.audit.cert_file), ("audit.ca_file", settings.audit.ca_file))
    if settings.email is not None:
        yield "email.ca_file", settings.email.ca_file
