from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import time

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from pacs_guard.errors import QueueUnavailableError, SupervisionError
from pacs_guard.ops import http
from pacs_guard.ops.http import Check, Protection, WatchServer


class Broken:
    def collect(self):
        raise QueueUnavailableError("the database did not answer")

    def describe(self):
        return []


@pytest.fixture
def serve():
    servers = []

    def start(registry, checks):
        server = WatchServer("127.0.0.1", 0, registry, lambda: checks)
        server.start()
        servers.append(server)
        return f"http://127.0.0.1:{server.port}"

    yield start
    for server in servers:
        server.stop()


def test_metrics_are_in_the_text_format(serve):
    registry = CollectorRegistry()
    Gauge("pacs_guard_example_bytes", "An example.", registry=registry).set(3)
    answer = httpx.get(serve(registry, []) + "/metrics")
    assert answer.status_code == 200
    assert "pacs_guard_example_bytes 3.0" in answer.text


def test_metrics_that_cannot_be_collected_are_unavailable_and_the_server_lives_on(serve):
    registry = CollectorRegistry()
    registry.register(Broken())
    url = serve(registry, [])
    assert httpx.get(url + "/metrics").status_code == 503
    assert httpx.get(url + "/healthz").text == "ok\n"


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 503)])
def test_readiness_is_the_sum_of_its_checks(serve, ok, status):
    checks = [Check("database", ok=True, detail="schema 0001"), Check("disk", ok=ok, detail="5 bytes free")]
    answer = httpx.get(serve(CollectorRegistry(), checks) + "/readyz")
    assert answer.status_code == status
    assert answer.json()["disk"] == {"ok": ok, "detail": "5 bytes free"}


def test_other_paths_are_not_found(serve):
    assert httpx.get(serve(CollectorRegistry(), []) + "/etc/passwd").status_code == 404


def test_an_occupied_port_is_named_with_what_to_do(serve):
    port = int(serve(CollectorRegistry(), []).rsplit(":", 1)[1])
    with pytest.raises(SupervisionError, match=rf"127\.0\.0\.1:{port}.*set ops\.metrics_port"):
        WatchServer("127.0.0.1", port, CollectorRegistry(), list)


@pytest.fixture
def protected(tmp_path):
    servers = []

    def start(protection):
        registry = CollectorRegistry()
        Gauge("pacs_guard_example_bytes", "An example.", registry=registry).set(3)
        checks = [Check("disk", ok=True, detail="5 bytes free")]
        server = WatchServer("127.0.0.1", 0, registry, lambda: checks, protection)
        server.start()
        servers.append(server)
        return server.port

    yield start
    for server in servers:
        server.stop()


def test_metrics_are_shown_to_who_knows_the_password_and_health_to_everyone(protected):
    url = f"http://127.0.0.1:{protected(Protection('prometheus', 's3cret:ö'))}"
    refused = httpx.get(url + "/metrics")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"].startswith("Basic realm=")
    assert "pacs_guard" not in refused.text
    assert httpx.get(url + "/metrics", auth=("prometheus", "wrong")).status_code == 401
    assert httpx.get(url + "/metrics", headers={"Authorization": "Bearer s3cret:x"}).status_code == 401
    assert "pacs_guard_example_bytes 3.0" in httpx.get(url + "/metrics", auth=("prometheus", "s3cret:ö")).text
    assert httpx.get(url + "/healthz").text == "ok\n"
    assert httpx.get(url + "/readyz").text == "ready\n"
    assert "bytes free" in httpx.get(url + "/readyz", auth=("prometheus", "s3cret:ö")).text


def test_with_a_certificate_the_address_speaks_tls_only_and_a_silent_peer_keeps_nobody_out(protected, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed")
    options = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    options += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run([program, "req", *options], check=True, capture_output=True, timeout=60)
    port = protected(Protection(cert_file=cert, key_file=key))
    context = ssl.create_default_context(cafile=cert)
    with socket.create_connection(("127.0.0.1", port)):
        answer = httpx.get(f"https://127.0.0.1:{port}/metrics", verify=context, timeout=5)
    assert "pacs_guard_example_bytes 3.0" in answer.text
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        socket.create_connection(("127.0.0.1", port)) as connection,
        pytest.raises((ssl.SSLError, OSError)),
    ):
        old.wrap_socket(connection)


def test_a_certificate_that_cannot_be_used_is_named(protected, tmp_path):
    with pytest.raises(SupervisionError, match=r"ops\.metrics_cert_file .*cert\.pem"):
        protected(Protection(cert_file=tmp_path / "cert.pem", key_file=tmp_path / "key.pem"))


def test_silent_connections_beyond_a_number_are_closed_at_once(serve, monkeypatch):
    monkeypatch.setattr(http, "_MOST_CONNECTIONS", 4)
    url = serve(CollectorRegistry(), [])
    silent = [socket.create_connection(("127.0.0.1", httpx.URL(url).port)) for _ in range(8)]
    try:
        for connection in silent[4:]:
            connection.settimeout(10)
            assert connection.recv(1) == b""
        silent[0].sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        silent[0].settimeout(10)
        assert silent[0].recv(100).startswith(b"HTTP/1.0 200")
    finally:
        for connection in silent:
            connection.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert httpx.get(url + "/healthz").text == "ok\n"
        except httpx.TransportError:  # the places are just becoming free
            continue
        break
    else:
        pytest.fail("no place became free")


def test_who_gives_a_password_is_told_of_and_what_protects_can_change():
    logins = []
    server = WatchServer(
        "127.0.0.1", 0, CollectorRegistry(), list, Protection("prometheus", "old"), lambda *told: logins.append(told)
    )
    server.start()
    try:
        url = f"http://127.0.0.1:{server.port}/metrics"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, auth=("prometheus", "new")).status_code == 401
        server.protect(Protection("prometheus", "new"))
        assert httpx.get(url, auth=("prometheus", "new")).status_code == 200
        with pytest.raises(SupervisionError, match="cannot be used"):
            server.protect(Protection(cert_file="gone.pem", key_file="gone.key"))
        assert httpx.get(url, auth=("prometheus", "new")).status_code == 200
        assert httpx.get(url, headers={"Authorization": "Basic !"}).status_code == 401
        assert httpx.get(url.replace("metrics", "healthz"), auth=("nobody", "x")).status_code == 200
    finally:
        server.stop()
    assert logins == [
        ("prometheus", "127.0.0.1", False),
        ("prometheus", "127.0.0.1", True),
        ("prometheus", "127.0.0.1", True),
        ("unknown", "127.0.0.1", False),
    ]
