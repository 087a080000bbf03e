from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from pacs_guard.config import Settings
from pacs_guard.errors import ConfigurationError
from pacs_guard.ops.certificate_metrics import CertificateCollector
from pacs_guard.tls.inventory import certificate_files, check_certificates, warnings
from tests.authority import NOW, Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def settings(authority, own, **more):
    return Settings(
        tls={**own.as_settings(), "ca_file": str(authority.ca_file), **more},
        receive={"tls": {}},
        sources=[{"name": "ct", "ae_titles": ["CT"]}],
        destinations=[{"name": "pacs", "ae_title": "PACS", "tls": True}],
    )


def test_every_file_is_looked_at_once(authority):
    made = settings(authority, authority.issue("node"), crl_file=str(authority.revoke()))
    assert [one.setting for one in certificate_files(made)] == ["tls.cert_file", "tls.ca_file", "tls.crl_file"]
    check_certificates(made)
    assert warnings(made, NOW.timestamp() - 86400) == []


def test_what_ends_soon_is_told_before_it_does(authority):
    made = settings(authority, authority.issue("node", days=20), crl_file=str(authority.revoke(days=-1)))
    first, second = warnings(made, NOW.timestamp())
    assert first.startswith("tls.cert_file: ")
    assert "ends in 20.0 days; renew it" in first
    assert "tls.crl_file" in second
    assert "ended 1.0 days ago" in second


def test_every_file_that_cannot_be_used_is_told_in_one_go(authority, tmp_path):
    other = authority.issue("other")
    made = settings(authority, authority.issue("node"), key_file=str(other.key_file))
    with pytest.raises(ConfigurationError) as refused:
        check_certificates(made)
    assert [line.split(": ")[0] for line in refused.value.problems] == ["tls.key_file", "pacs"]
    assert all("is not the key of the certificate" in line for line in refused.value.problems)
    lost = settings(authority, authority.issue("node"), ca_file=str(tmp_path / "gone.pem"))
    with pytest.raises(ConfigurationError, match=r"tls.ca_file: .*gone.pem cannot be read"):
        check_certificates(lost)


def test_a_metric_says_when_each_file_ends(authority, tmp_path):
    own = authority.issue("node", days=20)
    made = settings(authority, own, ca_file=str(tmp_path / "gone.pem"))
    registry = CollectorRegistry()
    registry.register(CertificateCollector(lambda: certificate_files(made)))
    name = "pacs_guard_certificate_expiry_timestamp_seconds"
    found = registry.get_sample_value(name, {"setting": "tls.cert_file", "file": str(own.cert_file)})
    assert found == own.certificate.not_valid_after_utc.timestamp()
    assert registry.get_sample_value(name, {"setting": "tls.ca_file", "file": str(tmp_path / "gone.pem")}) == 0.0


def test_a_key_that_everybody_can_read_is_told_once(authority):
    own = authority.issue("node")
    made = settings(authority, own)
    assert warnings(made, NOW.timestamp()) == []
    own.key_file.chmod(0o644)
    assert warnings(made, NOW.timestamp()) == [f"tls.key_file: {own.key_file} can be read by everybody; chmod o-r"]
