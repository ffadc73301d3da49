"""Tokens sign webhooks with a secret of their own, and deliveries are claimed token by token.

Tokens that exist keep signing with the deployment's secret until an operator rotates theirs; so do tokens that the
release before this one makes during the upgrade.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# As storage/webhook_url.py reads it, near enough: a host that is written differently only has slots of its own.
HOST_OF_URL = (
    r"lower(coalesce(substring(url FROM '^[^:]+://\[([^]]*)\]'), substring(url FROM '^[^:]+://([^/:?#]*)'), ''))"
)

# Which delivery is next, of those that there is a slot for (`storage.deliveries.Openings`), and its claim. A function,
# so that it is planned once a connection, also behind a transaction pooler. A change of it is a `darkroom_claim_
# delivery_v2` beside this one.
#
# For each token that has something pending, the first SELECT reads what is due in order, and stops at the first that
# may be sent: the first one, unless slots of a host are taken or only some receivers have one. The rows are compared as
# pairs so that no other index serves, which would lead through what is due of all tokens.
CLAIM_DELIVERY = """
CREATE FUNCTION darkroom_claim_delivery_v1(
    lock_for interval, closed_tokens bigint[], listed_only_tokens bigint[], listed_only boolean, listed_lanes text[],
    closed_hosts text[], closed_lanes text[], tokens bigint[], in_flight integer[], turns bigint[]
) RETURNS TABLE (delivery webhook_deliveries, sealed_secrets text[]) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
    next_id text;
    owner bigint;
BEGIN
    FOR try IN 1..20 LOOP
        WITH RECURSIVE pending (token_id) AS (
            SELECT min(token_id) FROM webhook_deliveries WHERE status = 'pending'
            UNION ALL
            SELECT (SELECT min(token_id) FROM webhook_deliveries
                    WHERE status = 'pending' AND token_id > pending.token_id)
            FROM pending WHERE pending.token_id IS NOT NULL
        )
        SELECT due.id INTO next_id
        FROM pending
        LEFT JOIN unnest(tokens, in_flight, turns) AS served (token_id, in_flight, turn)
            ON served.token_id = pending.token_id
        CROSS JOIN LATERAL (
            SELECT id, next_attempt_at FROM webhook_deliveries
            WHERE status = 'pending'
              AND (token_id, next_attempt_at) >= (pending.token_id, '-infinity'::timestamptz)
              AND (token_id, next_attempt_at) <= (pending.token_id, now())
              AND (locked_until IS NULL OR locked_until < clock_timestamp())
              AND host <> ALL(closed_hosts)
              AND token_id || ' ' || host <> ALL(closed_lanes)
              AND (NOT (listed_only OR token_id = ANY(listed_only_tokens))
                   OR token_id || ' ' || host = ANY(listed_lanes))
            ORDER BY token_id, next_attempt_at LIMIT 1
        ) AS due
        WHERE pending.token_id <> ALL(closed_tokens)
        ORDER BY coalesce(served.in_flight, 0), coalesce(served.turn, 0), due.next_attempt_at LIMIT 1;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        UPDATE webhook_deliveries AS d SET locked_until = clock_timestamp() + lock_for
        WHERE d.id = next_id AND d.status = 'pending' AND d.next_attempt_at <= clock_timestamp()
          AND (d.locked_until IS NULL OR d.locked_until < clock_timestamp())
        RETURNING d.* INTO delivery;
        EXIT WHEN FOUND;  -- else another courier was faster
    END LOOP;
    IF delivery.id IS NULL THEN
        RETURN;
    END IF;
    -- Nobody has to be woken for it any more.
    DELETE FROM procrastinate_jobs WHERE id = (
        SELECT id FROM procrastinate_jobs WHERE id = delivery.queue_job_id AND status = 'todo' FOR UPDATE SKIP LOCKED
    );
    SELECT predictions.token_id INTO owner FROM predictions WHERE predictions.id = delivery.prediction_id;
    sealed_secrets := darkroom_webhook_secrets_v1(owner);
    RETURN NEXT;
END $$
"""

# The secrets that sign for a token (NULL: for nobody's predictions), as they are stored: its own, the newest first,
# then the deployment's where they sign too.
WEBHOOK_SECRETS = """
CREATE FUNCTION darkroom_webhook_secrets_v1(owner bigint) RETURNS text[] LANGUAGE sql STABLE AS $$
SELECT ARRAY(
    SELECT secret FROM (
        SELECT 1 AS rank, id, secret, created_at FROM webhook_secrets
        WHERE token_id = owner AND (retired_at IS NULL OR retired_at > clock_timestamp())
        UNION ALL
        SELECT 2, id, secret, created_at FROM signing_keys
        WHERE purpose = 'webhook' AND (retired_at IS NULL OR retired_at > clock_timestamp())
          AND NOT EXISTS (
              SELECT FROM tokens WHERE tokens.id = owner AND tokens.shared_secret_until <= clock_timestamp())
    ) AS signing ORDER BY rank, created_at DESC, id DESC
)
$$
"""


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
    for function in (WEBHOOK_SECRETS, CLAIM_DELIVERY):
        op.get_bind().exec_driver_sql(function.replace("%", "%%"))
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0009')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0009'")
    op.execute("DROP FUNCTION darkroom_claim_delivery_v1, darkroom_webhook_secrets_v1")
    op.drop_index(
        "ix_webhook_deliveries_turn",
        table_name="webhook_deliveries",
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.drop_column("webhook_deliveries", "host")
    op.drop_column("webhook_deliveries", "token_id")
    op.drop_column("tokens", "shared_secret_until")
    op.drop_table("webhook_secrets")
