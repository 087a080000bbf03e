"""Which presentation contexts to propose for a set of instances, and which accepted one to send each over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pacs_guard.domain.instance import StoredInstance

MAX_CONTEXTS = 128
"""Context IDs are the odd numbers of one byte (PS3.8 9.3.2.2)."""

FALLBACK_SYNTAXES: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""What every PACS takes one of (PS3.5 10.1), the richer one first."""

UNCOMPRESSED = frozenset(
    map(str, (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian))
)
LOSSLESS = frozenset(
    map(
        str,
        (
            RLELossless,
            JPEGLossless,
            JPEGLosslessSV1,
            JPEGLSLossless,
            JPEG2000Lossless,
            HTJ2KLossless,
            HTJ2KLosslessRPCL,
        ),
    )
)
"""Compressed syntaxes that the standard defines as lossless and that are decoded here. A syntax that may be either is
not among them: nobody can tell."""


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context of a request.

    Attributes
    ----------
    sop_class_uid : str
        Abstract syntax.
    transfer_syntaxes : tuple of str
        One for an instance as it is; several for the fall-back.
    """

    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]


@dataclass(slots=True)
class Batch:
    """Instances that fit one association.

    Attributes
    ----------
    contexts : list of ProposedContext
        What to propose, each once.
    instances : list of StoredInstance
        What to send, in order.
    """

    contexts: list[ProposedContext] = field(default_factory=list)
    instances: list[StoredInstance] = field(default_factory=list)


def can_transcode(transfer_syntax_uid: str) -> bool:
    """Whether an instance in this transfer syntax can be re-encoded without any loss."""
    return transfer_syntax_uid in UNCOMPRESSED or transfer_syntax_uid in LOSSLESS


def contexts_for(instance: StoredInstance, *, transcode: bool) -> tuple[ProposedContext, ...]:
    """Return what to propose for one instance: its own syntax alone, and the fall-back where that can help.

    An acceptor picks one syntax of each context, so that the native one must not share its context with another.
    """
    native = ProposedContext(instance.sop_class_uid, (instance.transfer_syntax_uid,))
    if not transcode or not can_transcode(instance.transfer_syntax_uid):
        return (native,)
    return native, ProposedContext(instance.sop_class_uid, FALLBACK_SYNTAXES)


def batches(instances: Iterable[StoredInstance], *, transcode: bool, max_contexts: int = MAX_CONTEXTS) -> list[Batch]:
    """Spread instances over as few associations as their presentation contexts allow.

    Parameters
    ----------
    instances : iterable of StoredInstance
    transcode : bool
        Whether to propose fall-backs.
    max_contexts : int
        Most contexts of one association.

    Returns
    -------
    list of Batch
        In the order of the first instance of each.
    """
    found: list[Batch] = []
    for instance in instances:
        wanted = contexts_for(instance, transcode=transcode)
        batch = next((batch for batch in found if _room(batch, wanted, max_contexts)), None)
        if batch is None:
            batch = Batch()
            found.append(batch)
        batch.contexts += _missing(batch, wanted)
        batch.instances.append(instance)
    return found


def _missing(batch: Batch, wanted: Sequence[ProposedContext]) -> list[ProposedContext]:
    return [context for context in wanted if context not in batch.contexts]


def _room(batch: Batch, wanted: Sequence[ProposedContext], max_contexts: int) -> bool:
    return len(batch.contexts) + len(_missing(batch, wanted)) <= max_contexts


def choose(
    instance: StoredInstance, accepted: Iterable[tuple[int, str, str]], *, transcode: bool
) -> tuple[int, str] | None:
    """Pick the accepted context to send an instance over.

    Parameters
    ----------
    instance : StoredInstance
    accepted : iterable of (int, str, str)
        Context ID, SOP class and the transfer syntax that the acceptor chose.
    transcode : bool
        Whether another syntax than the instance's own may be used.

    Returns
    -------
    (int, str) or None
        Context ID and transfer syntax; the instance's own syntax wherever it was accepted.
    """
    usable = {syntax: context for context, sop_class, syntax in accepted if sop_class == instance.sop_class_uid}
    native = instance.transfer_syntax_uid
    order = [native, *FALLBACK_SYNTAXES] if transcode and can_transcode(native) else [native]
    return next(((usable[syntax], syntax) for syntax in order if syntax in usable), None)
