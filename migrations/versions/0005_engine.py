"""The cache of results, and what a denoising step costs on each kind of device.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("predictions", sa.Column("cache_key", sa.Text(), nullable=True))
    op.create_index(
        "ix_predictions_cache_key",
        "predictions",
        ["cache_key", "completed_at"],
        unique=False,
        postgresql_where=sa.text("status = 'succeeded' AND cache_key IS NOT NULL"),
    )
    op.create_table(
        "step_costs",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("images", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("pixels", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("peak_bytes", sa.BigInteger(), nullable=True),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("device", "model", "version", "images", "pixels", name=op.f("pk_step_costs")),
    )
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0005')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0005'")
    op.drop_table("step_costs")
    op.drop_index(
        "ix_predictions_cache_key",
        table_name="predictions",
        postgresql_where=sa.text("status = 'succeeded' AND cache_key IS NOT NULL"),
    )
    op.drop_column("predictions", "cache_key")
