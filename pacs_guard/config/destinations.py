"""Where studies are delivered to, how often that is tried, and what proves it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pacs_guard.config.section import SWITCH, AETitle, Name, Network, Port, Seconds, Section, Transport, or_only
from pacs_guard.config.tls import DestinationTlsSettings
from pacs_guard.domain.proof import ProofMethod, ProofRules
from pacs_guard.domain.retry import RetryPolicy


class RetrySettings(Section):
    """Attempts at something that fails for a while.

    Attributes
    ----------
    max_attempts : int
    base_seconds, factor, cap_seconds : float
        First wait, what each failure multiplies it by, and the longest wait.
    jitter : float
        Share of the wait that chance may take away.
    """

    max_attempts: Annotated[int, Field(ge=1)] = 50
    base_seconds: Seconds = 5.0
    factor: Annotated[float, Field(ge=1, le=10)] = 2.0
    cap_seconds: Seconds = 900.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2

    def policy(self) -> RetryPolicy:
        """Return the domain's policy."""
        return RetryPolicy(self.max_attempts, self.base_seconds, self.factor, self.cap_seconds, self.jitter)


class ProofSettings(Section):
    """How a destination proves that it keeps what it took; see `docs/proof.md`.

    Attributes
    ----------
    method : str
        ``auto``, ``commitment``, ``count`` or ``none``.
    delay_seconds : float
        How long it is left alone after a study was delivered.
    wait_seconds : float
        How long its report is awaited over the asking association; after that, it has to open one of its own.
    timeout_seconds : float
        How long its report is awaited before it is asked again.
    attempts : int
        How often each way of asking is tried.
    resends : int
        How often an instance that it denies is sent again.
    remove_unproved : bool
        Whether local copies may be removed although no proof came.
    """

    method: ProofMethod = ProofMethod.AUTO
    delay_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    wait_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 2.0
    timeout_seconds: Seconds = 3600.0
    attempts: Annotated[int, Field(ge=1, le=100)] = 3
    resends: Annotated[int, Field(ge=0, le=100)] = 2
    remove_unproved: bool = False

    def rules(self) -> ProofRules:
        """Return the domain's rules."""
        return ProofRules(self.method, self.attempts, self.resends)


class DestinationSettings(Section):
    """A PACS.

    Attributes
    ----------
    name : str
        As it appears in metrics and logs.
    ae_title, host, port
        Where it listens.
    tls : DestinationTlsSettings or None
        Whether and how it is called over TLS; ``true`` stands for a table without settings of its own.
    connect_timeout_seconds, acse_timeout_seconds, dimse_timeout_seconds, network_timeout_seconds : float
        How long to wait for it.
    associations : int
        How many it may be sent over at once, each with a study of its own.
    transcode : bool
        Whether an instance whose transfer syntax it refuses may be transcoded losslessly.
    retry : RetrySettings
        Attempts while it is out of reach.
    proof : ProofSettings
        Proof that it keeps what it took; the method alone may be given instead.
    report_addresses : tuple of str
        Networks that its reports of storage commitment may come from; empty for anywhere.
    """

    name: Name
    ae_title: AETitle
    host: str = "127.0.0.1"
    port: Port = 104
    tls: Annotated[DestinationTlsSettings | None, SWITCH] = None
    connect_timeout_seconds: Seconds = 10.0
    acse_timeout_seconds: Seconds = 30.0
    dimse_timeout_seconds: Seconds = 60.0
    network_timeout_seconds: Seconds = 60.0
    associations: Annotated[int, Field(ge=1, le=64)] = 2
    transcode: bool = True
    retry: RetrySettings = RetrySettings()
    proof: Annotated[ProofSettings, or_only("method")] = ProofSettings()
    report_addresses: tuple[Network, ...] = ()


class DeliverSettings(Section):
    """Delivering.

    Attributes
    ----------
    transport : str
        ``fast``: data sets are streamed straight to the connection; ``stock``: everything goes through pynetdicom.
    """

    transport: Transport = "fast"
