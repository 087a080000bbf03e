"""Studies that were forwarded without a verdict and are to be assessed afterwards."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("studies", sa.Column("late_due", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_index(op.f("ix_studies_late_due"), "studies", ["late_due"], unique=False)
