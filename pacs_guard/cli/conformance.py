"""``pacs-guard conformance``: the tables of the conformance statement (PS3.2 annex N), made from the code itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import typer

from pacs_guard.errors import PacsGuardError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pydantic import BaseModel
    from pydicom.uid import UID

_BLOCK = re.compile(r"(<!-- table: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_RESULTS = {1: "rejected-permanent", 2: "rejected-transient"}
_SOURCES = {1: "service-user", 2: "service-provider (ACSE)", 3: "service-provider (presentation)"}


def show_conformance(update: Path | None) -> None:
    """Print every table, or write them into `update` between their marks.

    Raises
    ------
    PacsGuardError
        If the document asks for a table that there is not, or cannot be written.
    """
    if update is None:
        typer.echo("\n\n".join(f"<!-- table: {name} -->\n{make()}\n<!-- end -->" for name, make in TABLES.items()))
        return
    try:
        update.write_text(with_tables(update.read_text(encoding="utf-8")), encoding="utf-8")
    except OSError as error:
        raise PacsGuardError(f"{update} cannot be brought up to date: {error.strerror}") from error


def with_tables(document: str) -> str:
    """Return a document with every table as it is now.

    Raises
    ------
    PacsGuardError
        If it asks for a table that there is not.
    """
    unknown = {match["name"] for match in _BLOCK.finditer(document)} - TABLES.keys()
    if unknown:
        raise PacsGuardError(f"there are no tables {', '.join(sorted(unknown))}; expected {', '.join(TABLES)}")
    return _BLOCK.sub(lambda match: f"{match[1]}{TABLES[match['name']]()}\n{match[3]}", document)


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _by_name(uids: Iterable[str]) -> list[tuple[str, str]]:
    from pydicom.uid import UID

    return sorted((UID(uid).name, uid) for uid in uids)


def _implementation() -> str:
    from pacs_guard.domain.identifiers import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

    return _table(
        ["", "value"],
        [
            ["Application Context Name", "1.2.840.10008.3.1.1.1"],
            ["Implementation Class UID", IMPLEMENTATION_CLASS_UID],
            ["Implementation Version Name", IMPLEMENTATION_VERSION_NAME],
        ],
    )


def _sop_classes() -> str:
    from pacs_guard.deliver.count import STUDY_ROOT_FIND
    from pacs_guard.domain.commitment import SOP_CLASS
    from pacs_guard.receive.negotiation import STORAGE_SOP_CLASSES, VERIFICATION

    rows = [(name, f"`{uid}`", "yes", "yes") for name, uid in _by_name([VERIFICATION, SOP_CLASS])]
    rows += [(name, f"`{uid}`", "yes", "no") for name, uid in _by_name([STUDY_ROOT_FIND])]
    rows += [(name, f"`{uid}`", "yes", "yes") for name, uid in _by_name(STORAGE_SOP_CLASSES)]
    return _table(["SOP class", "UID", "SCU", "SCP"], rows)


def _transfer_syntaxes() -> str:
    from pacs_guard.deliver.contexts import can_transcode
    from pacs_guard.receive.negotiation import TRANSFER_SYNTAXES

    rows = [
        (name, f"`{uid}`", "yes", "yes, as received", "yes" if can_transcode(uid) else "no")
        for name, uid in _by_name(TRANSFER_SYNTAXES)
    ]
    return _table(["transfer syntax", "UID", "accepted", "sent", "may be transcoded losslessly"], rows)


def _fallback() -> str:
    from pacs_guard.deliver.contexts import FALLBACK_SYNTAXES

    return _table(
        ["order", "transfer syntax"], [(n, uid.name) for n, uid in enumerate(map(_uid, FALLBACK_SYNTAXES), 1)]
    )


def _uid(value: str) -> UID:
    from pydicom.uid import UID

    return UID(value)


def _rejections() -> str:
    from pacs_guard.receive.admission import Reason, Rejection

    rows = []
    for reason in Reason:
        result, source, diagnostic = Rejection(reason).codes
        rows.append((reason.replace("_", " "), _RESULTS[result], _SOURCES[source], diagnostic))
    return _table(["because of", "result", "source", "reason"], rows)


def _acceptor() -> str:
    from pacs_guard.config import ReceiveSettings

    return _settings_table(
        "receive", ReceiveSettings(), ("timeout", "max_associations", "max_pdu", "called", "unknown")
    )


def _proposer() -> str:
    from pacs_guard.config import DestinationSettings

    example = DestinationSettings(name="pacs", ae_title="PACS")
    return _settings_table("destinations", example, ("timeout", "associations", "transcode"))


def _settings_table(section: str, settings: BaseModel, words: Sequence[str]) -> str:
    names = [name for name in type(settings).model_fields if any(word in name for word in words)]
    return _table(["setting", "default"], [(f"`{section}.{name}`", getattr(settings, name)) for name in names])


def _created() -> str:
    from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

    from pacs_guard.deliver.results import picture, report

    rows = [
        (uid.name, f"`{uid}`", number, report.DESCRIPTION)
        for uid, number in (
            (ComprehensiveSRStorage, report.SERIES_NUMBER),
            (SecondaryCaptureImageStorage, picture.SERIES_NUMBER),
        )
    ]
    return _table(["SOP class", "UID", "series number", "series description"], rows)


def _codes() -> str:
    from pacs_guard.deliver.results.codes import KINDS, P_VALUE, PRIVATE_SCHEME, SCORE, SEVERITIES, SEVERITY

    codes = [SCORE, P_VALUE, SEVERITY, *KINDS.values(), *SEVERITIES.values()]
    return _table(
        ["code value", "scheme", "meaning"], [(f"`{one.value}`", PRIVATE_SCHEME, one.meaning) for one in codes]
    )


def _failure_reasons() -> str:
    from pacs_guard.domain.proof import FAILURE_REASONS

    rows = [(f"0x{code:04X}", meaning, found.value) for code, (found, meaning) in sorted(FAILURE_REASONS.items())]
    return _table(["Failure Reason", "meaning", "what follows"], [*rows, ("others", "", "ask again")])


def _tls() -> str:
    from pacs_guard.config import ReceiveTlsSettings
    from pacs_guard.tls.profile import CIPHER_SUITES, MINIMUM

    version = MINIMUM.name.replace("TLSv", "TLS ").replace("_", ".")
    return _table(
        ["", "value"],
        [
            ["profile", "BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile (PS3.15 B.12)"],
            ["versions", f"{version} at least, TLS 1.3 preferred"],
            ["cipher suites of TLS 1.2", ", ".join(f"`{one}`" for one in CIPHER_SUITES)],
            ["cipher suites of TLS 1.3", "those of RFC 8446 9.1 that the TLS library offers"],
            ["port, default", ReceiveTlsSettings().port],
            ["certificates of requestors, default", ReceiveTlsSettings().client_certificates],
            ["compression, renegotiation, resumption", "none"],
        ],
    )


TABLES: dict[str, Callable[[], str]] = {
    "implementation": _implementation,
    "sop-classes": _sop_classes,
    "transfer-syntaxes": _transfer_syntaxes,
    "fallback": _fallback,
    "rejections": _rejections,
    "acceptor": _acceptor,
    "proposer": _proposer,
    "failure-reasons": _failure_reasons,
    "tls": _tls,
    "created": _created,
    "codes": _codes,
}
"""By the name in the document's marks."""
