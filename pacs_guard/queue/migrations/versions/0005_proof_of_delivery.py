"""Proof of delivery: what destinations vouch for, and what modalities ask this node to vouch for."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("delivery_items", sa.Column("proof", sa.String(length=16)))
    op.add_column("delivery_items", sa.Column("failure_reason", sa.Integer()))
    op.add_column("delivery_items", sa.Column("proved_at", sa.Float()))
    op.add_column("delivery_items", sa.Column("resends", sa.Integer(), nullable=False, server_default="0"))
    _create_proofs()
    _create_commitments()
    _create_requests()
    _prove_what_is_still_here()


def _create_proofs() -> None:
    op.create_table(
        "proofs",
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("question", sa.String(length=16)),
        sa.Column("last_error", sa.Text()),
        sa.Column("lease_owner", sa.String(length=128)),
        sa.Column("lease_until", sa.Float()),
        sa.Column("delivered_at", sa.Float(), nullable=False),
        sa.Column("settled_at", sa.Float()),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("proved", sa.Integer(), nullable=False),
        sa.Column("unproved", sa.Integer(), nullable=False),
        sa.Column("unasked", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name=op.f("fk_proofs_delivery_id")),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("pk_proofs")),
    )
    op.create_index(
        op.f("ix_proofs_destination_state_not_before"), "proofs", ["destination", "state", "not_before"], unique=False
    )


def _create_commitments() -> None:
    op.create_table(
        "commitments",
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("delivery_id", sa.Integer(), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("instances", sa.Integer(), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("reported_at", sa.Float()),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], name=op.f("fk_commitments_delivery_id")),
        sa.PrimaryKeyConstraint("transaction_uid", name=op.f("pk_commitments")),
    )
    op.create_index(op.f("ix_commitments_delivery_id"), "commitments", ["delivery_id"], unique=False)


def _create_requests() -> None:
    op.create_table(
        "commitment_requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("calling_ae", sa.String(length=16), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("source", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.Text()),
        sa.Column("lease_owner", sa.String(length=128)),
        sa.Column("lease_until", sa.Float()),
        sa.Column("finished_at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment_requests")),
        sa.UniqueConstraint(
            "calling_ae", "transaction_uid", name=op.f("uq_commitment_requests_calling_ae_transaction_uid")
        ),
    )
    op.create_index(
        op.f("ix_commitment_requests_state_not_before"), "commitment_requests", ["state", "not_before"], unique=False
    )
    op.create_table(
        "commitment_request_items",
        sa.Column("request_id", sa.Integer(), nullable=False),
        sa.Column("sop_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_class_uid", sa.String(length=64), nullable=False),
        sa.Column("answer", sa.Integer()),
        sa.ForeignKeyConstraint(
            ["request_id"], ["commitment_requests.id"], name=op.f("fk_commitment_request_items_request_id")
        ),
        sa.PrimaryKeyConstraint("request_id", "sop_uid", "sop_class_uid", name=op.f("pk_commitment_request_items")),
    )


def _prove_what_is_still_here() -> None:
    """Ask about what was delivered before and not removed yet; what is gone was removed by the rule of its time."""
    op.execute(
        "UPDATE delivery_items SET proof = 'unasked' WHERE state = 'delivered' AND EXISTS "
        "(SELECT 1 FROM instances i WHERE i.id = delivery_items.instance_id AND i.purged_at IS NOT NULL)"
    )
    op.execute(
        "INSERT INTO proofs (delivery_id, destination, state, attempts, not_before, delivered_at, pending, proved, "
        "unproved, unasked) "
        "SELECT d.id, d.destination, 'due', 0, 0, coalesce(d.finished_at, d.started_at), "
        "(SELECT count(*) FROM delivery_items t WHERE t.delivery_id = d.id AND t.state = 'delivered' "
        "AND t.proof IS NULL), 0, 0, 0 FROM deliveries d WHERE EXISTS (SELECT 1 FROM delivery_items t "
        "WHERE t.delivery_id = d.id AND t.state = 'delivered' AND t.proof IS NULL)"
    )
