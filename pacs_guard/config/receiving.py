"""How instances come in: the ports, and when a study counts as whole."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pacs_guard.config.section import Port, Seconds, Section, Transport
from pacs_guard.config.tls import ReceiveTlsSettings
from pacs_guard.domain.completeness import CompletenessRule


class ReceiveSettings(Section):
    """Receiving.

    Attributes
    ----------
    host, port
        Where to listen.
    plain : bool
        Whether `port` is listened on; without, there must be `tls`.
    tls : ReceiveTlsSettings or None
        The port for TLS beside it.
    max_associations : int
        Further ones are refused as transient.
    max_pdu_bytes : int
        Largest PDU announced; 0 for no limit.
    acse_timeout_seconds, dimse_timeout_seconds, network_timeout_seconds : float
        PS3.8 ARTIM and association negotiation; the rest of a message under way; an association that is silent.
    require_called_ae_title : bool
        Whether the called AE title must be the node's.
    unknown_sop_classes : bool
        Whether private and unknown storage SOP classes are taken.
    min_free_bytes : int
        Below this, instances are answered A700 and associations refused as transient.
    max_refused_bytes : int
        How much of what was refused is kept aside; the oldest goes first.
    transport : str
        How the network is read: ``fast``, streamed by this package; or ``stock``, by pynetdicom alone.
    processes : int
        How many processes share the port.
    segment_bytes : int
        Size of the files of the spool that instances of up to 1 MiB lie in together; 0 for a file for each instance.
    """

    host: str = "0.0.0.0"  # noqa: S104  # a node that listens for scanners listens on its network
    port: Port = 11112
    plain: bool = True
    tls: ReceiveTlsSettings | None = None
    max_associations: Annotated[int, Field(ge=1, le=1000)] = 64
    max_pdu_bytes: Annotated[int, Field(ge=0, le=2**31)] = 262144
    acse_timeout_seconds: Seconds = 30.0
    dimse_timeout_seconds: Seconds = 60.0
    network_timeout_seconds: Seconds = 120.0
    require_called_ae_title: bool = True
    unknown_sop_classes: bool = False
    min_free_bytes: Annotated[int, Field(ge=0)] = 2 * 1024**3
    max_refused_bytes: Annotated[int, Field(ge=0)] = 1024**3
    transport: Transport = "fast"
    processes: Annotated[int, Field(ge=1, le=64)] = 1
    segment_bytes: Annotated[int, Field(ge=0, le=2**32)] = 128 * 1024**2

    @model_validator(mode="after")
    def _listens(self) -> Self:
        if not self.plain and self.tls is None:
            raise ValueError("plain is false and there is no tls; expected one port to listen on at least")
        if self.plain and self.tls is not None and self.port == self.tls.port:
            raise ValueError(f"port and tls.port are both {self.port}; expected two different ports")
        return self

    @property
    def ports(self) -> tuple[int, ...]:
        """Every port that is listened on."""
        return (*([self.port] if self.plain else []), *([self.tls.port] if self.tls is not None else []))


class CompletenessSettings(Section):
    """When a study counts as whole.

    Attributes
    ----------
    quiet_seconds : float
        Time without a new instance and without an association that is still sending it.
    longest_wait_seconds : float
        Time after the first instance at which it counts as whole in any case.
    sweep_seconds : float
        How often lost leases and holds that are over are looked for.
    """

    quiet_seconds: Seconds = 30.0
    longest_wait_seconds: Seconds = 1800.0
    sweep_seconds: Seconds = 2.0

    def rule(self) -> CompletenessRule:
        """Return the domain's rule."""
        return CompletenessRule(self.quiet_seconds, self.longest_wait_seconds)
