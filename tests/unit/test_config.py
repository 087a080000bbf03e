"""Settings."""

from __future__ import annotations

import pytest

from pacs_guard.config import load_settings
from pacs_guard.domain.policy import Fallback, Mode
from pacs_guard.errors import ConfigurationError

SHORT = """
[[sources]]
name = "ct"
ae_titles = ["CT1"]

[[destinations]]
name = "pacs"
ae_title = "PACS"
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    for key in ("PACS_GUARD_RECEIVE__PORT", "PACS_GUARD_SOURCES"):
        monkeypatch.delenv(key, raising=False)

    def load(text):
        path = tmp_path / "pacs-guard.toml"
        path.write_text(text)
        return load_settings(path)

    return load


def problems(load, text):
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    return caught.value.problems


def test_ten_lines_suffice(load):
    assert len(SHORT.strip().splitlines()) <= 10
    settings = load(SHORT)
    assert settings.receive.port == 11112
    assert settings.database_url == "sqlite:///pacs-guard-data/queue.sqlite"
    policy = settings.policies()["ct"]
    assert (policy.mode, policy.undetermined) == (Mode.ENFORCE, Fallback.FORWARD)
    assert settings.completeness.rule().quiet_seconds == 30
    assert settings.destinations[0].retry.policy().max_attempts == 50


def test_every_problem_is_reported_at_once_with_what_was_given(load):
    text = """
