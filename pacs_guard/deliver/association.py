"""Associations as a requestor: opened within the destination's time-outs, and dropped without waiting."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, build_role, evt

from pacs_guard.deliver.negotiation import presentation_context
from pacs_guard.deliver.secure import Wrapper
from pacs_guard.errors import PermanentDeliveryError, TransientDeliveryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pynetdicom.association import Association

    from pacs_guard.config import DestinationSettings


def open_association(
    destination: DestinationSettings,
    calling_ae: str,
    contexts: Sequence[tuple[str, Sequence[str]]],
    *,
    handlers: Sequence[tuple[Any, ...]] = (),
    scp_of: Sequence[str] = (),
) -> Association:
    """Open an association with a destination.

    Parameters
    ----------
    destination : DestinationSettings
    calling_ae : str
        AE title to call with.
    contexts : sequence of (str, sequence of str)
        Abstract syntax and transfer syntaxes of each presentation context.
    handlers : sequence of tuple
        What the peer's own requests are answered by, as pynetdicom wants it.
    scp_of : sequence of str
        SOP classes of which the node wants to be the SCP (PS3.7 D.3.3.4).

    Raises
    ------
    TransientDeliveryError
        If it is out of reach, silent, or rejects the association.
    PermanentDeliveryError
        If it accepts none of the contexts.
    """
    ae = AE(ae_title=calling_ae)
    ae.connection_timeout = destination.connect_timeout_seconds
    ae.acse_timeout = destination.acse_timeout_seconds
    ae.dimse_timeout = destination.dimse_timeout_seconds
    # the idle timer sees only what is received, and would end an association that is busy sending
    ae.network_timeout = None
    connected: list[bool] = []
    wrapper = Wrapper(destination) if destination.tls is not None else None

    def tune(event: evt.Event) -> None:
        connected.append(True)
        _tune_socket(event.assoc, destination.network_timeout_seconds)

    try:
        assoc = ae.associate(
            destination.host,
            destination.port,
            contexts=[presentation_context(abstract, syntaxes) for abstract, syntaxes in contexts],
            ae_title=destination.ae_title,
            ext_neg=[build_role(uid, scp_role=True) for uid in scp_of],
            evt_handlers=[(evt.EVT_CONN_OPEN, tune), *handlers],
            tls_args=wrapper.arguments if wrapper is not None else None,
        )
    except OSError as error:  # a host name that does not resolve
        raise TransientDeliveryError(f"{_where(destination)} cannot be reached: {error}") from error
    if not assoc.is_established:
        why = wrapper.why() if wrapper is not None else None
        failure = _failure(destination, assoc, connected=bool(connected), why=why)
        drop(assoc)
        raise failure
    return assoc


def drop(assoc: Association) -> None:
    """Abort whatever is left of an association, without waiting for a peer that does not read."""
    if not assoc.dul.is_alive():
        return
    connection = getattr(assoc.dul.socket, "socket", None)
    if connection is not None:
        try:
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # closed in the meantime, which is what is wanted
            connection = None
    assoc.abort()


def _tune_socket(assoc: Association, seconds: float) -> None:
    connection: Any = getattr(assoc.dul.socket, "socket", None)
    if connection is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # without this a peer that stops reading would block the sending thread for ever
        connection.settimeout(seconds)


def _failure(
    destination: DestinationSettings, assoc: Association, *, connected: bool, why: str | None
) -> TransientDeliveryError | PermanentDeliveryError:
    where = _where(destination)
    if why is not None:
        return TransientDeliveryError(f"{where}: {why}")
    if not connected:
        return TransientDeliveryError(
            f"{where} cannot be reached: no connection within {destination.connect_timeout_seconds:g} s"
        )
    if assoc.is_rejected:
        answer: Any = assoc.acceptor.primitive
        return TransientDeliveryError(
            f"{where} rejected the association: {answer.result_str}, {answer.source_str}, {answer.reason_str}"
        )
    if assoc.rejected_contexts and not assoc.accepted_contexts:
        return PermanentDeliveryError(f"{where} accepts none of the presentation contexts that were proposed")
    return TransientDeliveryError(
        f"{where} broke off or did not answer the association request within {destination.acse_timeout_seconds:g} s"
    )


def _where(destination: DestinationSettings) -> str:
    return f"{destination.name} ({destination.ae_title} at {destination.host}:{destination.port})"
