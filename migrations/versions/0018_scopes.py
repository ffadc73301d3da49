"""Tokens have scopes. Those that exist, and those that the release before this one makes, keep what they could do.

Revision ID: 0018
Revises: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

SCOPES = "'{draw,read,metrics,admin}'::text[]"


def upgrade() -> None:
    op.add_column(
        "tokens",
        sa.Column(
            "scopes",
            postgresql.ARRAY(sa.Text()),
            server_default=sa.text("'{draw,read,metrics}'::text[]"),
            nullable=False,
        ),
    )
    op.create_check_constraint(
        op.f("ck_tokens_scopes"), "tokens", f"scopes <@ {SCOPES} AND array_length(scopes, 1) > 0"
    )
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0018')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0018'")
    op.drop_constraint(op.f("ck_tokens_scopes"), "tokens", type_="check")
    op.drop_column("tokens", "scopes")
