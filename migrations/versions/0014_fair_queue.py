"""Tokens take turns in the queue: each prediction has a `start_tag`, and workers claim by priority, tag and age.

This is start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996). The tag of a new prediction is the larger of the
virtual time and of its token's last tag plus one. The virtual time is the smallest tag that waits or, if nothing waits,
the clock in microseconds, which is larger than any tag before. So a token that comes to a busy queue is next, behind at
most one prediction of each other token, however many those have submitted. The last tag counts also when its prediction
is drawn already: otherwise two tokens that always come back would starve everyone else's backlog. It doesn't count if
its prediction ended without being drawn (canceled, or answered from the cache of results), since that cost nothing.

Revision ID: 0014
Revises: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# As darkroom_submit_v1 (0007), with `fair`, and with the tag. The job is inserted directly, since Procrastinate's
# function can't set our column; its triggers notify as always.
SUBMIT = """
CREATE FUNCTION darkroom_submit_v2(
    id text, model text, version text, queue_name text, task text, priority integer,
    input jsonb, parameters jsonb, logs text, deadline_s double precision,
    webhook text, webhook_events text[],
    token_id bigint, idempotency_key text, request_hash text,
    bucket bigint, rate double precision, max_queued integer,  -- limits; a `rate` of NULL: none is set
    cache_key text, cached_as text, any_seed boolean, seed text,  -- what counts as drawn before
    fair boolean  -- whether tokens take turns
) RETURNS TABLE (prediction predictions, drawn_before boolean) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_variable
DECLARE
    bell bigint;
    start_tag bigint;
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
    -- The same condition as in storage/predictions/result_cache.py. If the same picture was drawn before, no job is
    -- inserted, since it would start a worker that has nothing to do.
    drawn_before := EXISTS (
        SELECT FROM predictions AS drawn
        WHERE drawn.cache_key = cached_as AND drawn.status = 'succeeded' AND NOT drawn.data_removed
          AND drawn.token_id IS NOT DISTINCT FROM token_id
          AND (any_seed OR drawn.parameters->>'seed' = seed)
    );
    IF NOT drawn_before THEN
        INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, start_tag)
        VALUES (queue_name, task, priority, jsonb_build_object('prediction_id', id), start_tag)
        RETURNING procrastinate_jobs.id INTO bell;
    END IF;
    INSERT INTO predictions (
        id, status, model, version, queue_name, queue_job_id, priority, start_tag, input, parameters, logs,
        webhook, webhook_events, token_id, idempotency_key, request_hash, cache_key, deadline_at
    ) VALUES (
        id, 'starting', model, version, queue_name, bell, priority, start_tag, input, parameters, logs,
        webhook, webhook_events, token_id, idempotency_key, request_hash, cache_key,
        clock_timestamp() + make_interval(secs => deadline_s)
    )
    RETURNING * INTO prediction;
    RETURN NEXT;
END $$
"""

CLOCK_TAG = """
CREATE FUNCTION darkroom_clock_tag() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$
"""

OLD_JOBS_INDEX = """
CREATE INDEX darkroom_jobs_todo ON procrastinate_jobs (queue_name, priority DESC, id) WHERE status = 'todo'
"""
JOBS_INDEX = """
CREATE INDEX darkroom_jobs_todo ON procrastinate_jobs (queue_name, priority DESC, start_tag, id) WHERE status = 'todo'
"""


def upgrade() -> None:
    # Constant defaults, so that no table is rewritten. What releases before this one insert then comes last in turn.
    op.execute(CLOCK_TAG)
    op.add_column("predictions", sa.Column("start_tag", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.execute("ALTER TABLE procrastinate_jobs ADD COLUMN start_tag bigint NOT NULL DEFAULT 0")
    op.execute("ALTER TABLE procrastinate_jobs ALTER COLUMN start_tag SET DEFAULT darkroom_clock_tag()")
    op.execute("DROP INDEX darkroom_jobs_todo")
    op.execute(JOBS_INDEX)
    op.execute(SUBMIT)
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0014')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0014'")
    op.execute("DROP FUNCTION darkroom_submit_v2")
    op.execute("DROP INDEX darkroom_jobs_todo")
    op.execute(OLD_JOBS_INDEX)
    op.execute("ALTER TABLE procrastinate_jobs DROP COLUMN start_tag")
    op.drop_column("predictions", "start_tag")
    op.execute("DROP FUNCTION darkroom_clock_tag")
