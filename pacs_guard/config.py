"""Settings: one TOML file, overridden by the environment, checked as a whole."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pacs_guard.domain import announcement
from pacs_guard.domain.commitment import Holder
from pacs_guard.domain.completeness import CompletenessRule
from pacs_guard.domain.identifiers import ae_title
from pacs_guard.domain.policy import Fallback, Mode, Policy
from pacs_guard.domain.proof import ProofMethod, ProofRules
from pacs_guard.domain.retry import RetryPolicy
from pacs_guard.domain.selftest import DESTINATION_AE_TITLE, SELF_TEST
from pacs_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_KNOWN_BY = {"sha256", "dns", "ip", "cn"}
ENVIRONMENT_PREFIX = "PACS_GUARD_"
_NEVER_SECONDS = 365 * 86400.0  # a test study is forwarded by a verdict only
_SECRET = {"database_url", "key_password", "metrics_password", "password", "token"}


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise ValueError(f"{value!r} was given; expected an IP address or network such as 10.1.0.0/16") from error


def _certificate(value: str) -> str:
    """Normalise what a certificate is known by; a fingerprint as ``openssl x509 -fingerprint -sha256`` shows it too."""
    kind, _, what = value.strip().partition(":")
    kind = kind.lower()
    if kind == "sha256":
        what = what.replace(":", "").lower()
    if not what or kind not in _KNOWN_BY or (kind == "sha256" and not re.fullmatch("[0-9a-f]{64}", what)):
        raise ValueError(
            f"{value!r} was given; expected sha256: and the 64 hexadecimal digits of the fingerprint, "
            "or dns:, ip: or cn: and a name of the certificate"
        )
    return f"{kind}:{what}"


def _raise_all(problems: list[str]) -> None:
    if problems:
        raise ValueError("\n".join(problems))


def _is_secret(annotation: Any) -> bool:
    return SecretStr in (annotation, *get_args(annotation))


def _secret(name: str, file: Any) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{name}_file: {file!r} was given; it cannot be read: {error}") from error


# true for a table without settings of its own
_SWITCH = BeforeValidator(lambda value: ({} if value else None) if isinstance(value, bool) else value)


def _or_only(name: str) -> BeforeValidator:
    """Let a table be given as the value of one of its settings alone."""
    return BeforeValidator(lambda value: {name: value} if isinstance(value, str) else value)


AETitle = Annotated[str, AfterValidator(ae_title)]
Network = Annotated[str, AfterValidator(_network)]
CertificateName = Annotated[str, AfterValidator(_certificate)]
Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Transport = Literal["fast", "stock"]
MailAddress = Annotated[str, Field(pattern=r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9.-]+$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


class _Section(BaseModel):
    """A table of the file. For every secret NAME, ``NAME_file`` may name a file that holds it, and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _read_secrets(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        secrets = [name for name, field in cls.model_fields.items() if _is_secret(field.annotation)]
        given = {name: values[f"{name}_file"] for name in secrets if values.get(f"{name}_file") is not None}
        both = sorted(name for name in given if values.get(name) is not None)
        _raise_all([f"{name} and {name}_file are both given; expected one of them" for name in both])
        rest = {key: value for key, value in values.items() if key not in {f"{name}_file" for name in secrets}}
        return rest | {name: _secret(name, file) for name, file in given.items()}


class NodeSettings(_Section):
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


class TlsSettings(_Section):
    """DICOM TLS: the node's own certificate, and whom it trusts, in both directions; files in PEM.

    Attributes
    ----------
    cert_file, key_file : Path or None
        The node's certificate, with those between it and its authority, and its key.
    key_password : str or None
        Opens the key.
    ca_file : Path or None
        The authorities that sign the peers' certificates.
    crl_file : Path or None
        Their revocation lists; with it, a certificate whose authority's list is not there or out of date is refused.
    """

    cert_file: Path | None = None
    key_file: Path | None = None
    key_password: SecretStr | None = None
    ca_file: Path | None = None
    crl_file: Path | None = None

    @model_validator(mode="after")
    def _fit(self) -> Self:
        problems = []
        if (self.cert_file is None) != (self.key_file is None):
            problems.append("cert_file and key_file: one of them was given; expected both or neither")
        if self.crl_file is not None and self.ca_file is None:
            problems.append("crl_file was given without ca_file; expected the authorities that it is of")
        _raise_all(problems)
        return self


class ReceiveTlsSettings(_Section):
    """A second port, where associations are opened over TLS only.

    Attributes
    ----------
    port : int
        2762 is registered for it (PS3.8 9.1.1).
    client_certificates : str
        ``required``: nobody gets further without one that is trusted; ``optional``: only sources with `certificates`
        need one.
    """

    port: Port = 2762
    client_certificates: Literal["required", "optional"] = "required"


class DestinationTlsSettings(TlsSettings):
    """How a destination is called over TLS; what is not given is that of ``[tls]``.

    Attributes
    ----------
    server_name : str or None
        Name that its certificate must have; `host` by default.
    check_name : bool
        Whether that name is looked at; with `certificates` and no `server_name` it is not.
    certificates : tuple of str
        What its certificate must be known by, one of them: ``sha256:…``, ``dns:…``, ``ip:…`` or ``cn:…``.
    """

    server_name: Annotated[str, Field(min_length=1)] | None = None
    check_name: bool = True
    certificates: tuple[CertificateName, ...] = ()


class ReceiveSettings(_Section):
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


class CompletenessSettings(_Section):
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


class DetectSettings(_Section):
    """Detection.

    Attributes
    ----------
    detectors : tuple of str
        Names of shipped detectors, or folders of bundles.
    lease_seconds : float
        A worker that has not been heard of for so long loses its study.
    max_attempts : int
        How often a study may bring a worker down before the detector counts as failed.
    threads : int
        For numeric libraries; 0 lets them choose.
    drift_days : float
        Length of the window in which scores and noise of a scanner are compared with what is expected.
    nice : int
        How much the detector stands back behind receiving and delivering; see ``nice(2)``.
    scheduling : str
        ``batch`` never takes a processor from who is woken meanwhile, ``idle`` runs only where nobody else wants to,
        and may starve; ``normal`` has `nice` alone. See ``sched(7)``; of no effect where the system knows neither.
    accelerator : str
        What networks run on: ``auto``, a GPU if there is one; ``cpu``; or ``gpu`` and nothing else.
    reader_memory_bytes, reader_seconds
        What the process that parses and decodes may take for one series: address space, and processor time; a series
        that needs more is undetermined.
    """

    # with none of them, everything would count as judged
    detectors: Annotated[tuple[str, ...], Field(min_length=1)] = ("integrity", "forensic")
    lease_seconds: Seconds = 120.0
    max_attempts: Annotated[int, Field(ge=1, le=100)] = 3
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    drift_days: Annotated[float, Field(ge=1, le=366)] = 30.0
    nice: Annotated[int, Field(ge=0, le=19)] = 15
    scheduling: Literal["normal", "batch", "idle"] = "batch"
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    reader_memory_bytes: Annotated[int, Field(ge=2**29)] = 4 * 1024**3
    reader_seconds: Seconds = 300.0


class RetrySettings(_Section):
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


class CommitmentSettings(_Section):
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
    tls: Annotated[DestinationTlsSettings | None, _SWITCH] = None
    longest_wait_seconds: Seconds = 86400.0
    retry: RetrySettings = RetrySettings(max_attempts=30)

    def peer(self, source: str, ae_title: str, address: str) -> DestinationSettings:
        """Return where a modality that asked from `address` takes reports."""
        host = self.host or address
        return DestinationSettings(name=source, ae_title=ae_title, host=host, port=self.port, tls=self.tls)


class SourceSettings(_Section):
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
    mode, undetermined, detector_failure, longest_hold_seconds, altered_as_a_whole
        Its policy; see `pacs_guard.domain.policy.Policy`.
    commitment : CommitmentSettings
        Storage commitment that it asks for; the holder alone may be given instead.
    """

    name: Name
    ae_titles: Annotated[tuple[AETitle, ...], Field(min_length=1)]
    addresses: tuple[Network, ...] = ()
    certificates: tuple[CertificateName, ...] = ()
    mode: Mode = Mode.ENFORCE
    undetermined: Fallback = Fallback.FORWARD
    detector_failure: Fallback = Fallback.FORWARD
    longest_hold_seconds: Seconds = 3600.0
    altered_as_a_whole: Fallback = Fallback.FORWARD
    commitment: Annotated[CommitmentSettings, _or_only("holder")] = CommitmentSettings()

    def policy(self) -> Policy:
        """Return the domain's policy."""
        return Policy(
            self.mode, self.undetermined, self.detector_failure, self.longest_hold_seconds, self.altered_as_a_whole
        )


class ProofSettings(_Section):
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


class DestinationSettings(_Section):
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
    tls: Annotated[DestinationTlsSettings | None, _SWITCH] = None
    connect_timeout_seconds: Seconds = 10.0
    acse_timeout_seconds: Seconds = 30.0
    dimse_timeout_seconds: Seconds = 60.0
    network_timeout_seconds: Seconds = 60.0
    associations: Annotated[int, Field(ge=1, le=64)] = 2
    transcode: bool = True
    retry: RetrySettings = RetrySettings()
    proof: Annotated[ProofSettings, _or_only("method")] = ProofSettings()
    report_addresses: tuple[Network, ...] = ()


class DeliverSettings(_Section):
    """Delivering.

    Attributes
    ----------
    transport : str
        ``fast``: data sets are streamed straight to the connection; ``stock``: everything goes through pynetdicom.
    """

    transport: Transport = "fast"


class WebhookSettings(_Section):
    """Where quarantine is announced.

    Attributes
    ----------
    url : str
        Receives a JSON object by POST.
    timeout_seconds : float
    token : str or None
        Sent as a bearer token.
    retry : RetrySettings
    """

    url: Annotated[str, Field(pattern=r"^https?://")]
    timeout_seconds: Seconds = 10.0
    token: SecretStr | None = None
    retry: RetrySettings = RetrySettings(max_attempts=20)


class EmailSettings(_Section):
    """E-mail that announces what the webhook announces; both may be set.

    Attributes
    ----------
    host, port
        The mail server.
    security : str
        ``starttls``, ``tls`` from the first byte (port 465 by custom), or ``none``.
    ca_file : Path or None
        Certificates trusted to sign the server's; the system's by default.
    username, password : str or None
        For servers that ask for them.
    password_file : Path or None
        Holds the password, instead of `password`; read whenever it is needed.
    sender : str
    recipients : tuple of str
    subject, body : str
        Templates with fields such as ``$study``; see `pacs_guard.domain.announcement`.
    include_study_uid : bool
        Whether the templates may name the Study Instance UID.
    timeout_seconds : float
    retry : RetrySettings
    """

    host: Annotated[str, Field(min_length=1)]
    port: Port = 587
    security: Annotated[str, Field(pattern="^(starttls|tls|none)$")] = "starttls"
    ca_file: Path | None = None
    username: str | None = None
    password: SecretStr | None = None
    password_file: Path | None = None
    sender: MailAddress
    recipients: Annotated[tuple[MailAddress, ...], Field(min_length=1)]
    include_study_uid: bool = False
    subject: str = announcement.SUBJECT
    body: str = announcement.BODY
    timeout_seconds: Seconds = 20.0
    retry: RetrySettings = RetrySettings(max_attempts=20)

    @field_validator("subject", "body")
    @classmethod
    def _names_known_fields(cls, template: str, info: ValidationInfo) -> str:
        _raise_all(announcement.problems(template, study_uid=bool(info.data.get("include_study_uid"))))
        return template

    @model_validator(mode="after")
    def _password_fits(self) -> EmailSettings:
        given = self.password is not None or self.password_file is not None
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file are both given; expected one of them")
        if given != (self.username is not None):
            raise ValueError("username and password go together; expected both or neither")
        if given and self.security == "none":
            raise ValueError('a password was given with security = "none"; expected "starttls" or "tls"')
        return self

    def secret(self) -> str:
        """Return the password.

        Raises
        ------
        OSError
            If its file cannot be read.
        """
        if self.password_file is not None:
            return self.password_file.read_text(encoding="utf-8").strip()
        return self.password.get_secret_value() if self.password is not None else ""


class ResultsSettings(_Section):
    """Findings as DICOM objects: a structured report and secondary captures for each suspected study.

    Attributes
    ----------
    enabled : bool
        Whether they are made; they are kept with the evidence.
    destination : DestinationSettings or None
        Where they are sent, if anywhere.
    """

    enabled: bool = True
    destination: DestinationSettings | None = None


class AuditSettings(_Section):
    """Where audit messages (PS3.15 A.5) go; without a host they are kept here only.

    Attributes
    ----------
    host : str or None
        The audit repository, a syslog receiver.
    port : int
    transport : str
        ``tls`` (RFC 5425) or ``udp`` (RFC 5426).
    ca_file : Path or None
        Certificates trusted to sign the repository's; the system's by default.
    cert_file, key_file : Path or None
        The node's own certificate and key, where the repository asks for one.
    timeout_seconds : float
    source_id : str or None
        How the repository knows this node; its AE title by default.
    site_id : str or None
        The enterprise site.
    include_patient_id : bool
        Whether messages about studies name the patient's ID.
    retention_days : float
        How long events are kept here.
    retry : RetrySettings
        Waits between attempts; there is no last one.
    """

    host: str | None = None
    port: Port = 6514
    transport: Annotated[str, Field(pattern="^(tls|udp)$")] = "tls"
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    timeout_seconds: Seconds = 10.0
    source_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    site_id: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    include_patient_id: bool = False
    retention_days: Annotated[float, Field(gt=0)] = 30.0
    retry: RetrySettings = RetrySettings(cap_seconds=300.0)


class ReportSettings(_Section):
    """The daily report: what came on a day, by source, and where it is.

    Attributes
    ----------
    enabled : bool
        Whether the ops role writes it each morning.
    hour : int
        From when on yesterday's is written, in the machine's local time.
    folder : Path or None
        Where; by default ``reports`` in the data folder.
    announce : bool
        Whether its sums go out as a notification, if anything came on that day.
    """

    enabled: bool = True
    hour: Annotated[int, Field(ge=0, le=23)] = 6
    folder: Path | None = None
    announce: bool = True


class SelfTestSettings(_Section):
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


class OpsSettings(_Section):
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
        _raise_all(
            [
                f"{first} and {second}: one of them was given; expected both or neither"
                for first, second in (("metrics_user", "metrics_password"), ("metrics_cert_file", "metrics_key_file"))
                if (getattr(self, first) is None) != (getattr(self, second) is None)
            ]
        )
        return self


class RetrainingSettings(_Section):
    """Training challengers from what people decided.

    Attributes
    ----------
    enabled : bool
        Whether it is done by schedule; ``pacs-guard model retrain`` works in any case.
    detectors : tuple of str
        Names of their bundles.
    every_days : float
        Shortest time between two trainings of one detector.
    least_new_labels : int
        Fewest studies that people decided about since the last training.
    least_held_back : int
        Fewest held-back patients, altered as well as clean, that a proposal is made on.
    presumed_clean : int
        How many studies that passed are taken along, to see how many of them the challenger suspects.
    data : Path or None
        Base: the data folder that the shipped model was trained on.
    networks : int
        Networks of each head of the forensic detector.
    nice : int
        How much the training stands back; see ``nice(2)``.
    max_hours : float
        After so long it is ended.
    """

    enabled: bool = False
    detectors: Annotated[tuple[Name, ...], Field(min_length=1)] = ("forensic",)
    every_days: Annotated[float, Field(gt=0)] = 7.0
    least_new_labels: Annotated[int, Field(ge=1)] = 10
    least_held_back: Annotated[int, Field(ge=1)] = 6
    presumed_clean: Annotated[int, Field(ge=0)] = 50
    data: Path | None = None
    networks: Annotated[int, Field(ge=1, le=20)] = 5
    nice: Annotated[int, Field(ge=0, le=19)] = 19
    max_hours: Annotated[float, Field(gt=0)] = 24.0


class Settings(BaseSettings):
    """Everything that can be set.

    Attributes
    ----------
    node, tls, receive, completeness, detect, deliver, ops, audit, report, results, retraining
        Sections of the file.
    sources, destinations
        Lists of tables; at least one each.
    webhook, email
        Optional.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__"
    )

    node: NodeSettings = NodeSettings()
    tls: TlsSettings = TlsSettings()
    receive: ReceiveSettings = ReceiveSettings()
    completeness: CompletenessSettings = CompletenessSettings()
    detect: DetectSettings = DetectSettings()
    deliver: DeliverSettings = DeliverSettings()
    ops: OpsSettings = OpsSettings()
    audit: AuditSettings = AuditSettings()
    report: ReportSettings = ReportSettings()
    results: ResultsSettings = ResultsSettings()
    retraining: RetrainingSettings = RetrainingSettings()
    self_test: SelfTestSettings = SelfTestSettings()
    sources: Annotated[tuple[SourceSettings, ...], Field(validate_default=True)] = ()
    destinations: Annotated[tuple[DestinationSettings, ...], Field(validate_default=True)] = ()
    webhook: WebhookSettings | None = None
    email: EmailSettings | None = None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # not read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # not read
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file, whose content is handed in as arguments."""
        return env_settings, init_settings

    # these look at one field each, so that they speak up beside errors elsewhere
    @field_validator("receive")
    @classmethod
    def _has_certificate(cls, receive: ReceiveSettings, info: ValidationInfo) -> ReceiveSettings:
        tls = info.data.get("tls")
        missing = [name for name in ("cert_file", "ca_file") if tls is not None and getattr(tls, name) is None]
        if receive.tls is not None:
            _raise_all([f"tls: tls.{name} is not given; expected a file, as receive.tls is there" for name in missing])
        return receive

    @field_validator("sources")
    @classmethod
    def _sources_fit(cls, sources: tuple[SourceSettings, ...], info: ValidationInfo) -> tuple[SourceSettings, ...]:
        titles = [title for source in sources for title in source.ae_titles]
        _raise_all(
            _none_given("sources", sources)
            + _repeated("name", [source.name for source in sources])
            + _repeated("AE title", titles)
            + _impatient(sources, info.data.get("completeness"))
            + _unreachable(sources, info.data.get("receive"))
            + _reserved(info.data.get("self_test"), "name", SELF_TEST, [source.name for source in sources])
            + _reserved(info.data.get("self_test"), "AE title", None, titles)
            + _no_way_in(info.data.get("self_test"), info.data.get("receive"))
        )
        told = tuple(_told_with_node_tls(source, info.data.get("tls")) for source in sources)
        test = info.data.get("self_test")
        return (*told, test.source()) if test is not None and test.enabled else told

    @field_validator("destinations")
    @classmethod
    def _destinations_fit(
        cls, destinations: tuple[DestinationSettings, ...], info: ValidationInfo
    ) -> tuple[DestinationSettings, ...]:
        names = [destination.name for destination in destinations]
        _raise_all(
            _none_given("destinations", destinations)
            + _repeated("name", names)
            + _circular(destinations, info.data.get("receive"))
            + _reserved(info.data.get("self_test"), "name", SELF_TEST, names)
        )
        settled = tuple(_with_node_tls(destination, info.data.get("tls")) for destination in destinations)
        test = info.data.get("self_test")
        if test is None or not test.enabled:
            return settled
        _raise_all(_circular((test.destination(),), info.data.get("receive")))
        return (*settled, test.destination())

    @field_validator("ops")
    @classmethod
    def _ports_differ(cls, ops: OpsSettings, info: ValidationInfo) -> OpsSettings:
        receive = info.data.get("receive")
        if receive is not None and ops.metrics_port in receive.ports:
            key = "receive.port" if ops.metrics_port == receive.port else "receive.tls.port"
            raise ValueError(f"{key} and ops.metrics_port are both {ops.metrics_port}; expected two different ports")
        return ops

    @field_validator("results")
    @classmethod
    def _results_go_elsewhere(cls, results: ResultsSettings, info: ValidationInfo) -> ResultsSettings:
        if results.destination is not None:
            _raise_all(_circular((results.destination,), info.data.get("receive")))
            destination = _with_node_tls(results.destination, info.data.get("tls"))
            return results.model_copy(update={"destination": destination})
        return results

    @property
    def spool_dir(self) -> Path:
        """Folder of the spool."""
        return self.node.data_dir / "spool"

    @property
    def evidence_dir(self) -> Path:
        """Folder of pictures and evidence files."""
        return self.node.data_dir / "evidence"

    @property
    def models_dir(self) -> Path:
        """Folder of retrained models, ``NAME/VERSION``."""
        return self.node.data_dir / "models"

    @property
    def proposals_dir(self) -> Path:
        """Folder of what retraining proposes."""
        return self.node.data_dir / "proposals"

    @property
    def reports_dir(self) -> Path:
        """Folder of the daily reports."""
        return self.report.folder or self.node.data_dir / "reports"

    @property
    def metrics_dir(self) -> Path:
        """Folder through which the roles share their metrics."""
        return self.node.data_dir / "metrics"

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the queue."""
        if self.node.database_url is not None:
            return self.node.database_url.get_secret_value()
        return f"sqlite:///{self.node.data_dir / 'queue.sqlite'}"

    def policies(self) -> dict[str, Policy]:
        """Return the policy of each source by name."""
        return {source.name: source.policy() for source in self.sources}


def load_settings(path: Path | None) -> Settings:
    """Read the settings from a TOML file and the environment.

    Parameters
    ----------
    path : Path or None
        The file; None for the environment alone.

    Raises
    ------
    ConfigurationError
        With one line for every problem: the key, what was given, what was expected.
    """
    content = _read(path) if path is not None else {}
    try:
        return Settings(**content)
    except ValidationError as error:
        raise ConfigurationError([line for problem in error.errors() for line in _lines(problem)]) from error
    except ValueError as error:  # an environment variable that is no JSON where a list is expected
        raise ConfigurationError([f"environment: {error}"]) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigurationError([f"{path}: cannot be read: {error.strerror}"]) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError([f"{path}: is not TOML: {error}"]) from error


def _reserved(test: SelfTestSettings | None, what: str, value: str | None, given: Sequence[str]) -> list[str]:
    """Refuse what belongs to the self-test while that is enabled."""
    if test is None or not test.enabled:
        return []
    mine = value or test.ae_title
    return [f"{what} {mine!r} was given; it belongs to the self-test"] if mine in given else []


def _no_way_in(test: SelfTestSettings | None, receive: ReceiveSettings | None) -> list[str]:
    if test is None or not test.enabled or receive is None or receive.plain:
        return []
    return [
        "self_test.enabled is true and receive.plain false; expected a plain port too, as the test has no certificate"
    ]


def _none_given(what: str, given: Sequence[object]) -> list[str]:
    return [] if given else [f"none is given; expected at least one [[{what}]] table"]


def _impatient(sources: tuple[SourceSettings, ...], completeness: CompletenessSettings | None) -> list[str]:
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


def _with_node_tls(destination: DestinationSettings, node: TlsSettings | None) -> DestinationSettings:
    """Return a destination whose TLS settings are complete."""
    return destination.model_copy(update={"tls": _completed(destination.tls, node)})


def _told_with_node_tls(source: SourceSettings, node: TlsSettings | None) -> SourceSettings:
    """Return a source that is told of commitments with complete TLS settings."""
    commitment = source.commitment.model_copy(update={"tls": _completed(source.commitment.tls, node)})
    return source.model_copy(update={"commitment": commitment})


def _completed(tls: DestinationTlsSettings | None, node: TlsSettings | None) -> DestinationTlsSettings | None:
    """Return TLS settings in which what is not given is the node's own."""
    if tls is None or node is None:
        return tls
    given: dict[str, Any] = {}
    if tls.cert_file is None:
        given |= {name: getattr(node, name) for name in ("cert_file", "key_file", "key_password")}
    if tls.ca_file is None:
        given |= {name: getattr(node, name) for name in ("ca_file", "crl_file")}
    return tls.model_copy(update=given)


def _unreachable(sources: tuple[SourceSettings, ...], receive: ReceiveSettings | None) -> list[str]:
    """Refuse a source that must show a certificate where no port asks for one."""
    if receive is None or receive.tls is not None:
        return []
    return [
        f"{source.name}: certificates were given; expected receive.tls too, as none is shown on a plain port"
        for source in sources
        if source.certificates
    ]


def _circular(destinations: tuple[DestinationSettings, ...], receive: ReceiveSettings | None) -> list[str]:
    """Refuse to deliver to this node itself: it would receive what it forwards, for ever."""
    if receive is None:
        return []
    own = {receive.host, "localhost", "127.0.0.1", "::1"}
    return [
        f"{destination.name}: {destination.host}:{destination.port} is this node; expected a PACS"
        for destination in destinations
        if destination.port in receive.ports and destination.host in own
    ]


def _repeated(what: str, values: list[str]) -> list[str]:
    repeated = sorted({value for value in values if values.count(value) > 1})
    return [f"{what} {value!r} is given more than once; expected each once" for value in repeated]


def _lines(problem: Any) -> list[str]:
    """Return one line for each problem; a validator may have found several."""
    if problem["type"] == "too_short" and problem["input"]:
        return []  # it became empty by errors that are reported themselves
    return [_line({**problem, "msg": message}) for message in problem["msg"].split("\n")]


def _line(problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "settings"
    expected = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {expected}" if problem["loc"] else expected
    expected = expected[:1].lower() + expected[1:]
    if problem["type"] == "missing":
        return f"{key}: {expected}"
    if problem["type"] == "extra_forbidden":
        return f"{key}: there is no such setting"
    if problem["loc"] and problem["loc"][-1] in _SECRET:
        return f"{key}: {expected}"
    return f"{key}: {problem['input']!r} was given; {expected}"
