"""TLS as the standard wants it: the BCP 195 RFC 8996, 9325 secure transport connection profile (PS3.15 B.12)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from pacs_guard.errors import ConfigurationError
from pacs_guard.tls.certificates import read_certificates, read_revocation_lists
from pacs_guard.tls.connection import TlsContext

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.config import DestinationTlsSettings, TlsSettings

CIPHER_SUITES = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""For TLS 1.2: forward secrecy and authenticated encryption only (RFC 9325 4.2); those of TLS 1.3 all have both."""
MINIMUM = ssl.TLSVersion.TLSv1_2


def server_context(tls: TlsSettings, *, require_certificate: bool) -> TlsContext:
    """Return the acceptor's side.

    Parameters
    ----------
    tls : TlsSettings
        With certificate, key and authorities.
    require_certificate : bool
        Whether a peer without a certificate is refused.

    Raises
    ------
    ConfigurationError
        If a file cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, tls, "tls")
    context.verify_mode = ssl.CERT_REQUIRED if require_certificate else ssl.CERT_OPTIONAL
    # every association proves anew who it is: a ticket would outlive a revocation
    context.options |= ssl.OP_NO_TICKET | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.num_tickets = 0
    return context


def client_context(tls: DestinationTlsSettings, name: str) -> TlsContext:
    """Return the requestor's side.

    Parameters
    ----------
    tls : DestinationTlsSettings
    name : str
        Of the destination, for errors.

    Raises
    ------
    ConfigurationError
        If a file cannot be used.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, tls, f"{name}: tls")
    context.check_hostname = tls.check_name and not (tls.certificates and tls.server_name is None)
    context.expected = tls.certificates
    if tls.ca_file is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def _context(protocol: int, tls: TlsSettings, where: str) -> TlsContext:
    context = TlsContext(protocol)
    context.minimum_version = MINIMUM
    context.set_ciphers(":".join(CIPHER_SUITES))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    if tls.ca_file is not None:
        read_certificates(tls.ca_file, f"{where}.ca_file")
        context.load_verify_locations(cafile=tls.ca_file)
    if tls.crl_file is not None:
        read_revocation_lists(tls.crl_file, f"{where}.crl_file")
        context.load_verify_locations(cafile=tls.crl_file)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    if tls.cert_file is not None and tls.key_file is not None:
        _load_own(context, tls, tls.cert_file, tls.key_file, where)
    return context


def _load_own(context: ssl.SSLContext, tls: TlsSettings, cert_file: Path, key_file: Path, where: str) -> None:
    read_certificates(cert_file, f"{where}.cert_file")
    password = tls.key_password.get_secret_value() if tls.key_password is not None else ""
    try:
        # without a password given the library would ask at the terminal
        context.load_cert_chain(cert_file, key_file, password=password)
    except ssl.SSLError as error:
        raise ConfigurationError([f"{where}.key_file: {key_file}: {_key_problem(error)}"]) from error
    except OSError as error:
        raise ConfigurationError([f"{where}.key_file: {key_file} cannot be read: {error.strerror}"]) from error


def _key_problem(error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return "is not the key of the certificate in cert_file"
    return "cannot be opened; expected a key in PEM, and the key_password that opens it if it is encrypted"
