"""Every error that PACS Guard raises on purpose.

    PacsGuardError
    ├── ConfigurationError          settings that cannot be used; lists every problem
    ├── IdentifierError             an AE title or UID that the standard does not allow
    ├── LifecycleError              an event that a study's state does not know
    ├── SpoolError                  bytes on disk
    │   ├── SpoolFullError          no room left
    │   └── SpoolCorruptError       bytes missing, or other than what was received
    ├── QueueError                  rows
    │   ├── QueueUnavailableError   database locked, unreachable or unwritable; try again
    │   │   └── CommitUnknownError  it went away while committing; written or not, nobody can tell yet
    │   ├── SchemaVersionError      database made by a newer release
    │   ├── LeaseLostError          the work was taken back, or changed under way
    │   ├── TransactionInUseError   a transaction UID that its sender used for something else before
    │   └── NotFoundError           no such study
    ├── ProtocolError               bytes of a peer that break the upper layer protocol; the association is aborted
    ├── DataSetError                a received data set that must be refused
    ├── AssemblyError               instances of which no volume can be made
    ├── ConfinementError            a process under limits that gave no answer
    ├── DetectError                 detectors and their models
    │   ├── BundleError             a model bundle that is incomplete, altered or too new
    │   ├── DetectorError           a detector that failed on a volume
    │   └── AcceleratorLostError    the GPU is gone; the process has to start again
    ├── DeliveryError               a destination that did not take an instance
    │   ├── TransientDeliveryError  worth another attempt
    │   └── PermanentDeliveryError  no attempt will succeed
    ├── RetrainingError             a challenger that could not be trained
    └── SupervisionError            a role that does not start

Errors of libraries are translated into these where they enter, ``from`` their cause.
"""

from __future__ import annotations


class PacsGuardError(Exception):
    """Root of every error that this package raises on purpose."""


class ConfigurationError(PacsGuardError):
    """Settings that cannot be used.

    Parameters
    ----------
    problems : list of str
        One clear line for each problem: the key, what was given, what was expected.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class IdentifierError(PacsGuardError, ValueError):
    """An AE title or UID that PS3.5 does not allow."""


class LifecycleError(PacsGuardError):
    """An event that the study's state does not know."""


class SpoolError(PacsGuardError):
    """Reading or writing spooled bytes failed."""


class SpoolFullError(SpoolError):
    """The spool's disk has no room left."""


class SpoolCorruptError(SpoolError):
    """Spooled bytes are missing or are not those that were received."""


class QueueError(PacsGuardError):
    """The queue's database refused a statement."""


class QueueUnavailableError(QueueError):
    """The database is locked, unreachable or unwritable; the same call may succeed later."""


class CommitUnknownError(QueueUnavailableError):
    """The database went away while it was committing; whether it was written is not known."""


class SchemaVersionError(QueueError):
    """The database was made by a newer release of PACS Guard."""


class LeaseLostError(QueueError):
    """The leased work was taken back, or changed while it was under way."""


class TransactionInUseError(QueueError):
    """A transaction UID of a commitment request that its sender used for other instances before."""


class NotFoundError(QueueError):
    """No such study in the queue."""


class ProtocolError(PacsGuardError):
    """A peer's bytes break the upper layer protocol or its use for DIMSE (PS3.8 9, PS3.7 annex E)."""


class DataSetError(PacsGuardError):
    """A received data set that must be refused.

    Parameters
    ----------
    message : str
        What was wrong, with what was found and what was expected.
    status : int
        The C-STORE status that says so (PS3.4 B.2.3).
    """

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class AssemblyError(PacsGuardError):
    """Instances of which no volume can be made; its text is the refusal, one sentence for a person."""


class ConfinementError(PacsGuardError):
    """A process that works on hostile bytes went beyond a limit, crashed, or gave an answer that is none."""


class DetectError(PacsGuardError):
    """Detectors and their models."""


class BundleError(DetectError):
    """A model bundle that is incomplete, altered or made by a newer release."""


class DetectorError(DetectError):
    """A detector failed on a volume."""


class AcceleratorLostError(DetectError):
    """The accelerator is gone for this process, which has to start again."""


class DeliveryError(PacsGuardError):
    """A destination did not take an instance."""


class TransientDeliveryError(DeliveryError):
    """The attempt failed in a way that another attempt may not."""


class PermanentDeliveryError(DeliveryError):
    """No further attempt will succeed unless a person changes something."""


class RetrainingError(PacsGuardError):
    """A challenger that could not be trained."""


class SupervisionError(PacsGuardError):
    """A role that does not start."""
