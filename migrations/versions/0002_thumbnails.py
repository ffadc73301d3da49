"""A small picture beside each image, for galleries.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("images", sa.Column("thumbnail_key", sa.Text(), nullable=True))
    op.create_foreign_key(op.f("fk_images_thumbnail_key"), "images", "objects", ["thumbnail_key"], ["key"])
    op.create_index(op.f("ix_images_thumbnail_key"), "images", ["thumbnail_key"], unique=False)
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0002')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0002'")
    op.drop_index(op.f("ix_images_thumbnail_key"), table_name="images")
    op.drop_constraint(op.f("fk_images_thumbnail_key"), "images", type_="foreignkey")
    op.drop_column("images", "thumbnail_key")
