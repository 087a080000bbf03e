"""What must hold between the tables of the settings; each check returns its problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pacs_guard.config.tls import completed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pacs_guard.config.destinations import DestinationSettings
    from pacs_guard.config.operating import SelfTestSettings
    from pacs_guard.config.receiving import CompletenessSettings, ReceiveSettings
    from pacs_guard.config.sources import SourceSettings
    from pacs_guard.config.tls import TlsSettings


def reserved(test: SelfTestSettings | None, what: str, value: str | None, given: Sequence[str]) -> list[str]:
    """Refuse what belongs to the self-test while that is enabled."""
    if test is None or not test.enabled:
        return []
    mine = value or test.ae_title
    return [f"{what} {mine!r} was given; it belongs to the self-test"] if mine in given else []


def no_way_in(test: SelfTestSettings | None, receive: ReceiveSettings | None) -> list[str]:
    """Refuse a self-test that could not get in."""
    if test is None or not test.enabled or receive is None or receive.plain:
        return []
    return [
        "self_test.enabled is true and receive.plain false; expected a plain port too, as the test has no certificate"
    ]


def none_given(what: str, given: Sequence[object]) -> list[str]:
    """Refuse an empty list."""
    return [] if given else [f"none is given; expected at least one [[{what}]] table"]


def impatient(sources: tuple[SourceSettings, ...], completeness: CompletenessSettings | None) -> list[str]:
    """Refuse to bypass a study before it even counts as whole: it would never be assessed."""
    if completeness is None:
        return []
    wait = completeness.longest_wait_seconds
    return [
        f"{source.name}: longest_hold_seconds {source.longest_hold_seconds:g} was given; "
        f"expected more than completeness.longest_wait_seconds, which is {wait:g}"
        for source in sources
        if source.longest_hold_seconds <= wait
    ]


def unreachable(sources: tuple[SourceSettings, ...], receive: ReceiveSettings | None) -> list[str]:
    """Refuse a source that must show a certificate where no port asks for one."""
    if receive is None or receive.tls is not None:
        return []
    return [
        f"{source.name}: certificates were given; expected receive.tls too, as none is shown on a plain port"
        for source in sources
        if source.certificates
    ]


def circular(destinations: tuple[DestinationSettings, ...], receive: ReceiveSettings | None) -> list[str]:
    """Refuse to deliver to this node itself: it would receive what it forwards, for ever."""
    if receive is None:
        return []
    own = {receive.host, "localhost", "127.0.0.1", "::1"}
    return [
        f"{destination.name}: {destination.host}:{destination.port} is this node; expected a PACS"
        for destination in destinations
        if destination.port in receive.ports and destination.host in own
    ]


def repeated(what: str, values: list[str]) -> list[str]:
    """Refuse what must be given once only."""
    repeated = sorted({value for value in values if values.count(value) > 1})
    return [f"{what} {value!r} is given more than once; expected each once" for value in repeated]


def with_node_tls(destination: DestinationSettings, node: TlsSettings | None) -> DestinationSettings:
    """Return a destination whose TLS settings are complete."""
    return destination.model_copy(update={"tls": completed(destination.tls, node)})


def told_with_node_tls(source: SourceSettings, node: TlsSettings | None) -> SourceSettings:
    """Return a source that is told of commitments with complete TLS settings."""
    commitment = source.commitment.model_copy(update={"tls": completed(source.commitment.tls, node)})
    return source.model_copy(update={"commitment": commitment})
