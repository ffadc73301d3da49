"""Objects that the bucket has lost, and the tries to load a model that failed.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("objects", sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_objects_missing",
        "objects",
        ["missing_since"],
        unique=False,
        postgresql_where=sa.text("missing_since IS NOT NULL"),
    )
    op.create_table(
        "load_failures",
        sa.Column("worker_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_load_failures")),
    )
    op.create_index("ix_load_failures_model_failed_at", "load_failures", ["model", "failed_at"], unique=False)
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0010')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0010'")
    op.drop_table("load_failures")
    op.drop_index("ix_objects_missing", table_name="objects", postgresql_where=sa.text("missing_since IS NOT NULL"))
    op.drop_column("objects", "missing_since")
