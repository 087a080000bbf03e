"""A certificate authority of the tests' own, and certificates with whatever is wrong with them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key, in files and as the library's objects."""

    cert_file: Path
    key_file: Path
    certificate: x509.Certificate

    @property
    def fingerprint(self) -> str:
        return f"sha256:{self.certificate.fingerprint(hashes.SHA256()).hex()}"

    def as_settings(self) -> dict[str, str]:
        return {"cert_file": str(self.cert_file), "key_file": str(self.key_file)}


class Authority:
    """Signs certificates; all files are in `folder`."""

    def __init__(self, folder: Path, name: str = "Test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        own = (
            self._builder(self._name, self._key.public_key(), NOW - DAY, NOW + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
        ).sign(self._key, hashes.SHA256())
        self.ca_file = folder / "ca.pem"
        self.ca_file.write_bytes(own.public_bytes(Encoding.PEM))

    def issue(
        self,
        name: str = "localhost",
        *,
        days: float = 365.0,
        begins: float = -1.0,
        password: str | None = None,
        addresses: tuple[str, ...] = ("127.0.0.1",),
    ) -> Identity:
        """Return a new identity that holds from `begins` days until `days` days from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(one)) for one in addresses)]
        certificate = (
            self._builder(subject, key.public_key(), NOW + begins * DAY, NOW + days * DAY)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
        ).sign(self._key, hashes.SHA256())
        stem = f"{name}-{certificate.serial_number:x}"[:60]
        cert_file, key_file = self.folder / f"{stem}.pem", self.folder / f"{stem}.key"
        cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.touch(0o600)
        encryption = BestAvailableEncryption(password.encode()) if password else NoEncryption()
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return Identity(cert_file, key_file, certificate)

    def revoke(self, *identities: Identity, days: float = 30.0) -> Path:
        """Return the file of a revocation list that names some of its certificates."""
        builder = x509.CertificateRevocationListBuilder().issuer_name(self._name)
        builder = builder.last_update(min(NOW, NOW + days * DAY) - DAY).next_update(NOW + days * DAY)
        for one in identities:
            entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(NOW)
            builder = builder.add_revoked_certificate(entry.build())
        crl_file = self.folder / "crl.pem"
        crl_file.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return crl_file

    def _builder(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        begins: dt.datetime,
        ends: dt.datetime,
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )


def both_sides(folder: Path) -> tuple[dict[str, str], ssl.SSLContext]:
    """Return the settings of a side that accepts, and a context of one that calls it."""
    authority = Authority(folder)
    caller = authority.issue("caller")
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.load_cert_chain(caller.cert_file, caller.key_file)
    return {**authority.issue().as_settings(), "ca_file": str(authority.ca_file)}, context
