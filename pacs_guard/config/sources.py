"""Who may send, what is done with it, and who answers for it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pacs_guard.config.destinations import DestinationSettings, RetrySettings
from pacs_guard.config.section import SWITCH, AETitle, CertificateName, Name, Network, Port, Seconds, Section, or_only
from pacs_guard.config.tls import DestinationTlsSettings
from pacs_guard.domain.commitment import Holder
from pacs_guard.domain.policy import Fallback, Mode, Policy


class CommitmentSettings(Section):
    """Storage commitment that a modality may ask of this node; see `docs/proof.md`.

    Attributes
    ----------
    holder : str
        Who holds responsibility: ``node``, ``pacs`` or ``refuse``.
    host : str or None
        Where the modality takes reports; by default where its request came from.
    port : int
    tls : DestinationTlsSettings or None
        Whether and how it is called over TLS; ``true`` stands for a table without settings of its own.
    longest_wait_seconds : float
        After this, what is not proved by then is reported as failed.
    retry : RetrySettings
        Attempts at telling it.
    """

    holder: Holder = Holder.PACS
    host: str | None = None
    port: Port = 104
    tls: Annotated[DestinationTlsSettings | None, SWITCH] = None
    longest_wait_seconds: Seconds = 86400.0
    retry: RetrySettings = RetrySettings(max_attempts=30)

    def peer(self, source: str, ae_title: str, address: str) -> DestinationSettings:
        """Return where a modality that asked from `address` takes reports."""
        host = self.host or address
        return DestinationSettings(name=source, ae_title=ae_title, host=host, port=self.port, tls=self.tls)


class SourceSettings(Section):
    """A modality, or a group of them, that may send.

    Attributes
    ----------
    name : str
        As it appears in metrics, logs and the ledger.
    ae_titles : tuple of str
        Calling AE titles that belong to it.
    addresses : tuple of str
        Networks it may call from; empty for anywhere.
    certificates : tuple of str
        What its certificate must be known by, one of them: ``sha256:…``, ``dns:…``, ``ip:…`` or ``cn:…``. If any are
        given, it may call over TLS only; if none, with any certificate that is trusted, or as ``receive`` allows.
    max_associations : int or None
        Further ones of this source are refused as transient; None: as many as ``receive.max_associations`` leaves.
    mode, undetermined, detector_failure, longest_hold_seconds, altered_as_a_whole
        Its policy; see `pacs_guard.domain.policy.Policy`.
    commitment : CommitmentSettings
        Storage commitment that it asks for; the holder alone may be given instead.
    """

    name: Name
    ae_titles: Annotated[tuple[AETitle, ...], Field(min_length=1)]
    addresses: tuple[Network, ...] = ()
    certificates: tuple[CertificateName, ...] = ()
    max_associations: Annotated[int, Field(ge=1, le=1000)] | None = None
    mode: Mode = Mode.ENFORCE
    undetermined: Fallback = Fallback.FORWARD
    detector_failure: Fallback = Fallback.FORWARD
    longest_hold_seconds: Seconds = 3600.0
    altered_as_a_whole: Fallback = Fallback.FORWARD
    commitment: Annotated[CommitmentSettings, or_only("holder")] = CommitmentSettings()

    def policy(self) -> Policy:
        """Return the domain's policy."""
        return Policy(
            self.mode, self.undetermined, self.detector_failure, self.longest_hold_seconds, self.altered_as_a_whole
        )
