"""Notifications by e-mail, to a mail server of the test's own that speaks TLS and asks for a password."""

from __future__ import annotations

import shutil
import smtplib
import ssl
import subprocess
from contextlib import contextmanager
from email import message_from_bytes, policy

import pytest

from pacs_guard.config import EmailSettings
from pacs_guard.deliver.mail import send
from pacs_guard.errors import TransientDeliveryError
from pacs_guard.queue.rows import Notification
from tests.integration.peers import free_port

aiosmtpd = pytest.importorskip("aiosmtpd.controller", reason="aiosmtpd is not installed")
smtp = pytest.importorskip("aiosmtpd.smtp")
pytestmark = [
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
    # it does not count TLS from the first byte as TLS
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS"),
]

RIGHT, WRONG = "s3cret", "wr0ng"
PAYLOAD = {"event": "study_quarantined", "study": 7, "verdict": "SUSPECTED", "kinds": ["FM"], "reason": "ein Knötchen"}
NOTIFICATION = Notification(3, "study_quarantined", PAYLOAD, 0, 1_790_000_000.0, study_uid="1.2.3")


class Mailbox:
    """What the server took; `refuse` is what it answers instead."""

    def __init__(self) -> None:
        self.messages: list = []
        self.logins: list = []
        self.refuse: str | None = None

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  # the library's name
        if self.refuse is not None:
            return self.refuse
        self.messages.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"

    def authenticate(self, server, session, envelope, mechanism, data):
        self.logins.append((data.login, data.password))
        return smtp.AuthResult(success=data.password == b"s3cret", handled=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mail")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder


@contextmanager
def mail_server(certificate, *, starttls: bool):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    mailbox, port = Mailbox(), free_port()
    tls = {"tls_context": context, "require_starttls": True} if starttls else {"ssl_context": context}
    controller = aiosmtpd.Controller(
        mailbox,
        hostname="localhost",
        port=port,
        authenticator=mailbox.authenticate,
        auth_required=True,
        auth_require_tls=starttls,
        **tls,
    )
    controller.start()
    try:
        yield port, mailbox
    finally:
        controller.stop(no_assert=True)


def settings(port, certificate, **changes) -> EmailSettings:
    given = {
        "host": "localhost",
        "port": port,
        "ca_file": certificate / "cert.pem",
        "username": "guard",
        "password": RIGHT,
        "sender": "guard@example.org",
        "recipients": ["a@example.org", "b@example.org"],
        "timeout_seconds": 5,
    }
    return EmailSettings(**given | changes)


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_notification_arrives_over_tls_with_a_login(certificate, security):
    with mail_server(certificate, starttls=security == "starttls") as (port, mailbox):
        send(settings(port, certificate, security=security), NOTIFICATION, "PACSGUARD")
    [(recipients, message)] = mailbox.messages
    assert recipients == ["a@example.org", "b@example.org"]
    assert message["Subject"] == "PACSGUARD: study quarantined"
    assert "ein Knötchen" in message.get_content()
    assert mailbox.logins == [(b"guard", b"s3cret")]


def test_what_the_server_does_not_take_is_tried_again_and_the_password_stays_secret(certificate):
    with mail_server(certificate, starttls=True) as (port, mailbox):
        mailbox.refuse = "451 come back later"
        with pytest.raises(TransientDeliveryError, match=r"451.*come back later"):
            send(settings(port, certificate), NOTIFICATION, "PACSGUARD")
        with pytest.raises(TransientDeliveryError, match="SMTPAuthenticationError") as caught:
            send(settings(port, certificate, password=WRONG), NOTIFICATION, "PACSGUARD")
        assert WRONG not in str(caught.value)
        with pytest.raises(TransientDeliveryError, match="CERTIFICATE_VERIFY_FAILED"):
            send(settings(port, certificate, ca_file=None), NOTIFICATION, "PACSGUARD")
    with pytest.raises(TransientDeliveryError, match="ConnectionRefusedError"):
        send(settings(port, certificate), NOTIFICATION, "PACSGUARD")
    assert mailbox.messages == []


def test_a_server_without_starttls_gets_neither_password_nor_message(certificate):
    with mail_server(certificate, starttls=True) as (port, mailbox):
        plain = smtplib.SMTP("localhost", port, timeout=5)
        plain.ehlo()
        assert plain.has_extn("starttls")
        plain.close()
        with pytest.raises(TransientDeliveryError, match="SSL"):
            send(settings(port, certificate, security="tls"), NOTIFICATION, "PACSGUARD")
    assert (mailbox.messages, mailbox.logins) == ([], [])
