"""DICOM TLS as an acceptor: real peers, and peers with everything that can be wrong with a certificate."""

from __future__ import annotations

import json
import socket
import ssl
import time

import pytest

from pacs_guard.errors import ConfigurationError
from pacs_guard.queue import schema
from tests.authority import Authority
from tests.integration.peers import (
    dataset_bytes,
    free_port,
    needs_dcmtk,
    needs_orthanc,
    orthanc,
    run_echoscu,
    run_storescu,
    wait_until,
)
from tests.integration.receiving import associate, associated, node, send_raw
from tests.integration.samples import encoded, make_data_set, make_instances


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority):
    """The node's own identity."""
    return authority.issue("localhost")


def settings_of(authority, own, **more):
    return {**own.as_settings(), "ca_file": str(authority.ca_file), **more}


@pytest.fixture
def secure(tmp_path, authority, own):
    """Run a node that listens for TLS; gives what `node` gives, with `port` that for TLS."""

    def run(*, tls=None, source=None, plain=False, client_certificates="required", **receive):
        listening = {"port": free_port(), "client_certificates": client_certificates}
        return node(
            tmp_path,
            identity=settings_of(authority, own, **(tls or {})),
            source=source,
            plain=plain,
            **{"acse_timeout_seconds": 5, **receive, "tls": listening},
        )

    return run


def tls_port(running) -> int:
    return running.settings.receive.tls.port


