"""What the page for operators and the accounts read, counted in the database by whichever process makes a move.

`usage_totals` has a row a day for each token and model. It stays when predictions are deleted or lose their data.
`activity` counts the last days by the minute and by the quarter of an hour, so that no chart reads predictions.
The triggers are deferred, as those of 0004: they lock rows while the server commits, and never while it waits.

A duration is counted in one of ten buckets for each power of ten: `floor(10 * log10(seconds))`.

Revision ID: 0019
Revises: 0018
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# Workers of the release before this one don't measure what they take. It is estimated: the time from claim to result,
# shared with those that were drawn at the same time.
WORK = """
CREATE FUNCTION darkroom_gpu_seconds(done predictions) RETURNS double precision LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (done.metrics->>'gpu_time')::double precision,
        CASE WHEN done.status = 'succeeded' AND NOT done.metrics ? 'cached'
             THEN (done.metrics->>'predict_time')::double precision
                  / greatest(1, coalesce((done.metrics->>'batch_size')::double precision, 1)) END,
        0)
$$;

CREATE FUNCTION darkroom_steps(done predictions) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT coalesce(
        (done.metrics->>'step_count')::bigint,
        CASE WHEN done.status = 'succeeded' AND NOT done.metrics ? 'cached'
             THEN (done.parameters->>'num_inference_steps')::bigint * (done.metrics->>'image_count')::bigint END,
        0)
$$;
"""

COUNT = """
CREATE FUNCTION darkroom_bucket_key(kind text, seconds double precision) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT kind || floor(10 * log(least(greatest(seconds, 0.001), 1e7)))::integer
$$;

CREATE FUNCTION darkroom_add_counts(a jsonb, b jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT a || (SELECT jsonb_object_agg(key, coalesce((a->>key)::bigint, 0) + value::bigint) FROM jsonb_each_text(b))
$$;

CREATE FUNCTION darkroom_note_activity(of_model text, at timestamptz, noted jsonb) RETURNS void LANGUAGE sql AS $$
    INSERT INTO activity AS known (span_s, starts_at, model, counts)
    SELECT span_s, date_bin(make_interval(secs => span_s), at, 'epoch'), of_model, noted
    FROM (VALUES (60), (900)) AS spans (span_s)
    ON CONFLICT (span_s, starts_at, model) DO UPDATE SET counts = darkroom_add_counts(known.counts, excluded.counts)
$$;

CREATE FUNCTION darkroom_count_end() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    noted jsonb := jsonb_build_object(NEW.status, 1);
    image_count bigint := coalesce((NEW.metrics->>'image_count')::bigint, 0);
BEGIN
    INSERT INTO usage_totals AS known (day, token_id, model, succeeded, failed, canceled, images, steps, gpu_seconds)
    VALUES (
        (NEW.completed_at AT TIME ZONE 'UTC')::date, coalesce(NEW.token_id, 0), NEW.model,
        (NEW.status = 'succeeded')::integer, (NEW.status = 'failed')::integer, (NEW.status = 'canceled')::integer,
        image_count, darkroom_steps(NEW), darkroom_gpu_seconds(NEW)
    ) ON CONFLICT (day, token_id, model) DO UPDATE SET
        succeeded = known.succeeded + excluded.succeeded, failed = known.failed + excluded.failed,
        canceled = known.canceled + excluded.canceled, images = known.images + excluded.images,
        steps = known.steps + excluded.steps, gpu_seconds = known.gpu_seconds + excluded.gpu_seconds;
    IF image_count > 0 THEN
        noted := noted || jsonb_build_object('images', image_count);
    END IF;
    IF NEW.started_at IS NOT NULL THEN
        noted := noted || jsonb_build_object(
            darkroom_bucket_key('q', extract(epoch FROM NEW.started_at - NEW.created_at)::double precision), 1);
        IF NEW.status = 'succeeded' AND NOT NEW.metrics ? 'cached' THEN
            noted := noted || jsonb_build_object(
                darkroom_bucket_key('d', extract(epoch FROM NEW.completed_at - NEW.started_at)::double precision), 1);
        END IF;
    END IF;
    PERFORM darkroom_note_activity(NEW.model, NEW.completed_at, noted);
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER darkroom_count_end AFTER UPDATE OF status ON predictions
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
WHEN (OLD.completed_at IS NULL AND NEW.completed_at IS NOT NULL) EXECUTE FUNCTION darkroom_count_end();

-- Webhook attempts are counted under the model ''.
CREATE FUNCTION darkroom_note_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM darkroom_note_activity('', clock_timestamp(), jsonb_build_object(
        CASE WHEN NEW.status IN ('delivered', 'failed') THEN NEW.status ELSE 'retried' END, 1,
        'code ' || coalesce(NEW.last_status::text, 'none'), 1));
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER darkroom_note_attempt AFTER UPDATE OF attempts ON webhook_deliveries
DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.attempts > OLD.attempts)
EXECUTE FUNCTION darkroom_note_attempt();
"""

# Of what has ended before. Retention has emptied the parameters of some: their steps aren't known any more.
FROM_BEFORE = """
INSERT INTO usage_totals (day, token_id, model, succeeded, failed, canceled, images, steps, gpu_seconds)
SELECT (completed_at AT TIME ZONE 'UTC')::date, coalesce(token_id, 0), model,
       count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'failed'),
       count(*) FILTER (WHERE status = 'canceled'),
       coalesce(sum((metrics->>'image_count')::bigint), 0),
       sum(darkroom_steps(predictions)), sum(darkroom_gpu_seconds(predictions))
