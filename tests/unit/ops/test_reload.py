from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from pacs_guard.config import Settings
from pacs_guard.errors import ConfigurationError, QueueUnavailableError
from pacs_guard.ops.reload import USES, Reloader, changed_settings, outcomes, use_of
from pacs_guard.ops.roles import ROLES

SOURCE = {"name": "ct-1", "ae_titles": ["CT1"]}
PACS = {"name": "pacs", "ae_title": "PACS", "port": 4242}


def settings(**changes) -> Settings:
    return Settings(**{"sources": [SOURCE], "destinations": [PACS], **changes})


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, []),
        ({"receive": {"port": 104}}, ["receive.port"]),
        ({"sources": [SOURCE | {"mode": "shadow"}]}, ["sources[ct-1].mode"]),
        ({"sources": [SOURCE, {"name": "ct-2", "ae_titles": ["CT2"]}]}, ["sources[ct-2]"]),
        ({"sources": [SOURCE | {"name": "ct-9"}]}, ["sources[ct-1]", "sources[ct-9]"]),
        ({"destinations": [PACS | {"retry": {"max_attempts": 3}}]}, ["destinations[pacs].retry.max_attempts"]),
    ],
)
def test_a_change_is_named_and_its_values_are_not(changes, names):
    found = changed_settings(settings(), settings(**changes))
    assert sorted(found) == sorted(names)
    assert changed_settings(settings(**changes), settings()) == found


def test_a_section_that_appears_is_named_with_its_settings():
    found = changed_settings(settings(), settings(webhook={"url": "https://a", "token": "s3cret"}))
    assert {"webhook.token", "webhook.url"} <= set(found)
    assert all(name.startswith("webhook") for name in found)


@pytest.mark.parametrize(
    ("setting", "roles", "live"),
    [
        ("sources[ct-1].mode", ROLES, True),
        ("receive.max_associations", ("receive",), True),
        ("receive.port", ("receive",), False),
        ("detect.threads", ("detect", "ops"), False),
        ("node.ae_title", ROLES, False),
        ("something.new", ROLES, False),
        ("sourcesque", ROLES, False),
    ],
)
def test_who_uses_a_setting_and_whether_it_can_change_stands_in_the_table(setting, roles, live):
    assert (use_of(setting).roles, use_of(setting).live) == (roles, live)


def test_the_operations_guide_lists_what_can_change():
    guide = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
    table = guide.partition("| setting | takes effect | in |")[2].partition("\n\n")[0]
    listed = dict(re.findall(r"^\| `([a-z_.]+)`[^|]*\| (at once|after a restart) \|", table, re.MULTILINE))
    table = {key: "at once" if use.live else "after a restart" for key, use in USES.items()}
    assert listed.items() <= table.items()
    # the guide says of everything else that it needs a restart
    assert [key for key, use in USES.items() if use.live and key not in listed] == []


class Role:
    """A role's settings, and the file they come from."""

    def __init__(self, folder, role="receive"):
        self.file: Settings | Exception = settings()
        self.applied: list[Settings] = []
        self.fails: Exception | None = None
        self.reloader = Reloader(role, settings(), load=self.load, folder=folder, clock=iter(range(1000)).__next__)
        self.reloader.start(self.apply)

    def load(self):
        if isinstance(self.file, Exception):
            raise self.file
        return self.file

    def apply(self, new):
        if self.fails:
            raise self.fails
        self.applied.append(new)


@pytest.fixture
def role(tmp_path):
    made = Role(tmp_path)
    yield made
    made.reloader.stop()


def test_what_changed_and_what_waits_is_told_to_whom_it_concerns(role):
    role.file = settings(
        receive={"max_associations": 5, "port": 104}, detect={"threads": 2}, ops={"retention_days": 1}, webhook=None
    )
    outcome = role.reloader.reload()
    assert outcome.ok
    assert outcome.changed == ("receive.max_associations",)
    assert outcome.restart == ("receive.port",)
    assert role.applied == [role.file]
    role.file = settings(receive={"max_associations": 5})
    assert role.reloader.reload().restart == ()  # the port is what the role started with


@pytest.mark.parametrize(
    ("where", "error", "problems"),
    [
        ("file", ConfigurationError(["receive.port: 0 was given", "sources: none"]), ("receive.port: 0 was given",)),
        ("fails", QueueUnavailableError("the database did not answer"), ("the database did not answer",)),
        ("fails", KeyError("a bug"), ("KeyError: 'a bug'",)),
    ],
)
def test_after_an_error_the_old_settings_stay_and_the_next_request_is_answered(role, where, error, problems):
    setattr(role, where, error)
    outcome = role.reloader.reload()
    assert not outcome.ok
    assert outcome.errors[: len(problems)] == problems
    assert outcome.in_force_since < outcome.at
    assert role.applied == []
    role.file, role.fails = settings(receive={"max_associations": 7}), None
    assert role.reloader.reload().changed == ("receive.max_associations",)


def test_a_certificate_that_was_renewed_in_its_place_is_a_change(role, tmp_path):
    file = tmp_path / "own.pem"
    file.write_text("old")
    role.file = settings(ops={"metrics_cert_file": file, "metrics_key_file": "a.key"}, tls={"ca_file": file})
    assert role.reloader.reload().changed == ("tls.ca_file",)
    assert role.reloader.reload().changed == ()
    file.write_text("new")
    assert role.reloader.reload().changed == ("tls.ca_file",)
    assert role.reloader.settings is role.file


def test_whoever_keeps_the_trail_is_told_of_changes_and_refusals_only(role):
    told = []
    role.reloader.tell = told.append

    def ask(expected):
        role.reloader.request()
        for _ in range(500):
            if len(told) == expected:
                return
            threading.Event().wait(0.01)

    role.file = settings(receive={"max_associations": 5})
    ask(1)
    role.reloader.request()  # nothing new
    threading.Event().wait(0.2)
    role.file = ConfigurationError(["receive.port: 0 was given"])
    ask(2)
    assert [(one.changed, one.errors) for one in told] == [
        (("receive.max_associations",), ()),
        ((), ("receive.port: 0 was given",)),
    ]


def test_requests_are_answered_in_a_file_that_goes_with_the_role(role, tmp_path):
    (started,) = outcomes(tmp_path)
    assert (started.role, started.ok, started.changed) == ("receive", True, ())
    role.file = settings(receive={"max_associations": 5})
    role.reloader.request()
    for _ in range(500):
        if outcomes(tmp_path)[0].changed:
            break
        threading.Event().wait(0.01)
    assert outcomes(tmp_path)[0].changed == ("receive.max_associations",)
    role.reloader.stop()
    assert outcomes(tmp_path) == []
