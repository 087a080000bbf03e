from __future__ import annotations

import os
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from pacs_guard.ops.metrics import NodeCollector, RoleMetrics, role_registry
from pacs_guard.queue.reports import QueueGauges

_ROLE = """
import os, sys
from pathlib import Path
os.environ["PROMETHEUS_MULTIPROC_DIR"] = sys.argv[1]
from pacs_guard.ops.metrics import RoleMetrics, role_registry
metrics = RoleMetrics(role_registry(Path(sys.argv[1]), sys.argv[2]))
metrics.instance("ct-1", "stored", 0, 1000, 0.01)
"""


def test_counters_of_processes_that_ended_are_still_there(tmp_path):
    for _ in range(2):
        # one file for each role, as process ids are the same in every container
        subprocess.run([sys.executable, "-c", _ROLE, str(tmp_path), "receive"], check=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["counter_receive.db", "histogram_receive.db"]
    show = (
        "import os, sys\n"
        "os.environ['PROMETHEUS_MULTIPROC_DIR'] = sys.argv[1]\n"
        "from prometheus_client import CollectorRegistry, generate_latest\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "registry = CollectorRegistry()\n"
        "MultiProcessCollector(registry, sys.argv[1])\n"
        "print(generate_latest(registry).decode())\n"
    )
    shown = subprocess.run([sys.executable, "-c", show, str(tmp_path)], check=True, capture_output=True, text=True)
    assert 'pacs_guard_received_instances_total{outcome="stored",source="ct-1",status="0x0000"} 2.0' in shown.stdout
    assert 'pacs_guard_received_bytes_total{outcome="stored",source="ct-1"} 2000.0' in shown.stdout
    assert 'pacs_guard_receive_seconds_count{source="ct-1"} 2.0' in shown.stdout


def test_every_metric_is_counted_under_its_labels():
    registry = CollectorRegistry()
    metrics = RoleMetrics(registry)
    metrics.association_opened("ct-1")
    metrics.association_closed("ct-1", 2.0)
    metrics.association_refused("calling AE title")
    metrics.assessed("SUSPECTED", "quarantine", 3.0, bypassed=False)
    metrics.assessed("UNDETERMINED", "forward", 3.0, bypassed=True)
    metrics.scored("forensic", 0.4)
    metrics.detector_failed("forensic")
    metrics.delivered("pacs", 0.1, 500, transcoded=True)
    metrics.failed("pacs", "transient")
    metrics.study_delivered("pacs", 9.0)
    metrics.notification("sent")
    text = generate_latest(registry).decode()
    for line in (
        'pacs_guard_associations_accepted_total{source="ct-1"} 1.0',
        'pacs_guard_associations_refused_total{reason="calling AE title"} 1.0',
        'pacs_guard_verdicts_total{decision="quarantine",verdict="SUSPECTED"} 1.0',
        'pacs_guard_unjudged_forwards_total{verdict="UNDETERMINED"} 1.0',
        'pacs_guard_detector_score_count{detector="forensic"} 1.0',
        'pacs_guard_detector_errors_total{detector="forensic"} 1.0',
        'pacs_guard_delivered_instances_total{destination="pacs",transcoded="true"} 1.0',
        'pacs_guard_delivered_bytes_total{destination="pacs"} 500.0',
        'pacs_guard_delivery_failures_total{destination="pacs",kind="transient"} 1.0',
        'pacs_guard_deliver_study_seconds_sum{destination="pacs"} 9.0',
        'pacs_guard_notifications_total{result="sent"} 1.0',
    ):
        assert line in text


def test_gauges_are_read_when_they_are_scraped():
    gauges = QueueGauges(
        studies={("held", "SUSPECTED"): 2},
        depth={"detect": 3},
        oldest_seconds={"detect": 12.5},
        delivery_backlog={"pacs": 4},
        quarantine_bytes=7,
        bypasses=5,
    )
    registry = CollectorRegistry()
    registry.register(
        NodeCollector(
            gauges=lambda: gauges,
            free_bytes=lambda: 11,
            roles=lambda: {"detect": 1.5},
        )
    )
    text = generate_latest(registry).decode()
    for line in (
        'pacs_guard_studies{state="held",verdict="SUSPECTED"} 2.0',
        'pacs_guard_queue_depth{stage="detect"} 3.0',
        'pacs_guard_queue_oldest_age_seconds{stage="detect"} 12.5',
        'pacs_guard_delivery_backlog{destination="pacs"} 4.0',
        "pacs_guard_quarantine_bytes 7.0",
        "pacs_guard_bypasses_total 5.0",
        "pacs_guard_spool_free_bytes 11.0",
        'pacs_guard_role_heartbeat_age_seconds{role="detect"} 1.5',
    ):
        assert line in text


def test_a_registry_for_another_folder_than_the_environment_names_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ
    with pytest.raises(RuntimeError, match="must name the metrics folder"):
        role_registry(tmp_path, "ops")
