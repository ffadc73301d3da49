"""A new prediction is notified, for those who follow all predictions of a token (`GET /v1/events`).

A trigger, since its plan is kept for the connection's life: in the submit's statement it is planned again for each
request. The channel is one of its own: an API process that hears of each submission spends 5 % more on a submit, so it
listens only while somebody follows.

Revision ID: 0017
Revises: 0016
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# The channel's name stands in storage/postgres/notify.py, as SUBMITTED_CHANNEL.
NOTIFY_SUBMITTED = """
CREATE FUNCTION darkroom_notify_submitted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('darkroom_submitted', json_build_object('id', NEW.id, 'token_id', NEW.token_id)::text);
    RETURN NULL;
END $$
"""
TRIGGER = """
CREATE TRIGGER darkroom_notify_submitted AFTER INSERT ON predictions
FOR EACH ROW EXECUTE FUNCTION darkroom_notify_submitted()
"""


def upgrade() -> None:
    op.execute(NOTIFY_SUBMITTED)
    op.execute(TRIGGER)
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0017')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0017'")
    op.execute("DROP TRIGGER darkroom_notify_submitted ON predictions")
    op.execute("DROP FUNCTION darkroom_notify_submitted")
