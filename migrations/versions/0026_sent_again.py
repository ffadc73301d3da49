"""Pictures of a request's body can be named again by their descriptions.

Revision ID: 0026
Revises: 0025
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("input_images", sa.Column("sent_as", sa.Text(), nullable=True))
    op.create_index("ix_input_images_sent_as", "input_images", ["sent_as"])
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0026')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0026'")
    op.drop_column("input_images", "sent_as")
