"""The webhook event `queued`: the check constraint allows it.

The new constraint allows all that the old one did, so releases before this one run on it.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

NAME = "ck_webhook_deliveries_event"


def upgrade() -> None:
    _allow("'queued', 'start', 'output', 'logs', 'completed'")
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0012')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0012'")
    op.execute("DELETE FROM webhook_deliveries WHERE event = 'queued'")
    _allow("'start', 'output', 'logs', 'completed'")


def _allow(events: str) -> None:
    """In one statement, so that there is no moment without a constraint; the table is read once."""
    op.execute(
        f"ALTER TABLE webhook_deliveries DROP CONSTRAINT {NAME}, ADD CONSTRAINT {NAME} CHECK (event IN ({events}))"
    )
