"""Tokens sign webhooks with a secret of their own, and deliveries are claimed token by token.

Tokens that exist keep signing with the deployment's secret until an operator rotates theirs; so do tokens that the
release before this one makes during the upgrade.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# As storage/webhook_url.py reads it, near enough: a host that is written differently only has slots of its own.
HOST_OF_URL = (
    r"lower(coalesce(substring(url FROM '^[^:]+://\[([^]]*)\]'), substring(url FROM '^[^:]+://([^/:?#]*)'), ''))"
)


def upgrade() -> None:
    op.create_table(
        "webhook_secrets",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("token_id", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("clock_timestamp()"),
            nullable=False,
        ),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name=op.f("fk_webhook_secrets_token_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_secrets")),
    )
    op.create_index(op.f("ix_webhook_secrets_token_id"), "webhook_secrets", ["token_id"], unique=False)
    op.create_index(
        "uq_webhook_secrets_active",
        "webhook_secrets",
        ["token_id"],
        unique=True,
        postgresql_where=sa.text("retired_at IS NULL"),
    )
    op.add_column(
        "tokens",
        sa.Column(
            "shared_secret_until", sa.DateTime(timezone=True), server_default=sa.text("'infinity'"), nullable=False
        ),
    )
    op.add_column(
        "webhook_deliveries", sa.Column("token_id", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )
    op.add_column("webhook_deliveries", sa.Column("host", sa.Text(), server_default=sa.text("''"), nullable=False))
    op.execute(
        f"""
        UPDATE webhook_deliveries AS delivery
        SET token_id = coalesce(prediction.token_id, 0), host = {HOST_OF_URL}
        FROM predictions AS prediction
        WHERE prediction.id = delivery.prediction_id AND delivery.status = 'pending'
        """  # noqa: S608 (a constant)
    )
    op.create_index(
        "ix_webhook_deliveries_turn",
        "webhook_deliveries",
        ["token_id", "next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0008')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0008'")
    op.drop_index(
        "ix_webhook_deliveries_turn",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.drop_column("webhook_deliveries", "host")
    op.drop_column("webhook_deliveries", "token_id")
    op.drop_column("tokens", "shared_secret_until")
    op.drop_table("webhook_secrets")
