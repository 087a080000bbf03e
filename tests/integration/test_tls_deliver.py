"""DICOM TLS as a requestor: DCMTK's storescp, Orthanc, and peers that are not who they should be."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import uuid
from contextlib import contextmanager

import pytest

from pacs_guard.config import Settings
from pacs_guard.deliver.echo import echo
from pacs_guard.deliver.secure import CERTIFICATES
from pacs_guard.errors import ConfigurationError, TransientDeliveryError
from tests.authority import Authority
from tests.integration import peers
from tests.integration.delivering import Node, pacs, part10


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority):
    return authority.issue("guard")


@pytest.fixture(params=["fast", "stock"])
def node(request, tmp_path):
    node = Node(tmp_path)
    node.transport = request.param
    yield node
    assert node.metrics.errors == []
    node.database.close()


@pytest.fixture
def study():
    return f"2.25.{uuid.uuid4().int % 10**30 + 1}"


def tls(authority, identity=None, **more):
    known = identity.as_settings() if identity is not None else {}
    return {**known, "ca_file": str(authority.ca_file), **more}


def ask(destination):
    echo(Settings(sources=[{"name": "a", "ae_titles": ["A"]}], destinations=[destination.model_dump()]), destination)


def data_sets(contents):
    return sorted(peers.dataset_bytes(content) for content in contents)


@peers.needs_dcmtk
def test_storescp_takes_every_byte_over_tls(node, study, tmp_path, authority, own):
    sent = [part10(study=study), part10("MR_small_RLE.dcm", study=study)]
    peer = authority.issue("pacs")
    options = ("+xa", "+tls", str(peer.key_file), str(peer.cert_file), "+cf", str(authority.ca_file))
    with peers.storescp(tmp_path / "pacs", options=options) as scp:
        number = node.forward(*sent)
        expected = tls(authority, own, certificates=[peer.fingerprint])
        with node.deliverer(pacs(scp.port, tls=expected)):
            node.wait_for(number, "delivered")
        assert data_sets(file.read_bytes() for file in scp.files()) == data_sets(sent)


@peers.needs_orthanc
def test_orthanc_takes_every_byte_over_tls_and_answers_an_echo(node, study, tmp_path, authority, own):
    sent = [part10(study=study)]
    peer = authority.issue("orthanc")
    configuration = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(peer.cert_file),
        "DicomTlsPrivateKey": str(peer.key_file),
        "DicomTlsTrustedCertificates": str(authority.ca_file),
    }
    with peers.orthanc(tmp_path / "orthanc", **configuration) as orthanc:
        destination = pacs(orthanc.dicom_port, tls=tls(authority, own))
        number = node.forward(*sent)
        with node.deliverer(destination):
            node.wait_for(number, "delivered")
        assert list(orthanc.data_sets().values()) == data_sets(sent)
        if node.transport == "stock":
            ask(destination)
            with pytest.raises(TransientDeliveryError):
                ask(pacs(orthanc.dicom_port, tls=tls(authority)))


@contextmanager
def peer_with(identity, authority, *, newest=None):
    """Run a peer that does TLS handshakes, one after another, and nothing more."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.ca_file))
    context.load_cert_chain(identity.cert_file, identity.key_file)
    context.verify_mode = ssl.CERT_REQUIRED
    if newest is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest

    def run():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as secured:
                    secured.recv(10)
            except OSError:
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def expired(authority, _folder):
    return authority.issue("pacs", begins=-3, days=-1)


WRONG = {
    "expired": (expired, {}, "its certificate has expired"),
    "another authority": (
        lambda _, folder: Authority(folder / "other", "Other").issue("pacs"),
        {},
        "not signed by an authority of ca_file",
    ),
    "another name": (lambda ca, _: ca.issue("elsewhere", addresses=()), {}, "its certificate is for another name"),
    "server_name": (lambda ca, _: ca.issue("pacs"), {"server_name": "archive"}, "its certificate is for another name"),
    "fingerprint": (
        lambda ca, _: ca.issue("pacs"),
        {"certificates": [f"sha256:{'ab' * 32}"]},
        r"its certificate is sha256:\w{64} \(CN=pacs\); expected sha256:abab",
    ),
    "no certificate of ours": (
        lambda ca, _: ca.issue("pacs"),
        {"cert_file": None, "key_file": None},
        "certificate required",
    ),
}


