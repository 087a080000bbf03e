"""Alert rules refer to what is exported, fire when they should, and are explained."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.unit.deploy.promql import unknown

ROOT = Path(__file__).parents[3]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
TESTS = ROOT / "deploy" / "prometheus" / "tests" / "alerts_test.yml"
ALERTS = {
    rule["alert"]: rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
}  # fmt: skip
METRIC = re.compile(r"\bpacs_guard_[a-z_]+\b")


def promtool(*arguments: object) -> subprocess.CompletedProcess:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_asks_for_what_is_exported(alert, exported):
    assert unknown(ALERTS[alert]["expr"], exported) == []


def test_the_extractor_sees_a_wrong_metric_and_a_wrong_label(exported):
    assert unknown("rate(pacs_guard_nothing_total[5m]) > 0", exported) == ["pacs_guard_nothing_total is not exported"]
    assert unknown('pacs_guard_delivery_backlog{source="a"}', exported) == [
        "pacs_guard_delivery_backlog has no label source"
    ]
    assert unknown("sum by (room) (pacs_guard_delivery_backlog)", exported) == ["nothing has the label room"]


def test_every_metric_in_the_operations_guide_is_exported(exported):
    named = set(METRIC.findall((ROOT / "docs" / "operations.md").read_text()))
    assert named
    assert named <= exported.keys(), named - exported.keys()


def test_every_alert_is_explained_in_the_operations_guide():
    headings = set(re.findall(r"^#+ (PacsGuard\w+)", (ROOT / "docs" / "operations.md").read_text(), re.MULTILINE))
    assert headings == set(ALERTS)


def test_rules_and_scrape_configuration_are_valid():
    for arguments in (("check", "rules", RULES), ("check", "config", RULES.with_name("prometheus.yml"))):
        done = promtool(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_fires_when_it_should_and_only_then():
    done = promtool("test", "rules", TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = yaml.safe_load(TESTS.read_text())["tests"]
    fired = {
        check["alertname"] for test in tests for check in test["alert_rule_test"] if check.get("exp_alerts")
    }  # fmt: skip
    quiet = {check["alertname"] for check in tests[0]["alert_rule_test"]}
    assert fired == quiet == set(ALERTS)


def test_every_command_in_the_operations_guide_exists():
    from typer.main import get_command  # noqa: PLC0415  # only here

    from pacs_guard.cli.app import app  # noqa: PLC0415

    top = get_command(app)
    guide = (ROOT / "docs" / "operations.md").read_text()
    named = re.findall(r"\bpacs-guard ((?:[a-z]+ ?){1,2})((?:\s--[a-z]+)*)", " ".join(guide.split()))
    commands = [(words.split(), options.split()) for words, options in named if words.split()[0] in top.commands]
    assert len(commands) > 20
    for words, options in commands:
        command = top.commands[words[0]]
        if hasattr(command, "commands") and len(words) > 1:
            assert words[1] in command.commands, words
            command = command.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(options) <= known, (words, options)
