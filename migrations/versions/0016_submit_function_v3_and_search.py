"""Predictions carry metadata, and lists can be filtered and searched.

`prediction_terms` has a row for each prediction that has ended, with its terms: the words of its prompt, its model,
status and token, its metadata. A trigger writes it, so neither a submit nor an update of `predictions` pays for the
index, and releases before this one fill it too. Predictions that haven't ended are few and are read directly.

A GIN index can't return rows in the order of time, and it collects all matches before it returns one. So time is cut
into windows of about 16,384 predictions (`search_windows`), and each term begins with the number of its window: a
search goes through the windows from the newest on, and no more than one window's matches are ever collected at once.

The predictions that have ended before this migration are indexed by the courier afterwards, window by window. Until
then their windows aren't `filled`, and are read directly.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

# As darkroom_submit_v2 (0014), with `keep` and `metadata`.
SUBMIT = """
CREATE FUNCTION darkroom_submit_v3(
    id text, model text, version text, queue_name text, task text, priority integer,
    input jsonb, parameters jsonb, logs text, deadline_s double precision,
    webhook text, webhook_events text[],
    token_id bigint, idempotency_key text, request_hash text,
    bucket bigint, rate double precision, max_queued integer,  -- limits; a `rate` of NULL: none is set
    cache_key text, cached_as text, any_seed boolean, seed text,  -- what counts as drawn before
    fair boolean,  -- whether tokens take turns
    keep boolean, metadata jsonb
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
        webhook, webhook_events, token_id, idempotency_key, request_hash, cache_key, keep, metadata, deadline_at
    ) VALUES (
        id, 'starting', model, version, queue_name, bell, priority, start_tag, input, parameters, logs,
        webhook, webhook_events, token_id, idempotency_key, request_hash, cache_key, keep, metadata,
        clock_timestamp() + make_interval(secs => deadline_s)
    )
    RETURNING * INTO prediction;
    RETURN NEXT;
