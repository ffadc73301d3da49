"""Submit returns what Postgres alone knows, and a claim is one round trip.

To send and read a whole row is a tenth of the work of a submit. And a statement that returns one can't be prepared: it
breaks when the table gets another column.

The statements of a claim stand in one VOLATILE function, in which each of them has a snapshot of its own. (In one
statement the update would look for the prediction in the snapshot of before the wait for a lock.)

Revision ID: 0027
Revises: 0026
"""

from __future__ import annotations

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

# A function's plans are kept. One that is made while the queue is short, or before its first ANALYZE, may sort: then
# each call reads all that waits in all queues. So the planner has to take an index in its order.
PLANNED = "SET enable_sort = off SET enable_seqscan = off SET enable_bitmapscan = off"

# As darkroom_submit_v3 (0016), but for what it returns.
SUBMIT = """
CREATE FUNCTION darkroom_submit_v4(
    id text, model text, version text, queue_name text, task text, priority integer,
    input jsonb, parameters jsonb, logs text, deadline_s double precision,
    webhook text, webhook_events text[],
    token_id bigint, idempotency_key text, request_hash text,
    bucket bigint, rate double precision, max_queued integer,  -- limits; a `rate` of NULL: none is set
    cache_key text, cached_as text, any_seed boolean, seed text,  -- what counts as drawn before
    fair boolean,  -- whether tokens take turns
    keep boolean, metadata jsonb
) RETURNS TABLE (
    queue_job_id bigint, start_tag bigint, created_at timestamptz, deadline_at timestamptz, drawn_before boolean
) LANGUAGE plpgsql VOLATILE {PLANNED} AS $$
#variable_conflict use_variable
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
    -- Probes of indexes. Without turns, and without tokens, all have the same tag: the oldest comes first.
    start_tag := coalesce((
        SELECT job.start_tag FROM procrastinate_jobs AS job
        WHERE job.queue_name = queue_name AND job.status = 'todo' AND job.priority = priority
        ORDER BY job.start_tag LIMIT 1
    ), darkroom_clock_tag());
    IF fair AND token_id IS NOT NULL THEN
        -- The token's last one in this queue, among its latest 50: a token that has sent as many to other queues, or
        -- had as many canceled, starts anew.
        start_tag := greatest(start_tag, (
            SELECT latest.start_tag + 1
            FROM (
                SELECT own.start_tag, own.model, own.priority, own.started_at, own.completed_at
                FROM predictions AS own
                WHERE own.token_id = token_id
                ORDER BY own.created_at DESC, own.id DESC LIMIT 50
            ) AS latest
            WHERE latest.model = model AND latest.priority = priority
              AND (latest.started_at IS NOT NULL OR latest.completed_at IS NULL)
            LIMIT 1
        ));
    END IF;
    -- The same condition as in storage/predictions/repeats/result_cache.py. If the same picture was drawn before, no
    -- job is inserted, since it would start a worker that has nothing to do.
    drawn_before := EXISTS (
        SELECT FROM predictions AS drawn
        WHERE drawn.cache_key = cached_as AND drawn.status = 'succeeded' AND NOT drawn.data_removed
          AND drawn.token_id IS NOT DISTINCT FROM token_id
          AND (any_seed OR drawn.parameters->>'seed' = seed)
    );
    IF NOT drawn_before THEN
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, start_tag)
        VALUES (queue_name, task, priority, jsonb_build_object('prediction_id', id), start_tag)
        RETURNING procrastinate_jobs.id INTO queue_job_id;
    END IF;
    INSERT INTO predictions (
        id, status, model, version, queue_name, queue_job_id, priority, start_tag, input, parameters, logs,
        webhook, webhook_events, token_id, idempotency_key, request_hash, cache_key, keep, metadata, deadline_at
    ) VALUES (
        id, 'starting', model, version, queue_name, queue_job_id, priority, start_tag, input, parameters, logs,
        webhook, webhook_events, token_id, idempotency_key, request_hash, cache_key, keep, metadata,
        clock_timestamp() + make_interval(secs => deadline_s)
    )
    RETURNING predictions.created_at, predictions.deadline_at INTO created_at, deadline_at;
    RETURN NEXT;
END $$
"""

