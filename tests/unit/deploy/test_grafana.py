"""The dashboard asks only for what is exported, and is what Grafana's own types describe. No Grafana runs here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.deploy.promql import unknown

DASHBOARD = json.loads((Path(__file__).parents[3] / "deploy" / "grafana" / "pacs-guard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
WIDTH = 24


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_is_exported(panel, exported):
    assert panel["targets"]
    for target in panel["targets"]:
        assert unknown(target["expr"], exported) == []
        assert '$instance"' in target["expr"]


def test_variables_ask_for_what_is_exported(exported):
    source, instance = DASHBOARD["templating"]["list"]
    assert (source["type"], source["query"]) == ("datasource", "prometheus")
    assert unknown(instance["definition"].replace(", instance", ""), exported) == []


def test_every_subject_has_a_row():
    assert " / ".join(ROWS) == (
        "Intake / Queue / Verdicts / Quarantine / Delivery / Detectors / Disk / Errors and settings / Proof of delivery"
    )


def test_panels_have_their_own_place_and_number():
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= WIDTH
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def test_grafanas_own_types_take_the_dashboard():
    models = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard", reason="grafana-foundation-sdk is not installed"
    )
    # unit and thresholds of every panel are kept: nothing is spelt in a way that the types do not know
    read = models.Dashboard.from_json(json.loads(json.dumps(DASHBOARD)))
    assert read.schema_version == DASHBOARD["schemaVersion"] >= 39
    assert [panel.title for panel in read.panels] == [panel["title"] for panel in DASHBOARD["panels"]]
    for panel, given in zip(read.panels, DASHBOARD["panels"], strict=True):
        if given["type"] != "row":
            assert panel.field_config.defaults.unit == given["fieldConfig"]["defaults"]["unit"]
            assert panel.grid_pos.w == given["gridPos"]["w"]
            assert len(panel.targets) == len(given["targets"])
