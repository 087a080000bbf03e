from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry, Gauge

from pacs_guard.errors import QueueUnavailableError, SupervisionError
from pacs_guard.ops.http import Check, WatchServer


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
