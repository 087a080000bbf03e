"""All settings, checked as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from pacs_guard.config.checks import (
    circular,
    impatient,
    no_way_in,
    none_given,
    repeated,
    reserved,
    told_with_node_tls,
    unreachable,
    with_node_tls,
)
from pacs_guard.config.destinations import DeliverSettings, DestinationSettings
from pacs_guard.config.detecting import DetectSettings, RetrainingSettings
from pacs_guard.config.operating import NodeSettings, OpsSettings, SelfTestSettings
from pacs_guard.config.receiving import CompletenessSettings, ReceiveSettings
from pacs_guard.config.section import raise_all
from pacs_guard.config.sources import SourceSettings
from pacs_guard.config.telling import AuditSettings, EmailSettings, ReportSettings, ResultsSettings, WebhookSettings
from pacs_guard.config.tls import TlsSettings
from pacs_guard.domain.selftest import SELF_TEST

if TYPE_CHECKING:
    from pathlib import Path

    from pacs_guard.domain.policy import Policy

ENVIRONMENT_PREFIX = "PACS_GUARD_"


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
            raise_all([f"tls: tls.{name} is not given; expected a file, as receive.tls is there" for name in missing])
        return receive

    @field_validator("sources")
    @classmethod
    def _sources_fit(cls, sources: tuple[SourceSettings, ...], info: ValidationInfo) -> tuple[SourceSettings, ...]:
        titles = [title for source in sources for title in source.ae_titles]
        raise_all(
            none_given("sources", sources)
            + repeated("name", [source.name for source in sources])
            + repeated("AE title", titles)
            + impatient(sources, info.data.get("completeness"))
            + unreachable(sources, info.data.get("receive"))
            + reserved(info.data.get("self_test"), "name", SELF_TEST, [source.name for source in sources])
            + reserved(info.data.get("self_test"), "AE title", None, titles)
            + no_way_in(info.data.get("self_test"), info.data.get("receive"))
        )
        told = tuple(told_with_node_tls(source, info.data.get("tls")) for source in sources)
        test = info.data.get("self_test")
        return (*told, test.source()) if test is not None and test.enabled else told

    @field_validator("destinations")
    @classmethod
    def _destinations_fit(
        cls, destinations: tuple[DestinationSettings, ...], info: ValidationInfo
    ) -> tuple[DestinationSettings, ...]:
        names = [destination.name for destination in destinations]
        raise_all(
            none_given("destinations", destinations)
            + repeated("name", names)
            + circular(destinations, info.data.get("receive"))
            + reserved(info.data.get("self_test"), "name", SELF_TEST, names)
        )
        settled = tuple(with_node_tls(destination, info.data.get("tls")) for destination in destinations)
        test = info.data.get("self_test")
        if test is None or not test.enabled:
            return settled
        raise_all(circular((test.destination(),), info.data.get("receive")))
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
            raise_all(circular((results.destination,), info.data.get("receive")))
            destination = with_node_tls(results.destination, info.data.get("tls"))
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
