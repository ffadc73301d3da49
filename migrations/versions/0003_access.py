"""Access: tokens, whose prediction it is, Idempotency-Key, rate limits and caps.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# How many predictions of a token wait, counted up to `at_most`. A volatile function sees what was committed after
# the statement around it began: submits of one token, which wait for each other at its rate bucket, count exactly.
QUEUED = """
CREATE FUNCTION darkroom_queued(token bigint, at_most integer) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF token IS NULL THEN
        RETURN (SELECT count(*) FROM (
            SELECT FROM predictions WHERE token_id IS NULL AND status = 'starting' LIMIT at_most) AS waiting);
    END IF;
    RETURN (SELECT count(*) FROM (
        SELECT FROM predictions WHERE token_id = token AND status = 'starting' LIMIT at_most) AS waiting);
END $$
"""


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("rate_per_minute", sa.Integer(), nullable=True),
        sa.Column("max_queued", sa.Integer(), nullable=True),
        sa.Column("max_priority", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "created_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_tokens_digest")),
        sa.UniqueConstraint("name", name=op.f("uq_tokens_name")),
    )
    op.create_table(
        "rate_buckets",
        sa.Column("token_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("left", sa.Double(), nullable=False),
        sa.Column("refilled_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_rate_buckets")),
    )
    op.add_column("predictions", sa.Column("token_id", sa.BigInteger(), nullable=True))
    op.add_column("predictions", sa.Column("idempotency_key", sa.Text(), nullable=True))
    op.add_column("predictions", sa.Column("request_hash", sa.Text(), nullable=True))
    op.create_index("ix_predictions_token_id_created_at_id", "predictions", ["token_id", "created_at", "id"])
    op.create_index(
        "ix_predictions_queued", "predictions", ["token_id"], postgresql_where=sa.text("status = 'starting'")
    )
    op.create_index(
        "uq_predictions_idempotency_key",
        "predictions",
        ["token_id", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
        postgresql_nulls_not_distinct=True,
    )
    op.execute(QUEUED)
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0003')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0003'")
    op.execute("DROP FUNCTION darkroom_queued")
    op.drop_index("uq_predictions_idempotency_key", table_name="predictions")
    op.drop_index("ix_predictions_queued", table_name="predictions")
    op.drop_index("ix_predictions_token_id_created_at_id", table_name="predictions")
    op.drop_column("predictions", "request_hash")
    op.drop_column("predictions", "idempotency_key")
    op.drop_column("predictions", "token_id")
    op.drop_table("rate_buckets")
    op.drop_table("tokens")
