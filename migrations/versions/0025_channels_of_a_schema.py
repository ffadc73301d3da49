"""Two Darkrooms in schemas of one database don't hear each other: their channels have different names.

The name stays as it is in `public`.

Revision ID: 0025
Revises: 0024
"""

from __future__ import annotations

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

# The channel's name and what follows it stand in storage/postgres/notify.py, as SUBMITTED_CHANNEL and HERE.
NOTIFY_SUBMITTED = """
CREATE OR REPLACE FUNCTION darkroom_notify_submitted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify({channel}, json_build_object('id', NEW.id, 'token_id', NEW.token_id)::text);
    RETURN NULL;
END $$
"""
HERE = "(CASE current_schema() WHEN 'public' THEN '' ELSE '_' || left(md5(current_schema()), 8) END)"


def upgrade() -> None:
    op.execute(NOTIFY_SUBMITTED.format(channel=f"'darkroom_submitted' || {HERE}"))
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0025')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0025'")
    op.execute(NOTIFY_SUBMITTED.format(channel="'darkroom_submitted'"))
