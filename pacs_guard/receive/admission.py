"""Who may open an association, and how the others are told (A-ASSOCIATE-RJ, PS3.8 9.3.4)."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pacs_guard.config import DestinationSettings, Settings, SourceSettings
    from pacs_guard.tls.certificates import Certificate


class Reason(StrEnum):
    """Why an association was rejected."""

    CALLING_AE_TITLE = "calling_ae_title"
    """No source has it."""
    CALLED_AE_TITLE = "called_ae_title"
    """It is not the node's."""
    ADDRESS = "address"
    """The source may not call from there."""
    CERTIFICATE_MISSING = "certificate_missing"
    """The source has to show a certificate, and has shown none."""
    CERTIFICATE_NOT_BOUND = "certificate_not_bound"
    """It is trusted, and none of the source's."""
    TOO_MANY = "too_many_associations"
    """The configured number is open."""
    TOO_MANY_OF_SOURCE = "too_many_associations_of_source"
    """The number configured for the source is open."""
    DISK = "disk_watermark"
    """Too little room is left in the spool."""
    DATABASE = "database_unavailable"
    """The queue cannot take anything."""
    STOPPING = "stopping"
    """The receiver is shutting down."""
    INTERNAL = "internal_error"
    """A fault of the node."""


_PERMANENT, _TRANSIENT = 1, 2
_SERVICE_USER, _PRESENTATION = 1, 3

_CODES: dict[Reason, tuple[int, int, int]] = {
    Reason.CALLING_AE_TITLE: (_PERMANENT, _SERVICE_USER, 3),
    Reason.CALLED_AE_TITLE: (_PERMANENT, _SERVICE_USER, 7),
    Reason.ADDRESS: (_PERMANENT, _SERVICE_USER, 1),
    Reason.CERTIFICATE_MISSING: (_PERMANENT, _SERVICE_USER, 1),
    Reason.CERTIFICATE_NOT_BOUND: (_PERMANENT, _SERVICE_USER, 1),
    # local limit exceeded
    Reason.TOO_MANY: (_TRANSIENT, _PRESENTATION, 2),
    Reason.TOO_MANY_OF_SOURCE: (_TRANSIENT, _PRESENTATION, 2),
    Reason.DISK: (_TRANSIENT, _PRESENTATION, 2),
    # temporary congestion
    Reason.DATABASE: (_TRANSIENT, _PRESENTATION, 1),
    Reason.STOPPING: (_TRANSIENT, _PRESENTATION, 1),
    Reason.INTERNAL: (_TRANSIENT, _PRESENTATION, 1),
}


@dataclass(frozen=True, slots=True)
class Rejection:
    """An association that is not accepted.

    Attributes
    ----------
    reason : Reason
    """

    reason: Reason

    @property
    def codes(self) -> tuple[int, int, int]:
        """Result, source and diagnostic of the A-ASSOCIATE-RJ."""
        return _CODES[self.reason]


@dataclass(frozen=True, slots=True)
class Request:
    """What is known of an association request before it is accepted.

    Attributes
    ----------
    calling_ae, called_ae : str
        AE titles without their padding.
    address : str
        The peer's IP address.
    certificate : Certificate or None
        What it has shown over TLS, found to be trusted.
    """

    calling_ae: str
    called_ae: str
    address: str
    certificate: Certificate | None = None


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who has an AE title, from where it may call, and what its certificate must be known by."""

    name: str
    networks: tuple[str, ...]
    certificates: tuple[str, ...]
    is_source: bool
    max_open: int | None = None


def _source(source: SourceSettings) -> _Caller:
    return _Caller(source.name, source.addresses, source.certificates, True, source.max_associations)


def _reporter(destination: DestinationSettings) -> _Caller:
    """Return a destination that may call to report; it is known by the certificate that it shows when it is called."""
    certificates = destination.tls.certificates if destination.tls is not None else ()
    return _Caller(destination.name, destination.report_addresses, certificates, is_source=False)


@dataclass(frozen=True, slots=True)
class _Rules:
    called_ae: str | None
    max_open: int
    min_free_bytes: int
    callers: Mapping[str, _Caller]


def _rules(settings: Settings) -> _Rules:
    return _Rules(
        called_ae=settings.node.ae_title if settings.receive.require_called_ae_title else None,
        max_open=settings.receive.max_associations,
        min_free_bytes=settings.receive.min_free_bytes,
        callers={one.ae_title: _reporter(one) for one in settings.destinations}
        | {title: _source(one) for one in settings.sources for title in one.ae_titles},
    )


class Admission:
    """The rules for who may open an association.

    Parameters
    ----------
    settings : Settings
    """

    def __init__(self, settings: Settings) -> None:
        self._rules = _rules(settings)

    def reconfigure(self, settings: Settings) -> None:
        """Judge every later request by `settings`; associations that are open stay open."""
        self._rules = _rules(settings)  # one assignment: each request sees the old rules or the new ones

    def may_store(self, calling_ae: str) -> bool:
        """Whether a peer is a source; a destination may call to report on storage commitment only."""
        caller = self._rules.callers.get(calling_ae)
        return caller is not None and caller.is_source

    def judge(self, request: Request, *, open_associations: Mapping[str, int], free_bytes: int) -> str | Rejection:
        """Return the name of the source, or of the destination, that is calling, or why it is rejected.

        Parameters
        ----------
        request : Request
        open_associations : mapping of str to int
            How many are open already, by the name of source or destination.
        free_bytes : int
            Room left in the spool.
        """
        rules = self._rules
        caller = rules.callers.get(request.calling_ae)
        if caller is None:
            return Rejection(Reason.CALLING_AE_TITLE)
        if (mismatch := _mismatch(caller, request)) is not None:
            return Rejection(mismatch)
        if rules.called_ae is not None and request.called_ae != rules.called_ae:
            return Rejection(Reason.CALLED_AE_TITLE)
        if (limit := _limit(rules, caller, open_associations)) is not None:
            return Rejection(limit)
        # what a destination reports makes room
        if caller.is_source and free_bytes < rules.min_free_bytes:
            return Rejection(Reason.DISK)
        return caller.name


def _limit(rules: _Rules, caller: _Caller, open_associations: Mapping[str, int]) -> Reason | None:
    """Return which limit one more association would exceed, None if none."""
    if sum(open_associations.values()) >= rules.max_open:
        return Reason.TOO_MANY
    if caller.max_open is not None and open_associations.get(caller.name, 0) >= caller.max_open:
        return Reason.TOO_MANY_OF_SOURCE
    return None


def _mismatch(caller: _Caller, request: Request) -> Reason | None:
    """Return what shows that it is somebody else who calls, None if nothing does."""
    if caller.networks and not is_within(request.address, caller.networks):
        return Reason.ADDRESS
    if not caller.certificates:
        return None
    if request.certificate is None:
        return Reason.CERTIFICATE_MISSING
    return None if request.certificate.is_one_of(caller.certificates) else Reason.CERTIFICATE_NOT_BOUND


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Whether an IP address lies in one of `networks`; an IPv4 address seen through an IPv6 socket counts as IPv4.

    Examples
    --------
    >>> is_within("::ffff:10.1.2.3", ["10.1.0.0/16"])
    True
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(network) for network in networks)
