"""Certificates: what they say of their owner, until when they hold, and what a setting knows them by."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is known of a certificate.

    Attributes
    ----------
    subject : str
        Its subject, as RFC 4514 writes it.
    names : frozenset of str
        Everything a setting may know it by: ``sha256:…``, ``dns:…``, ``ip:…`` and ``cn:…``.
    not_before, not_after : float
        Seconds since the epoch.
    """

    subject: str
    names: frozenset[str]
    not_before: float
    not_after: float

    @property
    def fingerprint(self) -> str:
        """Its SHA-256 fingerprint, ``sha256:`` and 64 hexadecimal digits."""
        return next(name for name in self.names if name.startswith("sha256:"))

    def is_one_of(self, wanted: Sequence[str]) -> bool:
        """Whether it is known by one of the names wanted."""
        return any(name in self.names for name in wanted)


def certificate(encoded: bytes) -> Certificate:
    """Return what is known of a certificate.

    Parameters
    ----------
    encoded : bytes
        In DER.

    Raises
    ------
    ValueError
        If it is none.
    """
    return _described(x509.load_der_x509_certificate(encoded))


def read_certificates(file: Path, setting: str) -> list[Certificate]:
    """Return the certificates of a PEM file, the first one first.

    Raises
    ------
    ConfigurationError
        If it cannot be read or has none; `setting` names it.
    """
    content = _read(file, setting)
    try:
        return [_described(one) for one in x509.load_pem_x509_certificates(content)]
    except ValueError as error:
        raise ConfigurationError([f"{setting}: {file}: no certificate in PEM: {_first_line(error)}"]) from error


def read_revocation_lists(file: Path, setting: str) -> list[float | None]:
    """Return for each revocation list of a PEM file when the next one is due, in seconds since the epoch.

    Raises
    ------
    ConfigurationError
        If it cannot be read or has none; `setting` names it.
    """
    end = b"-----END X509 CRL-----"
    parts = _read(file, setting).split(end)[:-1]
    if not parts:
        raise ConfigurationError([f"{setting}: {file}: no certificate revocation list in PEM"])
    try:
        lists = [x509.load_pem_x509_crl(part + end + b"\n") for part in parts]
    except ValueError as error:
        raise ConfigurationError([f"{setting}: {file}: no revocation list in PEM: {_first_line(error)}"]) from error
    return [one.next_update_utc.timestamp() if one.next_update_utc is not None else None for one in lists]


def _read(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigurationError([f"{setting}: {file} cannot be read: {error.strerror}"]) from error


def _described(found: x509.Certificate) -> Certificate:
    der = found.public_bytes(Encoding.DER)
    return Certificate(
        subject=found.subject.rfc4514_string(),
        names=frozenset(
            {f"sha256:{hashlib.sha256(der).hexdigest()}", *_common_names(found), *_alternative_names(found)}
        ),
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
    )


def _common_names(found: x509.Certificate) -> list[str]:
    return [f"cn:{name.value!s}" for name in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _alternative_names(found: x509.Certificate) -> list[str]:
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):  # none, or an extension that cannot be understood
        return []
    hosts = [f"dns:{name.lower()}" for name in names.get_values_for_type(x509.DNSName)]
    addresses = names.get_values_for_type(x509.IPAddress)
    return hosts + [f"ip:{one}" for one in addresses if isinstance(one, (ipaddress.IPv4Address, ipaddress.IPv6Address))]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
