"""Labels, models in force, drift, and studies that are judged anew."""

import sqlalchemy as sa
from alembic import op

from pacs_guard.queue.schema import LABELS_ARE_FOR_GOOD, MODEL_SWITCHES_ARE_FOR_GOOD

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("assessments", sa.Column("hashes", sa.JSON(), nullable=True))
    op.add_column("assessments", sa.Column("cause", sa.String(length=16), nullable=False, server_default="first"))
    _create_labels()
    _create_reassessments()
    _create_models()
    op.create_table(
        "drift_histograms",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("scanner", sa.String(length=200), nullable=False),
        sa.Column("measure", sa.String(length=32), nullable=False),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("series", sa.Float(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_drift_histograms")),
        sa.UniqueConstraint(
            "name",
            "version",
            "scanner",
            "measure",
            "day",
            name=op.f("uq_drift_histograms_name_version_scanner_measure_day"),
        ),
    )


def _create_labels() -> None:
    op.create_table(
        "labels",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("label", sa.String(length=16), nullable=False),
        sa.Column("places", sa.JSON(), nullable=False),
        sa.Column("who", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_labels_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_labels")),
    )
    op.create_index(op.f("ix_labels_study_id"), "labels", ["study_id"], unique=False)
    for statement in LABELS_ARE_FOR_GOOD.get(op.get_bind().dialect.name, []):
        op.execute(statement)


def _create_reassessments() -> None:
    op.create_table(
        "reassessments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("who", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_reassessments_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reassessments")),
    )
    op.create_index(op.f("ix_reassessments_study_id"), "reassessments", ["study_id"], unique=False)
    op.create_index(
        op.f("ix_reassessments_finished_at_study_id"), "reassessments", ["finished_at", "study_id"], unique=False
    )


def _create_models() -> None:
    op.create_table(
        "model_switches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=True),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("who", sa.String(length=128), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_switches")),
    )
    op.create_index(op.f("ix_model_switches_name"), "model_switches", ["name"], unique=False)
    for statement in MODEL_SWITCHES_ARE_FOR_GOOD.get(op.get_bind().dialect.name, []):
        op.execute(statement)
    op.create_table(
        "loaded_models",
        sa.Column("worker", sa.String(length=128), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("worker", "name", name=op.f("pk_loaded_models")),
    )
