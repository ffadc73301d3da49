"""Submit as a function: Postgres plans it once a connection, not once a request.

A statement that is not prepared is planned each time, which was half of what a submit cost Postgres; prepared ones
don't get through transaction poolers, functions do. A change of it is a `darkroom_submit_v2` beside this one, since
N and N-1 run together during an upgrade.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# One call is one transaction and one round trip. It returns no row where a limit was reached.
SUBMIT = """
CREATE FUNCTION darkroom_submit_v1(
    id text, model text, version text, queue_name text, task text, priority integer,
    input jsonb, parameters jsonb, logs text, deadline_s double precision,
    webhook text, webhook_events text[],
    token_id bigint, idempotency_key text, request_hash text,
    bucket bigint, rate double precision, max_queued integer,  -- limits; a `rate` of NULL: none is set
    cache_key text, cached_as text, any_seed boolean, seed text  -- what counts as drawn before
) RETURNS TABLE (prediction predictions, drawn_before boolean) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
    bell bigint;
BEGIN
    IF rate IS NOT NULL THEN
        -- A bucket holds one minute's worth of submits and refills steadily. Submits of one token wait for each
        -- other at its row, and what is counted below sees all that those before have committed.
        INSERT INTO rate_buckets AS b (token_id, "left", refilled_at) VALUES (bucket, rate - 1, clock_timestamp())
        ON CONFLICT ON CONSTRAINT pk_rate_buckets DO UPDATE
        SET "left" = least(rate, b."left" + greatest(0, extract(epoch FROM clock_timestamp() - b.refilled_at))
                                            * rate / 60.0) - 1,
            refilled_at = clock_timestamp()
        WHERE least(rate, b."left" + greatest(0, extract(epoch FROM clock_timestamp() - b.refilled_at))
                                     * rate / 60.0) >= 1;
        IF NOT FOUND OR (max_queued > 0 AND darkroom_queued(token_id, max_queued) >= max_queued) THEN
            RETURN;
        END IF;
    END IF;
    -- As storage/result_cache.py finds it. What was drawn before gets no bell: it would start a worker for nothing.
    drawn_before := EXISTS (
        SELECT FROM predictions AS drawn
        WHERE drawn.cache_key = cached_as AND drawn.status = 'succeeded' AND NOT drawn.data_removed
          AND drawn.token_id IS NOT DISTINCT FROM token_id
          AND (any_seed OR drawn.parameters->>'seed' = seed)
    );
    IF NOT drawn_before THEN
        -- Procrastinate's function inserts the job and notifies.
        bell := (procrastinate_defer_jobs_v1(ARRAY[ROW(
            queue_name, task, priority, NULL, NULL, jsonb_build_object('prediction_id', id), NULL
        )::procrastinate_job_to_defer_v1]))[1];
    END IF;
    INSERT INTO predictions (
        id, status, model, version, queue_name, queue_job_id, priority, input, parameters, logs,
        webhook, webhook_events, token_id, idempotency_key, request_hash, cache_key, deadline_at
    ) VALUES (
        id, 'starting', model, version, queue_name, bell, priority, input, parameters, logs,
        webhook, webhook_events, token_id, idempotency_key, request_hash, cache_key,
        clock_timestamp() + make_interval(secs => deadline_s)
    )
    RETURNING * INTO prediction;
    RETURN NEXT;
END $$
"""


def upgrade() -> None:
    op.execute(SUBMIT)
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0007')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0007'")
    op.execute("DROP FUNCTION darkroom_submit_v1")
