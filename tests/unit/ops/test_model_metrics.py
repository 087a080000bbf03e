import json

from prometheus_client import CollectorRegistry, generate_latest

from pacs_guard.domain.models import LoadedModel
from pacs_guard.ops.model_metrics import ModelsCollector
from pacs_guard.ops.proposals import latest_proposals, proposal_file


def test_workers_that_keep_another_model_are_counted_and_unavailable_ones_are_not(tmp_path):
    loaded = [
        LoadedModel("forensic", "1", "a" * 64, error="there is no forensic 2"),
        LoadedModel("forensic", "2", "b" * 64),
        LoadedModel("other", "unavailable", None, error="it is not there"),
    ]
    registry = CollectorRegistry()
    registry.register(ModelsCollector(lambda: loaded, lambda: latest_proposals(tmp_path).values()))
    write(tmp_path, "1", "2026-01-01T00:00:00+00:00", "recommended")
    write(tmp_path, "2", "2026-01-02T00:00:00+00:00", "too few")
    (tmp_path / "broken.json").write_text("{")
    text = generate_latest(registry).decode()
    for line in (
        'pacs_guard_model_info{detector="forensic",sha256="aaaaaaaaaaaa",version="1"} 1.0',
        'pacs_guard_model_info{detector="forensic",sha256="bbbbbbbbbbbb",version="2"} 1.0',
        'pacs_guard_model_switch_failed{detector="forensic"} 1.0',
        'pacs_guard_model_switch_failed{detector="other"} 0.0',
        'pacs_guard_retraining_last_timestamp_seconds{detector="forensic",outcome="too few"} 1.767312e+09',
    ):
        assert line in text


def write(folder, version, at, outcome):
    content = {"name": "forensic", "version": version, "made_at": at, "outcome": outcome}
    proposal_file(folder, "forensic", version).write_text(json.dumps(content))
