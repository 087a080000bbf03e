"""Who is told of what: webhook, e-mail, audit repository, reports, and findings as DICOM objects."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator

from pacs_guard.config.destinations import DestinationSettings, RetrySettings
from pacs_guard.config.section import MailAddress, Port, Seconds, Section, raise_all
from pacs_guard.domain import announcement


class WebhookSettings(Section):
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


class EmailSettings(Section):
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
        raise_all(announcement.problems(template, study_uid=bool(info.data.get("include_study_uid"))))
        return template

    @model_validator(mode="after")
    def _password_fits(self) -> EmailSettings:
        given = self.password is not None
        if given != (self.username is not None):
            raise ValueError("username and password go together; expected both or neither")
        if given and self.security == "none":
            raise ValueError('a password was given with security = "none"; expected "starttls" or "tls"')
        return self


class ResultsSettings(Section):
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


class AuditSettings(Section):
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


class ReportSettings(Section):
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
