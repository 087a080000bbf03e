"""Audit events, results as DICOM objects, channels of notifications, and bypass switches."""

import sqlalchemy as sa
from alembic import op

from pacs_guard.queue.schema import SWITCHES_ARE_FOR_GOOD

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("association_studies", sa.Column("instances", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("refusals", sa.Column("association_id", sa.String(length=32)))
    op.create_index(op.f("ix_refusals_association_id"), "refusals", ["association_id"], unique=False)
    with op.batch_alter_table("notifications") as notifications:
        notifications.add_column(sa.Column("channel", sa.String(length=16), nullable=False, server_default="log"))
        notifications.alter_column("study_id", existing_type=sa.Integer(), nullable=True)
    _create_audit_events()
    _create_results()
    op.create_table(
        "bypass_switches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("switched_on", sa.Boolean(), nullable=False),
        sa.Column("who", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bypass_switches")),
    )
    op.create_index(op.f("ix_bypass_switches_source"), "bypass_switches", ["source"], unique=False)
    for statement in SWITCHES_ARE_FOR_GOOD.get(op.get_bind().dialect.name, []):
        op.execute(statement)


def _create_audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("event", sa.String(length=32), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_audit_events_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_events")),
    )
    op.create_index(op.f("ix_audit_events_at"), "audit_events", ["at"], unique=False)
    op.create_index(op.f("ix_audit_events_study_id"), "audit_events", ["study_id"], unique=False)
    op.create_index(op.f("ix_audit_events_sent_at"), "audit_events", ["sent_at"], unique=False)


def _create_results() -> None:
    op.create_table(
        "results",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("assessment_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("lease_owner", sa.String(length=128), nullable=True),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_results_study_id")),
        sa.ForeignKeyConstraint(["assessment_id"], ["assessments.id"], name=op.f("fk_results_assessment_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_results")),
        sa.UniqueConstraint("assessment_id", name=op.f("uq_results_assessment_id")),
    )
    op.create_index(op.f("ix_results_study_id"), "results", ["study_id"], unique=False)
    op.create_index(op.f("ix_results_state_not_before"), "results", ["state", "not_before"], unique=False)
    op.create_table(
        "result_objects",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("result_id", sa.Integer(), nullable=False),
        sa.Column("series_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_uid", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(length=64), nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("delivered_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["result_id"], ["results.id"], name=op.f("fk_result_objects_result_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_result_objects")),
        sa.UniqueConstraint("sop_uid", name=op.f("uq_result_objects_sop_uid")),
    )
    op.create_index(op.f("ix_result_objects_result_id"), "result_objects", ["result_id"], unique=False)
