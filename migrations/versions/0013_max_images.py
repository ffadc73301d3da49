"""A token may have its own limit of images per prediction.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tokens", sa.Column("max_images", sa.Integer(), nullable=True))
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0013')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0013'")
    op.drop_column("tokens", "max_images")
