"""Why a TLS handshake failed, in the words of an administrator."""

from __future__ import annotations

import ssl
from enum import StrEnum

from pacs_guard.tls.connection import UnexpectedPeerError


class Failure(StrEnum):
    """What a handshake failed of; the values are those of metrics and audit messages."""

    EXPIRED = "tls_certificate_expired"
    NOT_YET_VALID = "tls_certificate_not_yet_valid"
    UNTRUSTED = "tls_certificate_untrusted"
    """Not signed by an authority of `ca_file`."""
    REVOKED = "tls_certificate_revoked"
    NO_REVOCATION_LIST = "tls_revocation_list_unusable"
    """Its authority's list is missing from `crl_file`, or out of date."""
    WRONG_NAME = "tls_certificate_wrong_name"
    NOT_FIT = "tls_certificate_not_fit"
    """Not made for this use, or broken."""
    UNEXPECTED = "tls_certificate_unexpected"
    """Trusted, and none of those that are expected."""
    MISSING = "tls_certificate_missing"
    """The peer showed none."""
    VERSION = "tls_version"
    """The peer speaks nothing as new as TLS 1.2."""
    CIPHER = "tls_cipher_suite"
    """No cipher suite in common."""
    NOT_TLS = "tls_not_spoken"
    """The peer speaks something else, such as DICOM without TLS."""
    REFUSED = "tls_refused_by_peer"
    """The peer did not accept this side's certificate or proposal."""
    TIMEOUT = "tls_handshake_timeout"
    BROKEN = "tls_handshake_broken"
    """The peer closed the connection, or broke the protocol."""


# X509_V_ERR_…, see x509_vfy.h of OpenSSL
_VERIFY = {
    9: Failure.NOT_YET_VALID,
    10: Failure.EXPIRED,
    **dict.fromkeys((2, 7, 18, 19, 20, 21, 27), Failure.UNTRUSTED),
    23: Failure.REVOKED,
    **dict.fromkeys((3, 11, 12, 33), Failure.NO_REVOCATION_LIST),
    **dict.fromkeys((62, 64), Failure.WRONG_NAME),
}
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": Failure.MISSING,
    "UNSUPPORTED_PROTOCOL": Failure.VERSION,
    "VERSION_TOO_LOW": Failure.VERSION,
    "WRONG_SSL_VERSION": Failure.VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": Failure.VERSION,
    "NO_SHARED_CIPHER": Failure.CIPHER,
    "WRONG_VERSION_NUMBER": Failure.NOT_TLS,
    "HTTP_REQUEST": Failure.NOT_TLS,
    "HTTPS_PROXY_REQUEST": Failure.NOT_TLS,
    "RECORD_LAYER_FAILURE": Failure.NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": Failure.NOT_TLS,
}
_SENTENCES = {
    Failure.EXPIRED: "its certificate has expired",
    Failure.NOT_YET_VALID: "its certificate is not valid yet; do the clocks agree?",
    Failure.UNTRUSTED: "its certificate is not signed by an authority of ca_file",
    Failure.REVOKED: "its certificate was revoked",
    Failure.NO_REVOCATION_LIST: "crl_file has no revocation list of its authority, or one that is out of date",
    Failure.WRONG_NAME: "its certificate is for another name",
    Failure.NOT_FIT: "its certificate cannot be used for this",
    Failure.UNEXPECTED: "its certificate is none of those expected",
    Failure.MISSING: "it showed no certificate",
    Failure.VERSION: "it speaks nothing as new as TLS 1.2",
    Failure.CIPHER: "it has no cipher suite in common with this node",
    Failure.NOT_TLS: "it does not speak TLS here",
    Failure.REFUSED: "it refused the TLS handshake",
    Failure.TIMEOUT: "it did not finish the TLS handshake in time",
    Failure.BROKEN: "it broke the TLS handshake off",
}


def failure_of(error: OSError) -> Failure:
    """Return what a handshake, or the first reading after it, failed of."""
    if isinstance(error, TimeoutError):
        return Failure.TIMEOUT
    if isinstance(error, UnexpectedPeerError):
        return Failure.UNEXPECTED
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code, Failure.NOT_FIT)
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if reason in _REASONS:
        return _REASONS[reason]
    return Failure.REFUSED if "ALERT" in reason else Failure.BROKEN


def sentence(error: OSError) -> str:
    """Return a sentence about the peer, without its beginning: ``its certificate has expired``."""
    failure = failure_of(error)
    if failure is Failure.UNEXPECTED:
        return str(error)
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if failure is Failure.REFUSED:
        said = reason.lower().rpartition("alert_")[2].replace("_", " ")
        return f"{_SENTENCES[failure]}: {said}" if said else _SENTENCES[failure]
    if failure in {Failure.NOT_FIT, Failure.WRONG_NAME} and isinstance(error, ssl.SSLCertVerificationError):
        return f"{_SENTENCES[failure]}: {error.verify_message}"
    return _SENTENCES[failure]