FROM predictions WHERE completed_at IS NOT NULL GROUP BY 1, 2, 3
"""

FUNCTIONS = (
    "darkroom_note_attempt()",
    "darkroom_count_end()",
    "darkroom_note_activity(text, timestamptz, jsonb)",
    "darkroom_add_counts(jsonb, jsonb)",
    "darkroom_bucket_key(text, double precision)",
    "darkroom_steps(predictions)",
    "darkroom_gpu_seconds(predictions)",
)


def _zero(name: str, type_: sa.BigInteger | sa.Double[float]) -> sa.Column[object]:
    return sa.Column(name, type_, server_default=sa.text("0"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "usage_totals",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("token_id", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        *(_zero(name, sa.BigInteger()) for name in ("succeeded", "failed", "canceled", "images", "steps")),
        _zero("gpu_seconds", sa.Double()),
        sa.PrimaryKeyConstraint("day", "token_id", "model", name=op.f("pk_usage_totals")),
    )
    op.create_table(
        "activity",
        sa.Column("span_s", sa.Integer(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("counts", postgresql.JSONB(), nullable=False),
        sa.PrimaryKeyConstraint("span_s", "starts_at", "model", name=op.f("pk_activity")),
    )
    op.add_column("workers", sa.Column("images", sa.Integer(), nullable=True))
    op.add_column("workers", sa.Column("memory_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("device_free_bytes", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_predictions_failed",
        "predictions",
        ["completed_at"],
        unique=False,
        postgresql_where=sa.text("status = 'failed'"),
    )
    op.create_index(
        "ix_webhook_deliveries_failing",
        "webhook_deliveries",
        ["last_attempt_at"],
        unique=False,
        postgresql_where=sa.text("last_error IS NOT NULL"),
    )
    for statements in (WORK, FROM_BEFORE, COUNT):
        _execute(statements)
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0019')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0019'")
    op.execute("DROP TRIGGER darkroom_note_attempt ON webhook_deliveries")
    op.execute("DROP TRIGGER darkroom_count_end ON predictions")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    op.drop_index("ix_webhook_deliveries_failing", table_name="webhook_deliveries")
    op.drop_index("ix_predictions_failed", table_name="predictions")
    for name in ("device_free_bytes", "memory_bytes", "images"):
        op.drop_column("workers", name)
    op.drop_table("activity")
    op.drop_table("usage_totals")


def _execute(sql: str) -> None:
    """Several statements as they stand: SQLAlchemy would read their colons as parameters."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(sql)
