"""Audit events on their way to a repository: rsyslog where it is installed, and small servers of the test's own."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pacs_guard.domain.audit import AuditEvent
from pacs_guard.domain.retry import RetryPolicy
from pacs_guard.errors import TransientDeliveryError
from pacs_guard.ops.audit.messages import Node
from pacs_guard.ops.audit.sender import AuditSender
from pacs_guard.ops.audit.syslog import TlsTransport, UdpTransport, tls_context
from pacs_guard.queue.auditing import Auditing
from pacs_guard.queue.database import Database
from tests.authority import Authority
from tests.integration.peers import free_port, is_listening, wait_until
from tests.unit.ops.audit_schema import problems

if TYPE_CHECKING:
    from pathlib import Path

RSYSLOGD = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin")
needs_rsyslog = pytest.mark.skipif(RSYSLOGD is None, reason="rsyslog is not installed")
needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
HEADER = re.compile(rb"<85>1 [0-9T:.-]+Z \S+ pacs-guard \d+ DICOM\+RFC3881 - \xef\xbb\xbf(?P<xml><\?xml.*)", re.DOTALL)
NODE = Node("PACSGUARD", "localhost", "guard-1")


@pytest.fixture
def audit(tmp_path):
    clock = SimpleNamespace(now=1_790_000_000.0)
    database = Database(f"sqlite:///{tmp_path / 'queue.sqlite'}")
    database.prepare()
    auditing = Auditing(database, lambda: clock.now)

    def sender(transport):
        return AuditSender(auditing, transport, NODE, RetryPolicy(base_seconds=5, jitter=0), lambda: clock.now)

    yield SimpleNamespace(auditing=auditing, clock=clock, sender=sender)
    database.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
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
def tls_server(certificates, *, answer_the_end=True):
    """A server that reads octet-counted messages of each connection into a list."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    received: list[bytes] = []
    stop = threading.Event()

    def serve(listener):
        while not stop.is_set():
            try:
                plain, _ = listener.accept()
                with context.wrap_socket(plain, server_side=True) as connection:
                    data = b"".join(iter(lambda: connection.recv(65536), b""))
                    received.extend(split(data))
                    if not answer_the_end:
                        stop.wait(10)
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield listener.getsockname()[1], received
        finally:
            stop.set()
            thread.join()


def split(data: bytes) -> list[bytes]:
    """Take octet-counted messages apart (RFC 5425 4.3)."""
    found = []
    while data:
        length, _, rest = data.partition(b" ")
        found.append(rest[: int(length)])
        assert len(found[-1]) == int(length)
        data = rest[int(length) :]
    return found


def transport(port, certificates, timeout=5.0) -> TlsTransport:
    return TlsTransport("localhost", port, tls_context(certificates / "cert.pem", None, None), timeout)


def xml(message: bytes) -> bytes:
    return HEADER.fullmatch(message)["xml"]


def test_udp_sends_each_event_as_one_datagram(audit):
    audit.auditing.note(AuditEvent.STARTED, role="ops")
    audit.auditing.note(AuditEvent.MODELS, models={"forensic": "1"})
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        audit.sender(UdpTransport("127.0.0.1", server.getsockname()[1])).send_audit()
        datagrams = [server.recv(65536) for _ in range(2)]
    assert [problems(xml(one)) for one in datagrams] == [[], []]
    assert audit.auditing.due() == []


@needs_openssl
def test_tls_sends_what_had_to_wait_for_the_repository(audit, certificates):
    for number in range(150):  # more than one batch
        audit.auditing.note(AuditEvent.STARTED, role=f"r{number}")
    way = transport(free_port(), certificates)
    sender = audit.sender(way)
    sender.send_audit()  # nobody listens
    assert len(audit.auditing.due(1000)) == 150
    with tls_server(certificates) as (port, received):
        way._address = ("localhost", port)
        sender.send_audit()  # it is left alone for a while
        assert received == []
        audit.clock.now += 5
        sender.send_audit()
    assert len(received) == 150
    assert [problems(xml(one)) for one in received] == [[]] * 150
    assert audit.auditing.due() == []


@needs_openssl
def test_a_repository_that_does_not_end_the_connection_in_order_is_told_again(audit, certificates):
    audit.auditing.note(AuditEvent.STARTED, role="ops")
    with tls_server(certificates, answer_the_end=False) as (port, received):
        audit.sender(transport(port, certificates, timeout=0.5)).send_audit()
        assert len(received) == 1
    assert [event.attempts for event in audit.auditing.due()] == [1]


