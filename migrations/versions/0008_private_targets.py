"""Deliveries note that their target is private, so that tokens are told no more than whether it was delivered.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "webhook_deliveries",
        sa.Column("is_private", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0008')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0008'")
    op.drop_column("webhook_deliveries", "is_private")
