"""Pictures that predictions start from, and files that clients upload.

Revision ID: 0021
Revises: 0020
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("objects", sa.Column("sent_at", TIME, nullable=True))
    op.create_table(
        "input_images",
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["prediction_id"], ["predictions.id"], name="fk_input_images_prediction_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["object_key"], ["objects.key"], name="fk_input_images_object_key"),
        sa.PrimaryKeyConstraint("prediction_id", "name", name="pk_input_images"),
    )
    op.create_index("ix_input_images_object_key", "input_images", ["object_key"])
    op.create_table(
        "files",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("token_id", sa.BigInteger(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("md5", sa.Text(), nullable=False),
        sa.Column("metadata", JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("expires_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["object_key"], ["objects.key"], name="fk_files_object_key"),
        sa.PrimaryKeyConstraint("id", name="pk_files"),
    )
    op.create_index("ix_files_object_key", "files", ["object_key"])
    op.create_index("ix_files_expires_at", "files", ["expires_at"])
    op.create_index("ix_files_token_id_created_at_id", "files", ["token_id", "created_at", "id"])
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0021')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0021'")
    op.drop_table("files")
    op.drop_table("input_images")
    op.drop_column("objects", "sent_at")
