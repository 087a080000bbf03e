"""DICOM TLS, in both directions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, model_validator

from pacs_guard.config.section import CertificateName, Port, Section, raise_all


class TlsSettings(Section):
    """DICOM TLS: the node's own certificate, and whom it trusts, in both directions; files in PEM.

    Attributes
    ----------
    cert_file, key_file : Path or None
        The node's certificate, with those between it and its authority, and its key.
    key_password : str or None
        Opens the key.
    ca_file : Path or None
        The authorities that sign the peers' certificates.
    crl_file : Path or None
        Their revocation lists; with it, a certificate whose authority's list is not there or out of date is refused.
    """

    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None
    ca_file: Path | None = None
    crl_file: Path | None = None

    @model_validator(mode="after")
    def _fit(self) -> Self:
        problems = []
        if (self.cert_file is None) != (self.key_file is None):
            problems.append("cert_file and key_file: one of them was given; expected both or neither")
        if self.crl_file is not None and self.ca_file is None:
            problems.append("crl_file was given without ca_file; expected the authorities that it is of")
        raise_all(problems)
        return self


class ReceiveTlsSettings(Section):
    """A second port, where associations are opened over TLS only.

    Attributes
    ----------
    port : int
        2762 is registered for it (PS3.8 9.1.1).
    client_certificates : str
        ``required``: nobody gets further without one that is trusted; ``optional``: only sources with `certificates`
        need one.
    """

    port: Port = 2762
    client_certificates: Literal["required", "optional"] = "required"


class DestinationTlsSettings(TlsSettings):
    """How a destination is called over TLS; what is not given is that of ``[tls]``.

    Attributes
    ----------
    server_name : str or None
        Name that its certificate must have; `host` by default.
    check_name : bool
        Whether that name is looked at; with `certificates` and no `server_name` it is not.
    certificates : tuple of str
        What its certificate must be known by, one of them: ``sha256:…``, ``dns:…``, ``ip:…`` or ``cn:…``.
    """

    server_name: Annotated[str, Field(min_length=1)] | None = None
    check_name: bool = True
    certificates: tuple[CertificateName, ...] = ()


def completed(tls: DestinationTlsSettings | None, node: TlsSettings | None) -> DestinationTlsSettings | None:
    """Return TLS settings in which what is not given is the node's own."""
    if tls is None or node is None:
        return tls
    given: dict[str, Any] = {}
    if tls.cert_file is None:
        given |= {name: getattr(node, name) for name in ("cert_file", "key_file", "key_password")}
    if tls.ca_file is None:
        given |= {name: getattr(node, name) for name in ("ca_file", "crl_file")}
    return tls.model_copy(update=given)