@needs_openssl
def test_a_certificate_nobody_trusts_gets_nothing(certificates):
    with tls_server(certificates) as (port, received):
        stranger = TlsTransport("localhost", port, tls_context(None, None, None), 5.0)
        with pytest.raises(TransientDeliveryError, match="certificate is not accepted: self-signed certificate"):
            stranger.send([b"secret"])
        wrong_name = TlsTransport("127.0.0.1", port, tls_context(certificates / "cert.pem", None, None), 5.0)
        with pytest.raises(TransientDeliveryError, match="certificate is not accepted: IP address mismatch"):
            wrong_name.send([b"secret"])
    assert received == []


def rsyslog_configuration(folder: Path, port: int, certificates: Path, authority: Authority | None) -> str:
    """TLS and UDP in, each message's MSG part a line of a file; with an authority, from its client "guard" only."""
    ca_file = authority.ca_file if authority is not None else certificates / "cert.pem"
    clients = '"x509/name" permittedPeer=["guard"]' if authority is not None else '"anon"'
    return f"""
global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="gtls"
  defaultNetstreamDriverCAFile="{ca_file}"
  defaultNetstreamDriverCertFile="{certificates}/cert.pem"
  defaultNetstreamDriverKeyFile="{certificates}/key.pem")
template(name="all" type="string" string="%pri% %msgid% %app-name% %msg%\\n")
module(load="imtcp" streamDriver.name="gtls" streamDriver.mode="1" streamDriver.authMode={clients})
module(load="imudp")
input(type="imtcp" port="{port}" address="127.0.0.1")
input(type="imudp" port="{port}" address="127.0.0.1")
*.* action(type="omfile" file="{folder}/all.log" template="all")
"""


@contextmanager
def rsyslog(folder: Path, certificates: Path, authority: Authority | None = None):
    port = free_port()
    configuration, log = folder / "rsyslog.conf", folder / "rsyslogd.log"
    configuration.write_text(rsyslog_configuration(folder, port, certificates, authority))
    command = [RSYSLOGD, "-n", "-f", str(configuration), "-i", str(folder / "pid")]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or is_listening(port), what="rsyslog listening")
        if process.poll() is not None or "could not load" in log.read_text():
            pytest.skip(f"rsyslog cannot do TLS here: {log.read_text()[:300]}")
        yield port, folder / "all.log"
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.peer
@needs_rsyslog
@needs_openssl
@pytest.mark.parametrize("kind", ["tls", "udp"])
def test_rsyslog_takes_the_messages(audit, certificates, tmp_path, kind):
    for number in range(20):
        audit.auditing.note(AuditEvent.BYPASS_ON, source="ct-1", who="Dr. Jönes", reason=f"no {number}: <&>")
    with rsyslog(tmp_path, certificates) as (port, log):
        way = transport(port, certificates) if kind == "tls" else UdpTransport("127.0.0.1", port)
        audit.sender(way).send_audit()
        assert audit.auditing.due() == []
        wait_until(lambda: log.exists() and log.read_bytes().count(b"</AuditMessage>") == 20, what="20 messages")
    found = re.findall(
        rb"85 DICOM\+RFC3881 pacs-guard \xef\xbb\xbf?(<\?xml.*?</AuditMessage>)",
        log.read_bytes().replace(b"#012", b"\n"),
        re.DOTALL,
    )
    assert len(found) == 20
    assert [problems(document) for document in found] == [[]] * 20
    assert "Dr. Jönes".encode() in found[0]


@pytest.mark.peer
@needs_rsyslog
@needs_openssl
def test_rsyslog_takes_messages_of_the_client_that_it_knows_and_of_no_other(audit, certificates, tmp_path):
    authority = Authority(tmp_path / "authority")
    guard, other = authority.issue("guard"), authority.issue("other")
    stranger = Authority(tmp_path / "strangers", "Strangers").issue("guard")
    with rsyslog(tmp_path, certificates, authority) as (port, log):
        for refused in (None, other, stranger):
            audit.auditing.note(AuditEvent.STARTED, role="ops")
            files = (refused.cert_file, refused.key_file) if refused is not None else (None, None)
            context = tls_context(certificates / "cert.pem", *files)
            audit.sender(TlsTransport("localhost", port, context, 5.0)).send_audit()
        assert len(audit.auditing.due()) == 3  # none of them counts as told
        context = tls_context(certificates / "cert.pem", guard.cert_file, guard.key_file)
        audit.sender(TlsTransport("localhost", port, context, 5.0)).send_audit()
        assert audit.auditing.due() == []
        wait_until(lambda: log.exists() and log.read_bytes().count(b"</AuditMessage>") == 3, what="3 messages")