[receive]
port = 70000
colour = "red"
[ops]
log_level = "loud"
[completeness]
quiet_seconds = -1
[[sources]]
name = "ct"
ae_titles = ["A TITLE THAT IS TOO LONG"]
addresses = ["10.0.0.300"]
mode = "maybe"
"""
    found = problems(load, text)
    for key, given in {
        "receive.port": "70000",
        "receive.colour": "no such setting",
        "ops.log_level": "'loud'",
        "completeness.quiet_seconds": "-1",
        "sources.0.ae_titles.0": "'A TITLE THAT IS TOO LONG'",
        "sources.0.addresses.0": "'10.0.0.300'",
        "sources.0.mode": "'maybe'",
        "destinations": "at least one",
    }.items():
        assert any(line.startswith(f"{key}:") and given in line for line in found), (key, found)
    assert len(found) == 8


def test_everything_given_twice_is_reported_at_once(load):
    found = problems(load, SHORT + SHORT + "[ops]\nmetrics_port = 11112\n")
    assert len(found) == 4
    for part in ("'ct'", "'CT1'", "'pacs'", "both 11112"):
        assert sum(part in line for line in found) == 1


def test_empty_file_says_what_is_missing(load):
    assert problems(load, "") == [
        "sources: none is given; expected at least one [[sources]] table",
        "destinations: none is given; expected at least one [[destinations]] table",
    ]


def test_environment_wins_over_the_file(load, monkeypatch):
    monkeypatch.setenv("PACS_GUARD_RECEIVE__PORT", "4242")
    settings = load(SHORT + "[receive]\nport = 1\nmax_associations = 3\n")
    assert (settings.receive.port, settings.receive.max_associations) == (4242, 3)
    monkeypatch.setenv("PACS_GUARD_RECEIVE__PORT", "many")
    assert any("receive.port" in line and "'many'" in line for line in problems(load, SHORT))
    monkeypatch.setenv("PACS_GUARD_SOURCES", "not JSON")
    assert "sources" in problems(load, SHORT)[0]


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-5"])
def test_time_that_is_no_time_is_refused(load, value):
    assert problems(load, SHORT + f"[detect]\nlease_seconds = {value}\n")[0].startswith("detect.lease_seconds: ")


def test_file_that_cannot_be_read_or_is_no_toml_says_so(load, tmp_path):
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        load_settings(tmp_path / "none.toml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(tmp_path)
    assert "is not TOML" in problems(load, "port = = 5")[0]
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="is not TOML"):
        load_settings(tmp_path / "binary.toml")


def test_secrets_are_shown_neither_in_settings_nor_in_problems(load):
    text = '[node]\ndatabase_url = "postgresql+psycopg://u:hush@h/d"\n[webhook]\nurl = "https://x"\ntoken = "hush"\n'
    settings = load(SHORT + text)
    assert "hush" not in repr(settings)
    assert "hush" in settings.database_url
    assert not any("4711" in line for line in problems(load, SHORT + '[webhook]\nurl = "https://x"\ntoken = 4711\n'))


def test_settings_cannot_be_changed(load):
    settings = load(SHORT)
    with pytest.raises(ValueError, match="frozen"):
        settings.receive.port = 5


def test_a_hold_shorter_than_the_wait_for_a_whole_study_is_refused(load):
    text = SHORT.replace("[[destinations]]", "longest_hold_seconds = 60\n[[destinations]]")
    [problem] = problems(load, text)
    assert problem.startswith("sources: ct: longest_hold_seconds 60 was given; expected more than")


def test_a_node_that_would_deliver_to_itself_is_refused(load):
    assert problems(load, SHORT + "port = 11112\n") == [
        "destinations: pacs: 127.0.0.1:11112 is this node; expected a PACS"
    ]


def test_a_node_without_any_detector_is_refused_as_it_would_call_everything_clean(load):
    [problem] = problems(load, "[detect]\ndetectors = []\n" + SHORT)
    assert problem.startswith("detect.detectors: ")


def test_a_secret_can_come_from_a_file_or_from_the_environments_file(load, tmp_path, monkeypatch):
    (tmp_path / "url").write_text("postgresql+psycopg://u:geheim@db/q\n")
    (tmp_path / "token").write_text("geheim")
    monkeypatch.setenv("PACS_GUARD_NODE__DATABASE_URL_FILE", str(tmp_path / "url"))
    found = load(SHORT + f'[webhook]\nurl = "https://a"\ntoken_file = "{tmp_path / "token"}"\n')
    assert found.database_url == "postgresql+psycopg://u:geheim@db/q"
    assert found.webhook.token.get_secret_value() == "geheim"
    assert "geheim" not in found.model_dump_json() + repr(found)


def test_a_secret_that_is_given_twice_or_cannot_be_read_is_named_without_its_value(load, tmp_path):
    text = SHORT + f'[ops]\nmetrics_user = "p"\nmetrics_password = "geheim"\nmetrics_password_file = "{tmp_path}"\n'
    assert problems(load, text) == [
        "ops: metrics_password and metrics_password_file are both given; expected one of them"
    ]
    (found,) = problems(load, SHORT + f'[webhook]\nurl = "https://a"\ntoken_file = "{tmp_path}/none"\n')
    assert found.startswith(f"webhook: token_file: '{tmp_path}/none' was given; it cannot be read")


def test_user_and_password_certificate_and_key_belong_together(load):
    assert problems(load, SHORT + '[ops]\nmetrics_user = "p"\nmetrics_key_file = "k"\n') == [
        "ops: metrics_user and metrics_password: one of them was given; expected both or neither",
        "ops: metrics_cert_file and metrics_key_file: one of them was given; expected both or neither",
    ]


OWN = '[tls]\ncert_file = "own.pem"\nkey_file = "own.key"\nca_file = "ca.pem"\n'


def test_tls_takes_what_the_node_has_unless_a_destination_has_its_own(load):
    settings = load(f'{SHORT}tls = true\n{OWN}[receive.tls]\n[results.destination]\nname="r"\nae_title="R"\ntls=true\n')
    assert settings.receive.ports == (11112, 2762)
    assert settings.receive.tls.client_certificates == "required"
    for found in (settings.destinations[0].tls, settings.results.destination.tls):
        assert [str(one) for one in (found.cert_file, found.key_file, found.ca_file)] == [
            "own.pem",
            "own.key",
            "ca.pem",
        ]
    assert load(f"{SHORT}tls = false\n").destinations[0].tls is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[receive]\nplain = false\n", "receive: plain is false and there is no tls"),
        ("[receive]\nport = 2762\n[receive.tls]\n" + OWN, "port and tls.port are both 2762"),
        ("[receive.tls]\n", "tls.cert_file is not given; expected a file, as receive.tls is there"),
        ("[tls]\ncert_file = 'a.pem'\n", "tls: cert_file and key_file: one of them was given"),
        ("[tls]\ncrl_file = 'a.pem'\n", "tls: crl_file was given without ca_file"),
        ("[ops]\nmetrics_port = 2762\n[receive.tls]\n" + OWN, "receive.tls.port and ops.metrics_port are both 2762"),
        ("tls = { certificates = ['sha256:12'] }\n", "'sha256:12' was given; expected sha256: and the 64"),
        ("tls = { certificates = ['ct1'] }\n", "or dns:, ip: or cn: and a name"),
    ],
)
def test_tls_settings_that_do_not_fit_say_so(load, text, problem):
    assert any(problem in line for line in problems(load, SHORT + text)), problems(load, SHORT + text)


def test_a_source_with_a_certificate_needs_a_port_that_asks_for_one(load):
    colons = ":".join(["AB"] * 32)
    bound = SHORT.replace('["CT1"]', f'["CT1"]\ncertificates = ["sha256:{colons}"]')
    assert any("expected receive.tls too" in line for line in problems(load, bound))
    assert load(f"{bound}{OWN}[receive.tls]\n").sources[0].certificates == (f"sha256:{'ab' * 32}",)