# The channel's name and what follows it stand in storage/postgres/notify.py, as CHANNEL and HERE.
CLAIM = """
CREATE FUNCTION darkroom_claim_v1(
    queue_name text, bell_worker_id bigint, worker_id uuid, claim_id uuid, lease interval,
    holds_others boolean,  -- then it takes none that has to be drawn alone
    writes_start boolean  -- whether the caller writes the event `start` in this transaction
) RETURNS TABLE (
    prediction predictions, outcome text, may_be_drawn_before boolean
) LANGUAGE plpgsql VOLATILE {PLANNED} AS $$
#variable_conflict use_variable
DECLARE
    bell record;
BEGIN
    may_be_drawn_before := false;
    FOR tries IN 1..100 LOOP
        -- What procrastinate_fetch_job_v2 does, without its locks, which our bells never have, and for one queue: so it
        -- reads our index in order, where that function walks through the backlogs of other queues.
        SELECT job.id, job.args->>'prediction_id' AS prediction_id INTO bell
        FROM procrastinate_jobs AS job
        WHERE job.queue_name = queue_name AND job.status = 'todo'
          AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
        ORDER BY job.priority DESC, job.start_tag, job.id LIMIT 1
        FOR UPDATE SKIP LOCKED;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        UPDATE predictions AS p
        SET status = 'processing', attempt = p.attempt + 1, claim_id = claim_id, worker_id = worker_id,
            started_at = clock_timestamp(), lease_expires_at = clock_timestamp() + lease
        WHERE p.id = bell.prediction_id AND p.status = 'starting' AND p.queue_job_id = bell.id
          AND p.deadline_at > clock_timestamp()
          AND NOT (holds_others AND p.crashes > 0)
          AND (writes_start OR p.attempt > 0 OR p.webhook IS NULL OR NOT 'start' = ANY (p.webhook_events))
        RETURNING p.* INTO prediction;
        IF FOUND THEN
            UPDATE procrastinate_jobs AS job SET status = 'doing', worker_id = bell_worker_id WHERE job.id = bell.id;
            PERFORM pg_notify('darkroom_events' || {HERE}, json_build_object(
                'id', prediction.id, 'status', prediction.status, 'token_id', prediction.token_id)::text);
            may_be_drawn_before := EXISTS (
                SELECT FROM predictions AS drawn
                WHERE drawn.cache_key = prediction.cache_key AND drawn.status = 'succeeded' AND NOT drawn.data_removed
                  AND drawn.token_id IS NOT DISTINCT FROM prediction.token_id
                  AND (prediction.input->'reuse' = 'true' OR drawn.parameters->'seed' = prediction.parameters->'seed')
            );
            IF NOT writes_start THEN
                -- If Postgres crashes before the claim is on its disk, the prediction waits again, and the fence stops
                -- the worker that had it, as after the end of a lease. So the drawing needn't wait for the disk.
                PERFORM set_config('synchronous_commit', 'off', true);
            END IF;
            outcome := 'claimed';
            RETURN NEXT;
            RETURN;
        END IF;
        SELECT CASE WHEN holds_others AND p.crashes > 0 THEN 'needs an empty worker' ELSE 'starts' END INTO outcome
        FROM predictions AS p
        WHERE p.id = bell.prediction_id AND p.status = 'starting' AND p.queue_job_id = bell.id
          AND p.deadline_at > clock_timestamp();
        IF FOUND THEN
            RETURN NEXT;
            RETURN;
        END IF;
        -- A stale bell: its prediction is over, or rings another one.
        DELETE FROM procrastinate_jobs AS job WHERE job.id = bell.id;
    END LOOP;
    outcome := 'stale bells';
    RETURN NEXT;
END $$
"""
HERE = "(CASE current_schema() WHEN 'public' THEN '' ELSE '_' || left(md5(current_schema()), 8) END)"


def upgrade() -> None:
    for function in (SUBMIT, CLAIM):
        op.execute(function.replace("{PLANNED}", PLANNED).replace("{HERE}", HERE))
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0027')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0027'")
    op.execute("DROP FUNCTION darkroom_claim_v1")
    op.execute("DROP FUNCTION darkroom_submit_v4")