END $$
"""

# Text in one form: letters without case, "ﬁ" as "fi", "Ａ" as "a". In a database with the locale C, lower() alone
# changes ASCII letters only, so a collation is named.
FOLD = """
CREATE FUNCTION darkroom_fold(given text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN {folded}
"""

# Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese, Korean (which puts them, but
# hangs particles on its words), and emoji.
SPACELESS = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005\u3007\u3040-\u30fa\u30fc-\u9fff\ua960-\ua97f"
    r"\uac00-\ud7ff\uf900-\ufaff\U0001f000-\U0001faff\U00020000-\U0003ffff"
)
# What stands between words: white space, punctuation and signs.
BETWEEN = (
    r"\u0001-/:-@\[-`{-\u00bf\u00d7\u00f7\u2000-\u206f\u2190-\u2bff\u3000-\u3004\u3006\u3008-\u303f\u30fb"
    r"\ufe00-\ufe0f\ufe10-\ufe1f\ufe30-\ufe6f\ufeff\uff00-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
)
WORDS = rf"""
-- The runs of letters and digits in a text, as they stand in it. What is beyond 20,000 characters isn't found.
CREATE FUNCTION darkroom_runs(given text) RETURNS TABLE (place bigint, run text, spaceless boolean)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT place, matched[1], matched[1] ~ '^[{SPACELESS}]'
    FROM regexp_matches(
        regexp_replace(darkroom_fold(left(given, 20000)), '[{BETWEEN}]+', ' ', 'g'),
        '[{SPACELESS}]+|[^ {SPACELESS}]+', 'g'
    ) WITH ORDINALITY AS runs (matched, place)
$$;

-- The words that a prompt is found by. Of a script without spaces, each two neighbouring characters, and the last.
CREATE FUNCTION darkroom_words(given text) RETURNS SETOF text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT DISTINCT word
    FROM darkroom_runs(given), LATERAL (
        SELECT left(run, 60) WHERE NOT spaceless
        UNION ALL
        SELECT substr(run, start, 2) FROM generate_series(1, length(run)) AS start WHERE spaceless
    ) AS words (word)
$$;

-- The words of a search. A single character of a script without spaces is the beginning of a pair; the last word, if
-- it has at least 3 letters, may be the beginning of one. (Shorter ones begin too many words to be quick.)
-- `pattern` is a regular expression for a prompt that has the word, for one that isn't indexed.
CREATE FUNCTION darkroom_searched(given text) RETURNS TABLE (word text, is_prefix boolean, pattern text)
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT DISTINCT words.word, words.is_prefix, CASE
        WHEN words.is_inside THEN words.word
        WHEN words.is_prefix OR length(words.word) = 60 THEN '(^|[{BETWEEN} {SPACELESS}])' || words.word
        ELSE '(^|[{BETWEEN} {SPACELESS}])' || words.word || '($|[{BETWEEN} {SPACELESS}])'
    END
    FROM (SELECT *, place = max(place) OVER () AS is_last FROM darkroom_runs(given)) AS runs, LATERAL (
        SELECT left(run, 60), is_last AND length(run) BETWEEN 3 AND 60, false WHERE NOT spaceless
        UNION ALL
        SELECT run, true, true WHERE spaceless AND length(run) = 1
        UNION ALL
        SELECT substr(run, start, 2), false, true FROM generate_series(1, length(run) - 1) AS start WHERE spaceless
    ) AS words (word, is_prefix, is_inside)
$$;
"""  # noqa: S608 (constants)

TERMS = """
-- What any text becomes in a term: the first 80 bits of its SHA-256, in hexadecimal.
CREATE FUNCTION darkroom_digest(given text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN left(encode(sha256(convert_to(given, 'UTF8')), 'hex'), 20);

-- A term for each pair of flat metadata. 1, 1.0 and 1e0 are the same number.
CREATE FUNCTION darkroom_metadata_terms(metadata jsonb) RETURNS SETOF text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 'd:' || darkroom_digest(jsonb_build_array(
        key, CASE jsonb_typeof(value) WHEN 'number' THEN to_jsonb(trim_scale(value::numeric)) ELSE value END
    )::text)
    FROM jsonb_each(metadata)
$$;

-- The terms of a prediction that has ended, each with the number of its window before it.
CREATE FUNCTION darkroom_terms(prediction predictions) RETURNS tsvector LANGUAGE sql STABLE AS $$
    SELECT array_to_tsvector(array_agg((
        SELECT number FROM search_windows
        WHERE starts_at <= (prediction).created_at ORDER BY starts_at DESC LIMIT 1
    ) || term))
    FROM (
        SELECT 's:' || (prediction).status
        UNION ALL SELECT 'k:' || (prediction).keep
        UNION ALL SELECT 'm:' || darkroom_digest((prediction).model)
        UNION ALL SELECT 't:' || (prediction).token_id WHERE (prediction).token_id IS NOT NULL
        UNION ALL SELECT darkroom_metadata_terms((prediction).metadata)
        UNION ALL SELECT 'w:' || darkroom_words((prediction).input->>'prompt')
    ) AS terms (term)
$$;

CREATE FUNCTION darkroom_index_prediction() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.deleted_at IS NOT NULL THEN
        DELETE FROM prediction_terms WHERE prediction_id = NEW.id;
    ELSE
        INSERT INTO prediction_terms (prediction_id, created_at, terms)
        VALUES (NEW.id, NEW.created_at, darkroom_terms(NEW))
        ON CONFLICT (prediction_id) DO UPDATE SET created_at = excluded.created_at, terms = excluded.terms;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER darkroom_index_new AFTER INSERT ON predictions
FOR EACH ROW WHEN (NEW.completed_at IS NOT NULL) EXECUTE FUNCTION darkroom_index_prediction();

CREATE TRIGGER darkroom_index AFTER UPDATE
OF status, created_at, token_id, model, keep, input, metadata, data_removed, deleted_at ON predictions
FOR EACH ROW WHEN (NEW.completed_at IS NOT NULL) EXECUTE FUNCTION darkroom_index_prediction();
"""

# The windows of what is there. What is created later goes into the last one, until the courier opens another.
FIRST_WINDOWS = """
INSERT INTO search_windows (starts_at, filled) SELECT '-infinity', NOT EXISTS (SELECT FROM predictions);
INSERT INTO search_windows (starts_at, filled)
SELECT DISTINCT created_at, false
FROM (SELECT created_at, row_number() OVER (ORDER BY created_at, id) AS place FROM predictions) AS numbered
WHERE place % 16384 = 0 ORDER BY created_at;
"""

FUNCTIONS = (
    "darkroom_index_prediction()",
    "darkroom_terms(predictions)",
    "darkroom_metadata_terms(jsonb)",
    "darkroom_digest(text)",
    "darkroom_searched(text)",
    "darkroom_words(text)",
    "darkroom_runs(text)",
    "darkroom_fold(text)",
    "darkroom_submit_v3",
)


def upgrade() -> None:
    empty = sa.text("'{}'::jsonb")
    op.add_column("predictions", sa.Column("metadata", postgresql.JSONB(), server_default=empty, nullable=False))
    op.create_table(
        "search_windows",
        sa.Column("number", sa.Integer(), sa.Identity(), nullable=False),
        sa.Column("starts_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("filled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_search_windows")),
        sa.UniqueConstraint("starts_at", name=op.f("uq_search_windows_starts_at")),
    )
    op.create_table(
        "prediction_terms",
        sa.Column("prediction_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("terms", postgresql.TSVECTOR(), nullable=False),
        sa.ForeignKeyConstraint(
            ["prediction_id"],
            ["predictions.id"],
            name=op.f("fk_prediction_terms_prediction_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("prediction_id", name=op.f("pk_prediction_terms")),
    )
    # Without fastupdate: once in thousands of times, one would have to sort in what all the others have left.
    op.create_index(
        "ix_prediction_terms_terms",
        "prediction_terms",
        ["terms"],
        unique=False,
        postgresql_using="gin",
        postgresql_with={"fastupdate": "off"},
    )
    _execute(FOLD.format(folded=_folded()))
    for statements in (WORDS, TERMS, FIRST_WINDOWS, SUBMIT):
        _execute(statements)
    op.execute("INSERT INTO darkroom_compatible_with (revision) VALUES ('0016')")


def downgrade() -> None:
    op.execute("DELETE FROM darkroom_compatible_with WHERE revision = '0016'")
    op.execute("DROP TRIGGER darkroom_index ON predictions")
    op.execute("DROP TRIGGER darkroom_index_new ON predictions")
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
    op.drop_table("prediction_terms")
    op.drop_table("search_windows")
    op.drop_column("predictions", "metadata")


def _folded() -> str:
    """Only a database in UTF-8 has Unicode's compatibility form (NFKC). ASCII is its own, and ten times as quick."""
    encoding = op.get_bind().execute(sa.text("SELECT getdatabaseencoding()")).scalar()
    if encoding != "UTF8":
        return f"lower(given{_collation()})"
    return f"""CASE WHEN octet_length(given) = length(given) THEN lower(given COLLATE "C") COLLATE "default"
        ELSE lower(normalize(given, NFKC){_collation()}) COLLATE "default" END"""


def _collation() -> str:
    """One whose lower() knows all letters: Postgres 17's own, ICU's, or the C library's; else the database's."""
    for name in ("pg_c_utf8", "und-x-icu", "C.utf8"):
        found = op.get_bind().execute(
            sa.text(
                "SELECT 1 FROM pg_collation WHERE collname = :name AND collnamespace = 'pg_catalog'::regnamespace"
                " AND collencoding IN (-1, pg_char_to_encoding(getdatabaseencoding()))"
            ),
            {"name": name},
        )
        if found.first() is not None:
            return f' COLLATE "{name}"'
    return ""


def _execute(sql: str) -> None:
    """Several statements as they stand: SQLAlchemy would read their colons as parameters."""
    connection = op.get_bind().connection.driver_connection
    assert connection is not None
    connection.execute(sql)
