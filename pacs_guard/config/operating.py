"""The node itself, watching it, and its test of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, SecretStr, model_validator

from pacs_guard.config.destinations import DestinationSettings, ProofSettings, RetrySettings
from pacs_guard.config.section import AETitle, Network, Port, Seconds, Section, raise_all
from pacs_guard.config.sources import SourceSettings
from pacs_guard.domain.policy import Fallback
from pacs_guard.domain.proof import ProofMethod
from pacs_guard.domain.selftest import DESTINATION_AE_TITLE, SELF_TEST

_NEVER_SECONDS = 365 * 86400.0  # a test study is forwarded by a verdict only


class NodeSettings(Section):
    """The node itself.

    Attributes
    ----------
    ae_title : str
        AE title that the node answers to, and calls others with.
    data_dir : Path
        Holds the spool, the database and the evidence; one disk, with room for some days.
    database_url : str or None
        An SQLAlchemy URL; SQLite in `data_dir` by default.
    """

    ae_title: AETitle = "PACSGUARD"
    data_dir: Path = Path("pacs-guard-data")
    database_url: SecretStr | None = None


class OpsSettings(Section):
    """Watching and upkeep.

    Attributes
    ----------
    metrics_host, metrics_port
        Where ``/metrics``, ``/healthz`` and ``/readyz`` are served.
    metrics_user, metrics_password
        Asked for by HTTP basic authentication before ``/metrics`` is shown, and what ``/readyz`` found; without them
        everyone who reaches the address may see it.
    metrics_cert_file, metrics_key_file : Path or None
        Certificate and key in PEM; with them the address speaks HTTPS only.
    log_format : str
        ``json`` or ``console``.
    log_level : str
        ``debug``, ``info``, ``warning`` or ``error``.
    retention_days : float
        How long delivered instances stay in the spool. Held, rejected and failed ones are never removed.
    """

    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 9090
    metrics_user: Annotated[str, Field(pattern=r"^[^:\x00-\x1f]+$")] | None = None
    metrics_password: SecretStr | None = None
    metrics_cert_file: Path | None = None
    metrics_key_file: Path | None = None
    log_format: Annotated[str, Field(pattern="^(json|console)$")] = "json"
    log_level: Annotated[str, Field(pattern="^(debug|info|warning|error)$")] = "info"
    retention_days: Annotated[float, Field(ge=0)] = 7.0

    @model_validator(mode="after")
    def _in_pairs(self) -> Self:
        raise_all(
            [
                f"{first} and {second}: one of them was given; expected both or neither"
                for first, second in (("metrics_user", "metrics_password"), ("metrics_cert_file", "metrics_key_file"))
                if (getattr(self, first) is None) != (getattr(self, second) is None)
            ]
        )
        return self


class SelfTestSettings(Section):
    """The node's test of itself: a clean and an altered study, both simulated, through the whole node.

    Attributes
    ----------
    enabled : bool
        Whether its source and its destination exist; both are called ``self-test``. Nothing of it goes anywhere else.
    every_hours : float
        How long after the last test the ops role runs the next one.
    timeout_seconds : float
        How long the node may take for both studies.
    ae_title : str
        Calling AE title of the test.
    host : str
        Where the test finds the receive role, on `receive.port`.
    addresses : tuple of str
        Networks that the test may call from.
    listen_host, port
        Where the test's destination listens while the test runs.
    destination_host : str
        Where the deliver role finds it.
    slices, size : int
        Of each study, and of the rows and columns of a slice.
    """

    enabled: bool = False
    every_hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 24.0
    timeout_seconds: Seconds = 900.0
    ae_title: AETitle = "SELFTEST"
    host: str = "127.0.0.1"
    addresses: Annotated[tuple[Network, ...], Field(min_length=1)] = ("127.0.0.0/8", "::1/128")
    listen_host: str = "127.0.0.1"
    port: Port = 11119
    destination_host: str = "127.0.0.1"
    slices: Annotated[int, Field(ge=4, le=1000)] = 60
    size: Annotated[int, Field(ge=64, le=1024)] = 512

    def source(self) -> SourceSettings:
        """Return the source that the studies come from."""
        return SourceSettings(
            name=SELF_TEST,
            ae_titles=(self.ae_title,),
            addresses=self.addresses,
            undetermined=Fallback.HOLD,
            detector_failure=Fallback.HOLD,
            longest_hold_seconds=_NEVER_SECONDS,
        )

    def destination(self) -> DestinationSettings:
        """Return the destination that they go to."""
        return DestinationSettings(
            name=SELF_TEST,
            ae_title=DESTINATION_AE_TITLE,
            host=self.destination_host,
            port=self.port,
            associations=1,
            proof=ProofSettings(method=ProofMethod.NONE, remove_unproved=True),
            retry=RetrySettings(max_attempts=5, cap_seconds=60.0),
        )
