"""Settings: one TOML file, overridden by the environment, checked as a whole."""

from pacs_guard.config.destinations import DeliverSettings, DestinationSettings, ProofSettings, RetrySettings
from pacs_guard.config.detecting import DetectSettings, RetrainingSettings
from pacs_guard.config.loading import load_settings
from pacs_guard.config.operating import NodeSettings, OpsSettings, SelfTestSettings
from pacs_guard.config.receiving import CompletenessSettings, ReceiveSettings
from pacs_guard.config.section import Transport
from pacs_guard.config.settings import ENVIRONMENT_PREFIX, Settings
from pacs_guard.config.sources import CommitmentSettings, SourceSettings
from pacs_guard.config.telling import AuditSettings, EmailSettings, ReportSettings, ResultsSettings, WebhookSettings
from pacs_guard.config.tls import DestinationTlsSettings, ReceiveTlsSettings, TlsSettings

__all__ = [
    "ENVIRONMENT_PREFIX",
    "AuditSettings",
    "CommitmentSettings",
    "CompletenessSettings",
    "DeliverSettings",
    "DestinationSettings",
    "DestinationTlsSettings",
    "DetectSettings",
    "EmailSettings",
    "NodeSettings",
    "OpsSettings",
    "ProofSettings",
    "ReceiveSettings",
    "ReceiveTlsSettings",
    "ReportSettings",
    "ResultsSettings",
    "RetrainingSettings",
    "RetrySettings",
    "SelfTestSettings",
    "Settings",
    "SourceSettings",
    "TlsSettings",
    "Transport",
    "WebhookSettings",
    "load_settings",
]
