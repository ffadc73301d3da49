"""Predictions that retention spares (`keep`), and those that their owner has deleted (`deleted_at`).

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("predictions", sa.Column("keep", sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.add_column("predictions", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    _retention_index("NOT data_removed AND NOT keep")  # retention doesn't walk through what is kept
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0015')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0015'")
    _retention_index("NOT data_removed")
    op.drop_column("predictions", "deleted_at")
    op.drop_column("predictions", "keep")


def _retention_index(where: str) -> None:
    op.drop_index("ix_predictions_retention", table_name="predictions")
    op.create_index(
        "ix_predictions_retention", "predictions", ["completed_at"], unique=False, postgresql_where=sa.text(where)
    )
