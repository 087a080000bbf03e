"""The tables. Times are seconds since the epoch, UTC; booleans and JSON are SQLAlchemy's portable types."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    false,
    text,
)

REVISION = "0005"
"""The migration that these tables correspond to."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_uid", String(64), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("verdict", String(16)),
    Column("reason", Text),
    Column("kinds", String(64), nullable=False, default=""),
    Column("score", Float),
    Column("p_value", Float),
    # a person has to lift it; late instances and later verdicts do not
    Column("standing_hold", Boolean, nullable=False, default=False),
    Column("bypassed", Boolean, nullable=False, default=False),
    # forwarded without a verdict, and still to be assessed
    Column("late_due", Boolean, nullable=False, default=False, server_default=false(), index=True),
    # counted apart from the rows of `instances`, for lists
    Column("received_count", Integer, nullable=False, default=0),
    Column("revision", Integer, nullable=False, default=0),
    Column("created_at", Float, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("last_instance_at", Float, nullable=False),
    Column("completed_at", Float),
    Column("decided_at", Float),
    Column("finished_at", Float),
    Column("lease_owner", String(128)),
    Column("lease_until", Float),
    Column("attempts", Integer, nullable=False, default=0),
    Index(None, "state", "completed_at"),
)

instances = Table(
    "instances",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False),
    Column("series_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("path", String(255), nullable=False, unique=True),
    Column("offset", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("source", String(64), nullable=False),
    Column("calling_ae", String(16), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("duplicates", Integer, nullable=False, default=0),
    Column("missing", Boolean, nullable=False, default=False),
    Column("purged_at", Float),
    UniqueConstraint("study_id", "series_uid", "sop_uid", "sha256"),
    Index(None, "sop_uid"),
)

associations = Table(
    "associations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("receiver", String(128), nullable=False),
    Column("calling_ae", String(16), nullable=False),
    Column("address", String(64), nullable=False),
    Column("source", String(64), nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("heartbeat_at", Float, nullable=False, index=True),
)
"""Open associations; a row is removed when its association ends, and ignored once its heartbeat is old."""

association_studies = Table(
    "association_studies",
    metadata,
    Column("association_id", ForeignKey("associations.id", ondelete="CASCADE"), primary_key=True),
    Column("study_id", ForeignKey("studies.id"), primary_key=True),
    # answered 0x0000 on that association, for its audit message
    Column("instances", Integer, nullable=False, default=0, server_default="0"),
    Index(None, "study_id"),
)

tallies = Table(
    "tallies",
    metadata,
    Column("source", String(64), primary_key=True),
    Column("outcome", String(16), primary_key=True),
    Column("instances", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
)
"""What was answered to each source, counted in the transaction of the answer."""

refusals = Table(
    "refusals",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", String(64), nullable=False),
    Column("calling_ae", String(16), nullable=False),
    Column("sop_uid", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("path", String(255)),
    Column("refused_at", Float, nullable=False),
    Column("association_id", String(32), index=True),
)
"""Objects that were answered with a failure and kept aside."""

assessments = Table(
    "assessments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False, index=True),
    Column("revision", Integer, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("decision", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("bundles", JSON, nullable=False),
    # of their manifests; none for assessments of older releases
    Column("hashes", JSON),
    # a `Cause`
    Column("cause", String(16), nullable=False, default="first", server_default="first"),
    Column("series", JSON, nullable=False),
    Column("evidence", String(255)),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float, nullable=False),
)

findings = Table(
    "findings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("assessment_id", ForeignKey("assessments.id"), nullable=False, index=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("detector", String(64), nullable=False),
    Column("score", Float, nullable=False),
    Column("sentence", Text, nullable=False),
    Column("details", JSON, nullable=False),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("last_error", Text),
    Column("lease_owner", String(128)),
    Column("lease_until", Float),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    UniqueConstraint("study_id", "destination"),
    Index(None, "destination", "state", "not_before"),
)
"""One study's way to one destination; its state is an `ItemState`."""

delivery_items = Table(
    "delivery_items",
    metadata,
    Column("delivery_id", ForeignKey("deliveries.id"), primary_key=True),
    Column("instance_id", ForeignKey("instances.id"), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("status", Integer),
    Column("error", Text),
    Column("transcoded_to", String(64)),
    Column("delivered_at", Float),
    # of what was delivered: a `Proof`, or nothing while it was not asked about
    Column("proof", String(16)),
    Column("failure_reason", Integer),
    Column("proved_at", Float),
    # for want of proof
    Column("resends", Integer, nullable=False, default=0, server_default="0"),
    Index(None, "instance_id"),
    Index(None, "delivery_id", "state", "attempts"),
)

proofs = Table(
    "proofs",
    metadata,
    Column("delivery_id", ForeignKey("deliveries.id"), primary_key=True),
    Column("destination", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    # for the state asked: when the report is overdue
    Column("not_before", Float, nullable=False),
    Column("question", String(16)),
    Column("last_error", Text),
    Column("lease_owner", String(128)),
    Column("lease_until", Float),
    Column("delivered_at", Float, nullable=False),
    Column("settled_at", Float),
    # of the delivery's items, so that the gauges need not look at each
    Column("pending", Integer, nullable=False, default=0),
    Column("proved", Integer, nullable=False, default=0),
    Column("unproved", Integer, nullable=False, default=0),
    Column("unasked", Integer, nullable=False, default=0),
    Index(None, "destination", "state", "not_before"),
)
"""Whether a destination vouches for what it took of a study; the state is a `ProofState`."""

commitments = Table(
    "commitments",
    metadata,
    Column("transaction_uid", String(64), primary_key=True),
    Column("delivery_id", ForeignKey("deliveries.id"), nullable=False, index=True),
    Column("destination", String(64), nullable=False),
    Column("instances", Integer, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("reported_at", Float),
)
"""Storage commitment requests to destinations; kept, as a report may come late or twice."""

commitment_requests = Table(
    "commitment_requests",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("calling_ae", String(16), nullable=False),
    Column("transaction_uid", String(64), nullable=False),
    Column("source", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("received_at", Float, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_error", Text),
    Column("lease_owner", String(128)),
    Column("lease_until", Float),
    Column("finished_at", Float),
    UniqueConstraint("calling_ae", "transaction_uid"),
    Index(None, "state", "not_before"),
)
"""Storage commitment requests of modalities; the state is a `RequestState`."""

commitment_request_items = Table(
    "commitment_request_items",
    metadata,
    Column("request_id", ForeignKey("commitment_requests.id"), primary_key=True),
    Column("sop_uid", String(64), primary_key=True),
    Column("sop_class_uid", String(64), primary_key=True),
    # 0 for what is committed, else the Failure Reason; nothing while it cannot be said
    Column("answer", Integer),
)

actions = Table(
    "actions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False, index=True),
    Column("action", String(16), nullable=False),
    Column("who", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
)
"""What people and deadlines did to a study; a trigger refuses to change or delete a row."""

notifications = Table(
    "notifications",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id")),
    Column("event", String(32), nullable=False),
    # "log" is written first and makes the others
    Column("channel", String(16), nullable=False, default="log", server_default="log"),
    Column("payload", JSON, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("last_error", Text),
    Column("created_at", Float, nullable=False),
    Column("sent_at", Float),
    Column("given_up", Boolean, nullable=False, default=False),
    Index(None, "sent_at", "not_before"),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("event", String(32), nullable=False),
    Column("study_id", ForeignKey("studies.id"), index=True),
    Column("facts", JSON, nullable=False),
    Column("at", Float, nullable=False, index=True),
    Column("attempts", Integer, nullable=False, default=0),
    Column("last_error", Text),
    Column("sent_at", Float, index=True),
)
"""What an audit repository has to hear of; written in the transaction of what happened, sent later."""

results = Table(
    "results",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False, index=True),
    Column("assessment_id", ForeignKey("assessments.id"), nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("destination", String(64)),
    Column("attempts", Integer, nullable=False, default=0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("last_error", Text),
    Column("lease_owner", String(128)),
    Column("lease_until", Float),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Index(None, "state", "not_before"),
)
"""A suspected study's findings as DICOM objects; the state is a `ResultState`."""

result_objects = Table(
    "result_objects",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("result_id", ForeignKey("results.id"), nullable=False, index=True),
    Column("series_uid", String(64), nullable=False),
    Column("sop_uid", String(64), nullable=False, unique=True),
    Column("sha256", String(64), nullable=False),
    Column("sop_class_uid", String(64), nullable=False),
    Column("transfer_syntax_uid", String(64), nullable=False),
    Column("path", String(255), nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("status", Integer),
    Column("error", Text),
    Column("delivered_at", Float),
)
"""The objects of a result, relative to the data folder; the state is an `ItemState`."""

bypass_switches = Table(
    "bypass_switches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("source", String(64), nullable=False, index=True),
    Column("switched_on", Boolean, nullable=False),
    Column("who", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
)
"""When people had a source's studies forwarded unjudged; the newest row of a source holds, and none ever changes."""

labels = Table(
    "labels",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False, index=True),
    Column("label", String(16), nullable=False),
    Column("places", JSON, nullable=False),
    Column("who", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
)
"""What people say a study is, for training; the newest row of a study holds, and none ever changes."""

reassessments = Table(
    "reassessments",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False, index=True),
    Column("who", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("finished_at", Float),
    Index(None, "finished_at", "study_id"),
)
"""Studies that a person wants judged anew by the models in force."""

model_switches = Table(
    "model_switches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("action", String(16), nullable=False),
    Column("name", String(64), nullable=False, index=True),
    # none for the model that the settings name
    Column("version", String(64)),
    Column("sha256", String(64)),
    Column("who", String(128), nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
)
"""Promotions and rollbacks; together they say which models are in force, and no row ever changes."""

loaded_models = Table(
    "loaded_models",
    metadata,
    Column("worker", String(128), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("version", String(64), nullable=False),
    Column("sha256", String(64)),
    Column("error", Text),
    Column("seen_at", Float, nullable=False),
)
"""What each detector worker judges by."""

drift_histograms = Table(
    "drift_histograms",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(64), nullable=False),
    Column("version", String(64), nullable=False),
    Column("scanner", String(200), nullable=False),
    Column("measure", String(32), nullable=False),
    # since the epoch; 0 for what the others are compared with
    Column("day", Integer, nullable=False),
    Column("series", Float, nullable=False),
    Column("counts", JSON, nullable=False),
    UniqueConstraint("name", "version", "scanner", "measure", "day"),
)
"""How a model's scores and the noise that it saw were distributed, by scanner and day; each series weighs one."""


def _for_good(table: str, what: str) -> dict[str, list[TextClause]]:
    return {
        "sqlite": [
            text(
                f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{what} are recorded for good'); END"
            )
            for verb in ("UPDATE", "DELETE")
        ],
        "postgresql": [
            text(
                f"CREATE TRIGGER {table}_are_for_good BEFORE UPDATE OR DELETE ON {table} "
                "FOR EACH ROW EXECUTE FUNCTION actions_are_for_good()"
            ),
        ],
    }


LABELS_ARE_FOR_GOOD = _for_good("labels", "labels")
MODEL_SWITCHES_ARE_FOR_GOOD = _for_good("model_switches", "switches of models")

ACTIONS_ARE_FOR_GOOD = {
    "sqlite": [
        text(
            f"CREATE TRIGGER actions_no_{verb.lower()} BEFORE {verb} ON actions "
            "BEGIN SELECT RAISE(ABORT, 'actions are recorded for good'); END"
        )
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        text(
            "CREATE FUNCTION actions_are_for_good() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'actions are recorded for good'; END $$"
        ),
        text(
            "CREATE TRIGGER actions_are_for_good BEFORE UPDATE OR DELETE ON actions "
            "FOR EACH ROW EXECUTE FUNCTION actions_are_for_good()"
        ),
    ],
}

SWITCHES_ARE_FOR_GOOD = {
    "sqlite": [
        text(
            f"CREATE TRIGGER bypass_switches_no_{verb.lower()} BEFORE {verb} ON bypass_switches "
            "BEGIN SELECT RAISE(ABORT, 'bypass switches are recorded for good'); END"
        )
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        text(
            "CREATE TRIGGER bypass_switches_are_for_good BEFORE UPDATE OR DELETE ON bypass_switches "
            "FOR EACH ROW EXECUTE FUNCTION actions_are_for_good()"
        ),
    ],
}
