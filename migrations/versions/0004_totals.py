"""Totals for the metrics, counted in the database by whichever process makes a move.

The triggers are deferred: they run at COMMIT, so the row of a model's totals is locked while the server commits and
never while it waits for a client. A worker that is stopped in the middle of a transaction holds up nobody else.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The bounds are those of storage.operator.totals; the last bucket takes what is above all of them.
COUNT_PREDICTION = """
CREATE FUNCTION darkroom_bucket(value double precision, bounds double precision[]) RETURNS integer
LANGUAGE sql IMMUTABLE AS $$ SELECT count(*)::integer + 1 FROM unnest(bounds) AS bound WHERE bound < value $$;

CREATE FUNCTION darkroom_count_prediction() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    bounds constant double precision[] := '{0.1,0.25,0.5,1,2.5,5,10,30,60,300}';
    batch_bounds constant double precision[] := '{1,2,4,8,16}';
    seconds double precision;
    size double precision;
    place integer;
BEGIN
    INSERT INTO model_totals (model, pickup_buckets, drawing_buckets, batch_buckets)
    VALUES (NEW.model, array_fill(0::bigint, '{11}'), array_fill(0::bigint, '{11}'), array_fill(0::bigint, '{6}'))
    ON CONFLICT (model) DO NOTHING;

    IF NEW.crashes > OLD.crashes THEN
        UPDATE model_totals SET lease_expiries = lease_expiries + 1 WHERE model = NEW.model;
    END IF;
    IF NEW.status = 'processing' AND NEW.attempt = 1 AND NEW.started_at IS NOT NULL THEN
        seconds := extract(epoch FROM NEW.started_at - NEW.created_at);
        place := darkroom_bucket(seconds, bounds);
        UPDATE model_totals
        SET pickup_seconds = pickup_seconds + seconds, pickup_buckets[place] = pickup_buckets[place] + 1
        WHERE model = NEW.model;
    ELSIF NEW.status IN ('succeeded', 'failed', 'canceled') THEN
        UPDATE model_totals
        SET succeeded = succeeded + (NEW.status = 'succeeded')::integer,
            failed = failed + (NEW.status = 'failed')::integer,
            canceled = canceled + (NEW.status = 'canceled')::integer
        WHERE model = NEW.model;
        IF NEW.status = 'succeeded' AND OLD.status = 'processing' AND NEW.started_at IS NOT NULL THEN
            seconds := extract(epoch FROM NEW.completed_at - NEW.started_at);
            place := darkroom_bucket(seconds, bounds);
            UPDATE model_totals
            SET drawing_seconds = drawing_seconds + seconds, drawing_buckets[place] = drawing_buckets[place] + 1
            WHERE model = NEW.model;
            size := (NEW.metrics->>'batch_size')::double precision;
            IF size IS NOT NULL THEN
                place := darkroom_bucket(size, batch_bounds);
                UPDATE model_totals
                SET batch_sizes = batch_sizes + size, batch_buckets[place] = batch_buckets[place] + 1
                WHERE model = NEW.model;
            END IF;
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER darkroom_count AFTER UPDATE OF status ON predictions
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
EXECUTE FUNCTION darkroom_count_prediction();
"""

COUNT_ATTEMPT = """
CREATE FUNCTION darkroom_count_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_totals AS totals (outcome, attempts)
    VALUES (CASE WHEN NEW.status IN ('delivered', 'failed') THEN NEW.status ELSE 'retried' END, 1)
    ON CONFLICT (outcome) DO UPDATE SET attempts = totals.attempts + 1;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER darkroom_count AFTER UPDATE OF attempts ON webhook_deliveries
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.attempts > OLD.attempts)
EXECUTE FUNCTION darkroom_count_attempt();
"""


def _zero(name: str, type_: sa.BigInteger | sa.Double[float]) -> sa.Column[object]:
    return sa.Column(name, type_, server_default=sa.text("0"), nullable=False)


def _buckets(name: str) -> sa.Column[object]:
    return sa.Column(name, postgresql.ARRAY(sa.BigInteger()), nullable=False)


def upgrade() -> None:
    op.create_table(
        "model_totals",
        sa.Column("model", sa.Text(), nullable=False),
        *(_zero(name, sa.BigInteger()) for name in ("succeeded", "failed", "canceled", "lease_expiries")),
        *(_buckets(f"{name}_buckets") for name in ("pickup", "drawing", "batch")),
        *(_zero(name, sa.Double()) for name in ("pickup_seconds", "drawing_seconds", "batch_sizes")),
        sa.PrimaryKeyConstraint("model", name=op.f("pk_model_totals")),
    )
    op.create_table(
        "webhook_totals",
        sa.Column("outcome", sa.Text(), nullable=False),
        _zero("attempts", sa.BigInteger()),
        sa.PrimaryKeyConstraint("outcome", name=op.f("pk_webhook_totals")),
    )
    for statements in (COUNT_PREDICTION, COUNT_ATTEMPT):
        _execute(statements)
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0004')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0004'")
    op.execute("DROP TRIGGER darkroom_count ON webhook_deliveries")
    op.execute("DROP TRIGGER darkroom_count ON predictions")
    for function in ("darkroom_count_attempt", "darkroom_count_prediction", "darkroom_bucket"):
        op.execute(f"DROP FUNCTION {function}")
    op.drop_table("webhook_totals")
    op.drop_table("model_totals")


def _execute(sql: str) -> None:
    """Several statements as they stand: SQLAlchemy would read their colons as parameters."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(sql)
