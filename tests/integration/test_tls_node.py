"""A whole node that speaks TLS on both sides, whose certificates are renewed while it runs."""

from __future__ import annotations

import tomllib

from pydicom import dcmread

from tests.authority import Authority
from tests.integration.node import running, write_config
from tests.integration.peers import (
    dataset_bytes,
    free_port,
    needs_dcmtk,
    run_echoscu,
    run_storescu,
    storescp,
)
from tests.integration.samples import make_instances

SETTINGS = """
tls = true

[tls]
cert_file = "{folder}/own.pem"
key_file = "{folder}/own.key"
ca_file = "{folder}/trusted.pem"

[receive.tls]
port = {port}
"""


def install(folder, identity, *authorities):
    folder.mkdir(exist_ok=True)
    (folder / "own.pem").write_bytes(identity.cert_file.read_bytes())
    (folder / "own.key").write_bytes(identity.key_file.read_bytes())
    (folder / "trusted.pem").write_bytes(b"".join(one.ca_file.read_bytes() for one in authorities))


def as_scu(identity, authority):
    return ("-v", "+tls", str(identity.key_file), str(identity.cert_file), "+cf", str(authority.ca_file))


@needs_dcmtk
def test_studies_pass_over_tls_and_certificates_are_renewed_while_the_node_runs(tmp_path):
    old, new = Authority(tmp_path / "old", "Old"), Authority(tmp_path / "new", "New")
    scanner, pacs, renewed = old.issue("ct1"), old.issue("pacs"), new.issue("ct1")
    install(tmp_path / "tls", old.issue("localhost", days=20), old)
    port = free_port()
    files = make_instances(tmp_path / "sent", count=2)
    options = ("+xa", "+tls", str(pacs.key_file), str(pacs.cert_file), "+cf", str(old.ca_file))
    bound = f'certificates = ["{scanner.fingerprint}", "{renewed.fingerprint}"]'
    with storescp(tmp_path / "pacs", ae_title="PACS", options=options) as archive:
        extra = SETTINGS.format(folder=tmp_path / "tls", port=port)
        config = write_config(tmp_path / "node", {"pacs": ("PACS", archive.port)}, source=bound, extra=extra)
        with running(config) as node:
            checked = node.command("config", "check")
            assert f"{tomllib.loads(config.read_text())['receive']['port']} and {port} (TLS)" in checked.stdout
            assert "warning: tls.cert_file: " in checked.stderr
            found = {one["what"]: one for one in node.ask("doctor")}
            assert "over TLS" in found["destination pacs"]["detail"]
            assert "RENEW IT" in found["tls.cert_file"]["detail"]

            sent = run_storescu(port, files, options=("-R", *as_scu(scanner, old)))
            assert sent.returncode == 0, sent.stderr
            assert run_storescu(node.port, files).returncode != 0  # without a certificate
            node.wait_for(str(dcmread(files[0]).StudyInstanceUID), "delivered")
            assert sorted(archive.data_sets()) == sorted(dataset_bytes(file) for file in files)

            install(tmp_path / "tls", new.issue("localhost"), new)
            shown = node.command("reload").stdout
            assert "receive: changed tls.ca_file, tls.cert_file\n" in shown
            assert "deliver: changed tls.ca_file, tls.cert_file\n" in shown
            assert run_echoscu(port, calling="CT1", options=as_scu(renewed, new)).returncode == 0
            assert run_echoscu(port, calling="CT1", options=as_scu(scanner, new)).returncode != 0

            metrics = node.metrics()
            assert 'pacs_guard_certificate_expiry_timestamp_seconds{file="' in metrics
            shown = metrics.partition('pacs_guard_source_certificate_expiry_timestamp_seconds{source="ct-1"} ')[2]
            assert float(shown.split("\n")[0]) == renewed.certificate.not_valid_after_utc.timestamp()
            for reason in ("certificate_missing", "tls_certificate_untrusted"):
                assert f'pacs_guard_associations_refused_total{{reason="{reason}"}} 1.0' in metrics
            trail = node.command("audit", "export").stdout
            assert "Security Configuration" in trail
            assert "tls_certificate_untrusted" in trail
