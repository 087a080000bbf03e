"""The names and labels that a node really exports, in the exposition of a registry in which everything was counted."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pacs_guard.domain.drift import Drift, Measure
from pacs_guard.domain.models import LoadedModel
from pacs_guard.ops.certificate_metrics import CertificateCollector
from pacs_guard.ops.drift_metrics import DriftCollector
from pacs_guard.ops.metrics import NodeCollector, RoleMetrics
from pacs_guard.ops.model_metrics import ModelsCollector
from pacs_guard.ops.proposals import Proposal
from pacs_guard.ops.reload import Outcome
from pacs_guard.ops.selftest import SelfTestCollector, SelfTestOutcome, write_outcome
from pacs_guard.ops.settings_metrics import SettingsCollector
from pacs_guard.queue.reports import QueueGauges
from pacs_guard.tls.inventory import CertificateFile
from tests.authority import Authority

# added by Prometheus to everything that it scrapes
_SCRAPED = {"job", "instance"}


def _count_everything(metrics: RoleMetrics) -> None:
    metrics.instance("ct-1", "stored", 0, 1, 0.1)
    metrics.association_opened("ct-1")
    metrics.association_closed("ct-1", 1.0)
    metrics.association_refused("address")
    metrics.certificate("ct-1", 1.0)
    metrics.assessed("UNDETERMINED", "forward", 1.0, bypassed=True)
    metrics.scored("forensic", 0.1)
    metrics.detector_failed("forensic")
    metrics.delivered("pacs", 0.1, 1, transcoded=False)
    metrics.failed("pacs", "transient")
    metrics.study_delivered("pacs", 1.0)
    metrics.notification("sent")
    metrics.thread_error("notify")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Labels by sample name."""
    registry = CollectorRegistry()
    _count_everything(RoleMetrics(registry))
    gauges = QueueGauges(
        studies={("held", "SUSPECTED"): 1},
        depth={"detect": 1},
        oldest_seconds={"detect": 1.0},
        delivery_backlog={"pacs": 1},
        bypass_on=("ct-1",),
        results={"failed": 1},
        proofs={("pacs", "pending"): 1},
        oldest_proof_seconds={"pacs": 1.0},
        commitment_requests={"failed": 1},
    )
    registry.register(NodeCollector(gauges=lambda: gauges, free_bytes=lambda: 1, roles=lambda: {"ops": 1.0}))
    drift = [Drift("forensic", "1", "scanner", Measure.SCORE, 0.1, 0.25, 30.0)]
    registry.register(DriftCollector(lambda: drift))
    proposals = [Proposal("forensic", "2", "recommended", 1.0)]
    registry.register(ModelsCollector(lambda: [LoadedModel("forensic", "1", "ab")], lambda: proposals))
    registry.register(SettingsCollector(outcomes=lambda: [Outcome("ops", 1.0, 1.0)], min_free_bytes=lambda: 1))
    ca_file = Authority(tmp_path_factory.mktemp("authority")).ca_file
    registry.register(CertificateCollector(lambda: [CertificateFile("tls.ca_file", ca_file)]))
    write_outcome(tmp_path_factory.getbasetemp(), SelfTestOutcome(ok=True, reason="", at=1.0, seconds=1.0))
    registry.register(SelfTestCollector(tmp_path_factory.getbasetemp(), 3600.0))
    names: dict[str, set[str]] = {"up": set(_SCRAPED)}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            names.setdefault(sample.name, set(_SCRAPED)).update(sample.labels)
    return names
