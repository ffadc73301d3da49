"""Retention: tombstones of objects, and an index over what still holds data.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "object_tombstones",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_object_tombstones")),
    )
    op.create_index(
        "ix_predictions_retention",
        "predictions",
        ["completed_at"],
        unique=False,
        postgresql_where=sa.text("NOT data_removed"),
    )
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0006')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0006'")
    op.drop_index("ix_predictions_retention", table_name="predictions", postgresql_where=sa.text("NOT data_removed"))
    op.drop_table("object_tombstones")
