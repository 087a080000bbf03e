"""What is deployed beside the node refers only to what the node has."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from pacs_guard.cli import CONFIGURATION_EXIT
from pacs_guard.ops.metrics import NodeCollector, RoleMetrics
from pacs_guard.queue.reports import QueueGauges

ROOT = Path(__file__).parents[2]
METRIC = re.compile(r"\bpacs_guard_[a-z_]+\b")


@pytest.fixture(scope="module")
def exported() -> set[str]:
    registry = CollectorRegistry()
    RoleMetrics(registry)
    registry.register(
        NodeCollector(gauges=QueueGauges, free_bytes=lambda: 1, models={"forensic": "1"}, roles=lambda: {"ops": 1.0})
    )
    names = set()
    for family in registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"], "info": ["_info"]}
        names.update(family.name + suffix for suffix in suffixes.get(family.type, [""]))
    return names


@pytest.mark.parametrize("file", ["deploy/prometheus/alerts.yml", "docs/operations.md"])
def test_every_metric_that_is_spoken_of_is_exported(file, exported):
    named = set(METRIC.findall((ROOT / file).read_text()))
    assert named
    assert named <= exported, named - exported


def test_the_service_is_not_restarted_when_its_configuration_cannot_work():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(ROOT / "deploy" / "systemd" / "pacs-guard.service")
    assert unit["Service"]["RestartPreventExitStatus"] == str(CONFIGURATION_EXIT)
    assert unit["Service"]["User"] != "root"
    assert unit["Service"]["ExecStart"].split()[1] == "serve"