@pytest.mark.parametrize(("make", "more", "said"), WRONG.values(), ids=WRONG)
def test_a_peer_that_cannot_be_trusted_gets_nothing_and_the_reason_is_told(
    node, study, tmp_path, authority, own, make, more, said
):
    number = node.forward(part10(study=study))
    with peer_with(make(authority, tmp_path), authority) as port:
        with node.deliverer(pacs(port, tls=tls(authority, own, **more))):
            peers.wait_until(lambda: last_error(node) is not None, what="an error")
        assert node.state(number) == "forwarding"
    assert re.search(said, last_error(node)), last_error(node)


def last_error(node) -> str | None:
    with node.database.read() as connection:
        return connection.exec_driver_sql("SELECT last_error FROM deliveries").scalar()


@pytest.mark.parametrize(
    ("more", "fits"),
    [
        ({"server_name": "pacs"}, True),
        ({"check_name": False}, True),
        ({"certificates": ["dns:pacs"]}, True),  # known by more than its address: the name called does not matter
        ({}, False),
    ],
)
def test_the_name_that_is_expected_can_be_chosen(authority, own, more, fits):
    identity = authority.issue("pacs", addresses=())
    with peer_with(identity, authority) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        destination = pacs(port, tls=tls(authority, own, **more))
        context = CERTIFICATES.context(destination)
        name = destination.tls.server_name or destination.host
        if fits:
            with context.wrap_socket(connection, server_hostname=name) as secured:
                assert secured.version() == "TLSv1.3"
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                context.wrap_socket(connection, server_hostname=name)


def test_a_peer_of_an_older_age_is_refused(authority, own):
    with peer_with(authority.issue("pacs"), authority, newest=ssl.TLSVersion.TLSv1_1) as port:
        destination = pacs(port, tls=tls(authority, own))
        with pytest.raises(TransientDeliveryError, match=r"speaks nothing as new as TLS 1.2"):
            ask(destination)


def test_a_peer_without_tls_is_told_apart(authority, own):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run():
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x07\0\0\0\0\x04\0\0\0\0")
                connection.recv(1000)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        destination = pacs(listener.getsockname()[1], tls=tls(authority, own))
        with pytest.raises(TransientDeliveryError, match="does not speak TLS here"):
            ask(destination)
        thread.join(10)


def test_certificates_are_read_again_on_reload_and_stay_if_they_cannot_be_used(tmp_path):
    authority = Authority(tmp_path)
    first, second = authority.issue("guard"), authority.issue("guard")
    cert_file, key_file = tmp_path / "own.pem", tmp_path / "own.key"
    for file, source in ((cert_file, first.cert_file), (key_file, first.key_file)):
        file.write_bytes(source.read_bytes())
    settings = Settings(
        sources=[{"name": "a", "ae_titles": ["A"]}],
        destinations=[
            {
                "name": "pacs",
                "ae_title": "PACS",
                "tls": {"cert_file": cert_file, "key_file": key_file, "ca_file": authority.ca_file},
            }
        ],
    )
    [destination] = settings.destinations
    before = CERTIFICATES.context(destination)
    assert CERTIFICATES.context(destination) is before
    cert_file.write_bytes(second.cert_file.read_bytes())
    with pytest.raises(ConfigurationError, match=r"pacs: tls.key_file: .* is not the key of the certificate"):
        CERTIFICATES.renew(settings)
    assert CERTIFICATES.context(destination) is before
    key_file.write_bytes(second.key_file.read_bytes())
    CERTIFICATES.renew(settings)
    assert CERTIFICATES.context(destination) is not before


def test_a_destination_takes_what_it_does_not_say_from_the_node(authority, own):
    settings = Settings(
        tls=tls(authority, own),
        sources=[{"name": "a", "ae_titles": ["A"]}],
        destinations=[
            {"name": "plain", "ae_title": "PACS"},
            {"name": "simple", "ae_title": "PACS", "tls": True},
            {"name": "other", "ae_title": "PACS", "tls": {"ca_file": "other.pem"}},
        ],
    )
    plain, simple, other = settings.destinations
    assert plain.tls is None
    assert simple.tls.model_dump(include={"cert_file", "key_file", "ca_file"}) == settings.tls.model_dump(
        include={"cert_file", "key_file", "ca_file"}
    )
    assert (other.tls.cert_file, str(other.tls.ca_file)) == (own.cert_file, "other.pem")
