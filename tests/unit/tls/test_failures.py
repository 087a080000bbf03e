from __future__ import annotations

import ssl

import pytest

from pacs_guard.tls.connection import UnexpectedPeerError
from pacs_guard.tls.failures import Failure, failure_of, sentence


def ssl_error(reason, code=None):
    error = ssl.SSLCertVerificationError(1, "text") if code is not None else ssl.SSLError(1, "text")
    error.reason = reason
    if code is not None:
        error.verify_code, error.verify_message = code, "said OpenSSL"
    return error


@pytest.mark.parametrize(
    ("error", "failure", "said"),
    [
        (TimeoutError("timed out"), Failure.TIMEOUT, "in time"),
        (ConnectionResetError(104, "reset"), Failure.BROKEN, "broke the TLS handshake off"),
        (ssl_error("UNEXPECTED_EOF_WHILE_READING"), Failure.BROKEN, "broke the TLS handshake off"),
        (ssl_error("CERTIFICATE_VERIFY_FAILED", 10), Failure.EXPIRED, "has expired"),
        (ssl_error("CERTIFICATE_VERIFY_FAILED", 20), Failure.UNTRUSTED, "authority of ca_file"),
        (ssl_error("CERTIFICATE_VERIFY_FAILED", 23), Failure.REVOKED, "revoked"),
        (ssl_error("CERTIFICATE_VERIFY_FAILED", 26), Failure.NOT_FIT, "for this: said OpenSSL"),
        (ssl_error("PEER_DID_NOT_RETURN_A_CERTIFICATE"), Failure.MISSING, "showed no certificate"),
        (ssl_error("UNSUPPORTED_PROTOCOL"), Failure.VERSION, "TLS 1.2"),
        (ssl_error("WRONG_VERSION_NUMBER"), Failure.NOT_TLS, "does not speak TLS"),
        (ssl_error("TLSV13_ALERT_CERTIFICATE_REQUIRED"), Failure.REFUSED, "handshake: certificate required"),
        (ssl_error("TLSV1_ALERT_UNKNOWN_CA"), Failure.REFUSED, "handshake: unknown ca"),
        (UnexpectedPeerError("its certificate is x; expected y"), Failure.UNEXPECTED, "expected y"),
    ],
)
def test_what_a_handshake_failed_of_is_told_apart(error, failure, said):
    assert failure_of(error) is failure
    assert said in sentence(error)
