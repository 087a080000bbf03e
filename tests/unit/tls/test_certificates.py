from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from pacs_guard.errors import ConfigurationError
from pacs_guard.tls.certificates import certificate, read_certificates, read_revocation_lists
from tests.authority import DAY, NOW, Authority


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def test_a_certificate_is_known_by_its_fingerprint_and_its_names(authority):
    made = authority.issue("CT1.example.org", addresses=("10.1.2.3", "::1"), days=10)
    found = certificate(made.certificate.public_bytes(Encoding.DER))
    assert found.names == {
        made.fingerprint,
        "cn:CT1.example.org",
        "dns:ct1.example.org",
        "ip:10.1.2.3",
        "ip:::1",
    }
    assert found.fingerprint == made.fingerprint
    assert found.subject == "CN=CT1.example.org"
    assert found.not_after == pytest.approx((NOW + 10 * DAY).timestamp(), abs=1)
    assert found.is_one_of(("dns:other", "ip:10.1.2.3"))
    assert not found.is_one_of(("dns:other",))
    assert not found.is_one_of(())


def test_every_certificate_of_a_file_is_read(authority, tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes(authority.issue("a").cert_file.read_bytes() + authority.ca_file.read_bytes())
    assert [one.subject for one in read_certificates(both, "tls.cert_file")] == ["CN=a", "CN=Test CA"]


@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_what_is_expected_is_named(tmp_path, content):
    file = tmp_path / "some.pem"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"^tls.ca_file: .*some.pem: no certificate in PEM"):
        read_certificates(file, "tls.ca_file")
    with pytest.raises(ConfigurationError, match=r"^tls.crl_file: .*some.pem: no .*revocation list"):
        read_revocation_lists(file, "tls.crl_file")
    with pytest.raises(ConfigurationError, match=r"^tls.ca_file: .* cannot be read: No such file"):
        read_certificates(tmp_path / "gone", "tls.ca_file")


def test_revocation_lists_tell_when_the_next_is_due(authority):
    (due,) = read_revocation_lists(authority.revoke(days=3), "tls.crl_file")
    assert due == pytest.approx((NOW + 3 * DAY).timestamp(), abs=1)
