"""Predictions know the trace that they are part of.

Revision ID: 0020
Revises: 0019
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("predictions", sa.Column("traceparent", sa.Text(), nullable=True))
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0020')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0020'")
    op.drop_column("predictions", "traceparent")
