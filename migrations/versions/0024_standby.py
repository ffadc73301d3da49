"""Workers that stand by: their weights are in main memory, and their device is free.

Revision ID: 0024
Revises: 0023
"""

from __future__ import annotations

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

BEFORE = "'loading', 'idle', 'drawing', 'draining', 'failed'"


def upgrade() -> None:
    op.drop_constraint(op.f("ck_workers_state"), "workers", type_="check")
    op.create_check_constraint(op.f("ck_workers_state"), "workers", f"state IN ({BEFORE}, 'standby')")
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0024')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0024'")
    op.execute("DELETE FROM workers WHERE state = 'standby'")
    op.drop_constraint(op.f("ck_workers_state"), "workers", type_="check")
    op.create_check_constraint(op.f("ck_workers_state"), "workers", f"state IN ({BEFORE})")