def client(authority, identity=None, *, newest=None, oldest=None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    if identity is not None:
        context.load_cert_chain(identity.cert_file, identity.key_file)
    if oldest is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = oldest
    if newest is not None:
        context.maximum_version = newest
    return context


def dcmtk_options(authority, identity, *more: str) -> tuple[str, ...]:
    return ("+tls", str(identity.key_file), str(identity.cert_file), "+cf", str(authority.ca_file), *more)


def audited(running) -> list[dict]:
    return [
        json.loads(row["facts"]) if isinstance(row["facts"], str) else row["facts"]
        for row in running.rows(schema.audit_events)
        if row["event"] == "association_refused"
    ]


@needs_dcmtk
@pytest.mark.parametrize("transport", ["fast", "stock"])
def test_dcmtk_sends_over_tls_and_every_byte_is_kept(tmp_path, secure, authority, transport):
    files = make_instances(tmp_path / "sent", count=3)
    scanner = authority.issue("ct1")
    with secure(transport=transport, source={"certificates": [scanner.fingerprint]}) as running:
        done = run_storescu(tls_port(running), files, options=("-v", "-R", *dcmtk_options(authority, scanner)))
        assert done.returncode == 0, done.stderr
        assert sorted(running.data_sets()) == sorted(dataset_bytes(file) for file in files)
        expires = scanner.certificate.not_valid_after_utc.timestamp()
        assert running.metrics.certificates == {"ct1": expires}
        [opened] = [row["facts"] for row in running.rows(schema.audit_events) if row["event"] == "association_opened"]
        assert opened["certificate"] == "CN=ct1"
    assert not running.metrics.refused


@needs_orthanc
def test_orthanc_sends_over_tls(tmp_path, secure, authority):
    file = make_instances(tmp_path / "sent", count=1)[0]
    peer = authority.issue("orthanc")
    with secure(source={"certificates": ["cn:orthanc"], "ae_titles": ["ORTHANC"]}) as running:
        modality = {
            "AET": "PACSGUARD",
            "Host": "127.0.0.1",
            "Port": tls_port(running),
            "UseDicomTls": True,
        }
        tls = {
            "DicomTlsCertificate": str(peer.cert_file),
            "DicomTlsPrivateKey": str(peer.key_file),
            "DicomTlsTrustedCertificates": str(authority.ca_file),
        }
        with orthanc(tmp_path / "orthanc", DicomModalities={"node": modality}, **tls) as sender:
            instance = sender.post("/instances", file.read_bytes()).json()["ID"]
            sender.post("/modalities/node/echo", b"{}")
            sender.post("/modalities/node/store", instance.encode())
            assert running.data_sets() == [dataset_bytes(sender.file(instance))]


WRONG = {
    "expired": (lambda ca, _: ca.issue("ct1", begins=-3, days=-1), "tls_certificate_expired"),
    "not yet valid": (lambda ca, _: ca.issue("ct1", begins=1, days=3), "tls_certificate_not_yet_valid"),
    "another authority": (lambda _, folder: Authority(folder / "other").issue("ct1"), "tls_certificate_untrusted"),
    "none": (lambda *_: None, "tls_certificate_missing"),
}


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_that_cannot_be_trusted_is_refused_with_its_reason(tmp_path, secure, authority, newest):
    with secure() as running:
        for make, _ in WRONG.values():
            context = client(authority, make(authority, tmp_path), newest=newest)
            assert not associate(tls_port(running), tls=context).is_established
        expected = [reason for _, reason in WRONG.values()]
        wait_until(lambda: len(audited(running)) == len(expected), what="the audit events")
        assert running.metrics.refused == expected
        assert [facts["reason"] for facts in audited(running)] == expected
        assert {facts["address"] for facts in audited(running)} == {"127.0.0.1"}
        good = client(authority, authority.issue("ct1"), newest=newest)
        with associated(tls_port(running), tls=good) as association:
            assert association.dul.socket.socket.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[newest.name]
            assert association.dul.socket.socket.compression() is None


def test_a_revoked_certificate_is_refused_and_so_is_an_old_list(secure, tmp_path):
    authority = Authority(tmp_path / "own")
    own, good, bad = (authority.issue(name) for name in ("localhost", "ct1", "ct1"))
    crl = authority.revoke(bad)
    with secure(tls={**own.as_settings(), "ca_file": str(authority.ca_file), "crl_file": str(crl)}) as running:
        assert not associate(tls_port(running), tls=client(authority, bad)).is_established
        with associated(tls_port(running), tls=client(authority, good)):
            pass
        authority.revoke(bad, days=-0.5)
        running.receiver.reconfigure(running.settings)
        assert not associate(tls_port(running), tls=client(authority, good)).is_established
        wait_until(lambda: len(running.metrics.refused) == 2, what="two refusals")
    assert running.metrics.refused == ["tls_certificate_revoked", "tls_revocation_list_unusable"]


@pytest.mark.parametrize("name", ["fingerprint", "dns:ct1", "cn:ct1", "ip:127.0.0.1"])
def test_a_source_is_bound_to_its_certificate(secure, authority, name):
    scanner, other = authority.issue("ct1"), authority.issue("ct2", addresses=())
    bound = scanner.fingerprint.upper().replace("SHA256", "sha256") if name == "fingerprint" else name
    with secure(source={"certificates": [bound]}, plain=True, client_certificates="optional") as running:
        with associated(tls_port(running), tls=client(authority, scanner)):
            pass
        plain = (running.port, None)
        for port, context in (*((tls_port(running), client(authority, one)) for one in (other, None)), plain):
            refused = associate(port, tls=context)
            assert refused.is_rejected
            assert refused.acceptor.primitive.result_str == "Rejected Permanent"
        reasons = ["certificate_not_bound", "certificate_missing", "certificate_missing"]
        assert running.metrics.refused == reasons
        wait_until(lambda: audited(running), what="the audit event")
        assert audited(running)[0]["certificate"] == "CN=ct2"


def test_who_does_not_speak_tls_as_it_must_be_is_told_apart(secure, authority):
    good = authority.issue("ct1")
    with secure() as running:
        port = tls_port(running)
        old = client(authority, good, oldest=ssl.TLSVersion.TLSv1_1, newest=ssl.TLSVersion.TLSv1_1)
        assert not associate(port, tls=old).is_established
        assert not associate(port).is_established
        weak = client(authority, good, newest=ssl.TLSVersion.TLSv1_2)
        weak.set_ciphers("AES128-SHA256")
        assert not associate(port, tls=weak).is_established
        wait_until(lambda: len(running.metrics.refused) == 3, what="three refusals")
    assert running.metrics.refused == ["tls_version", "tls_not_spoken", "tls_cipher_suite"]


def test_a_silent_handshake_holds_up_nobody_and_ends_in_time(secure, authority):
    with secure(acse_timeout_seconds=1.0, max_associations=4) as running:
        silent = [socket.create_connection(("127.0.0.1", tls_port(running))) for _ in range(8)]
        silent[-1].sendall(b"\x16\x03\x01")
        started = time.monotonic()
        with associated(tls_port(running), tls=client(authority, authority.issue("ct1"))):
            assert time.monotonic() - started < 0.9
        for one in silent:
            one.settimeout(5)
            assert one.recv(100)[:1] in {b"", b"\x15"}
            one.close()
        wait_until(lambda: len(running.metrics.refused) == 8, what="all silent ones counted")
    assert running.metrics.refused.count("tls_handshake_timeout") >= 3
    assert time.monotonic() - started < 5


def test_half_a_record_holds_up_no_end(secure, authority):
    """A peer that stops within a TLS record is aborted when it has been silent for too long."""
    with secure(transport="fast", network_timeout_seconds=1.0) as running:
        association = associate(tls_port(running), tls=client(authority, authority.issue("ct1")))
        beneath = association.dul.socket.socket
        socket.socket.send(beneath, b"\x17\x03\x03\x40\x00" + bytes(100))
        wait_until(lambda: running.receiver.open_associations == 0, seconds=5, what="the end of the association")
        association.abort()


def test_certificates_are_renewed_without_dropping_an_association(tmp_path, secure):
    old, new = Authority(tmp_path / "old"), Authority(tmp_path / "new")
    first, second = old.issue("localhost"), new.issue("localhost")
    files = {name: tmp_path / name for name in ("cert_file", "key_file", "ca_file")}

    def put(authority, identity):
        for name, source in (("cert_file", identity.cert_file), ("key_file", identity.key_file)):
            files[name].write_bytes(source.read_bytes())
        files["ca_file"].write_bytes(authority.ca_file.read_bytes())

    put(old, first)
    with secure(tls={name: str(path) for name, path in files.items()}) as running:
        content = encoded(data_set := make_data_set("1.2.3.100", "1.2.3.200", 1))
        with associated(tls_port(running), tls=client(old, old.issue("ct1"))) as association:
            put(new, second)
            running.receiver.reconfigure(running.settings)
            assert send_raw(association, content, sop_uid=data_set.SOPInstanceUID).Status == 0
            with associated(tls_port(running), tls=client(new, new.issue("ct1"))):
                assert running.receiver.open_associations == 2
            assert not associate(tls_port(running), tls=client(old, old.issue("ct1"))).is_established
            files["key_file"].write_bytes(first.key_file.read_bytes())
            with pytest.raises(ConfigurationError, match="not the key of the certificate"):
                running.receiver.reconfigure(running.settings)
            with associated(tls_port(running), tls=client(new, new.issue("ct1"))):
                pass


def test_an_encrypted_key_is_opened_with_its_password(secure, authority, tmp_path):
    locked = authority.issue("localhost", password="open sesame")  # noqa: S106  # of this test only
    (tmp_path / "password").write_text("open sesame\n")
    opened = {**locked.as_settings(), "key_password_file": str(tmp_path / "password")}
    context = client(authority, authority.issue("ct1"))
    with secure(tls=opened) as running, associated(tls_port(running), tls=context):
        pass
    for wrong in ({}, {"key_password": "wrong"}):
        running = secure(tls={**locked.as_settings(), **wrong})
        with pytest.raises(ConfigurationError, match=r"tls.key_file: .*cannot be opened"), running:
            pass


@needs_dcmtk
def test_echoscu_over_tls(secure, authority):
    with secure(transport="fast") as running:
        done = run_echoscu(tls_port(running), options=("-v", *dcmtk_options(authority, authority.issue("ct1"))))
        assert done.returncode == 0, done.stderr


def test_a_large_instance_arrives_whole(secure, authority):
    """More than the buffers of all layers together, in records of every size."""
    data_set = make_data_set("1.2.3.100", "1.2.3.200", 1, rows=1500)
    with secure(transport="fast") as running:
        for size in (1000, 16378, 200_000):
            data_set.SOPInstanceUID = f"1.2.3.{size}"
            with associated(tls_port(running), tls=client(authority, authority.issue("ct1"))) as association:
                answer = send_raw(association, encoded(data_set), sop_uid=data_set.SOPInstanceUID, size=size)
                assert answer.Status == 0
        assert len(running.data_sets()) == 3
