"""Searching: a page of the predictions that pass some filters.

Predictions that have ended are found by their terms (migration 0016), window by window, until the page is full. Those
that haven't ended have no terms yet. They are few and are read one by one, as are windows that the courier has not
filled yet. All of it is one statement, so a prediction that ends meanwhile is found exactly once.
"""

from __future__ import annotations

from psycopg.types.json import Jsonb

from storage.errors import DarkroomError
from storage.postgres.database import Connection, Row
from storage.predictions.lists.filters import Filters
from storage.predictions.lists.page import Page
from storage.predictions.states import PredictionStatus

# Each of them matches many words, which Postgres collects in every window.
MAX_PREFIXES = 8


class UnsearchableWords(DarkroomError):
    """A search without a letter or digit, or with too many single characters. The message says which."""


# What to look for. Words are split in the database, as those of the prompts were.
ASKED = """
SELECT 'w:' || word AS term, is_prefix, word, pattern FROM darkroom_searched(%(words)s::text)
UNION ALL
SELECT 'm:' || darkroom_digest(%(model)s::text), false, NULL, NULL WHERE %(model)s::text IS NOT NULL
UNION ALL
SELECT darkroom_metadata_terms(%(metadata)s::jsonb), false, NULL, NULL
"""

# A prediction that is read, not looked up.
MATCHES = """
deleted_at IS NULL
AND (%(token_id)s::bigint IS NULL OR token_id = %(token_id)s)
AND (%(source)s::text IS NULL OR source = %(source)s)
AND (%(model)s::text IS NULL OR model = %(model)s)
AND (%(keep)s::boolean IS NULL OR keep = %(keep)s)
AND metadata @> %(metadata)s
"""
# LIKE rules out most prompts at a fraction of what a regular expression takes.
HAS_WORDS = """
CASE
    WHEN cardinality(%(patterns)s::text[]) = 0 THEN true
    WHEN darkroom_fold(left(prompt, 20000)) LIKE ALL (%(likes)s::text[])
        THEN darkroom_fold(left(prompt, 20000)) ~ ALL (%(patterns)s::text[])
    ELSE false
END
"""


def search(
    conn: Connection, filters: Filters, page: Page, *, token_id: int | None = None, source: str | None = None
) -> list[Row]:
    """The predictions of the page that pass the filters, newest first. With a `token_id`, only those of that token.

    Raises UnsearchableWords.
    """
    ended = [status for status in PredictionStatus if status.is_terminal and _may_be(filters, status)]
    looked_for = {
        "words": filters.words,
        "model": filters.model,
        "metadata": Jsonb(dict(filters.metadata or {})),
        "keep": filters.keep,
        "token_id": token_id,
        "source": source,
        "ended": [status.value for status in ended],
        "open": [status.value for status in PredictionStatus if not status.is_terminal and _may_be(filters, status)],
    }
    asked = conn.execute(ASKED, looked_for).fetchall()
    words = [row for row in asked if row["word"] is not None]
    if filters.words is not None and not words:
        raise UnsearchableWords("holds no letter and no digit")
    if sum(row["is_prefix"] for row in words) > MAX_PREFIXES:
        raise UnsearchableWords(f"holds more than {MAX_PREFIXES} single characters of a script without spaces")
    terms = [f"'#{row['term']}'" + (":*" if row["is_prefix"] else "") for row in asked]
    terms += [] if token_id is None else [f"'#t:{token_id}'"]
    terms += [] if filters.keep is None else [f"'#k:{str(filters.keep).lower()}'"]
    if filters.statuses is not None or not terms:
        terms.append("(" + " | ".join(f"'#s:{status.value}'" for status in ended) + ")")
    looked_for |= page.values() | {
        "terms": " & ".join(terms),  # a tsquery, once # is the number of a window
        "likes": [f"%{row['word']}%" for row in words],
        "patterns": [row["pattern"] for row in words],
    }
    return page.in_order(conn.execute(_statement(page), looked_for).fetchall())


def _may_be(filters: Filters, status: PredictionStatus) -> bool:
    return filters.statuses is None or status in filters.statuses


def _statement(page: Page) -> str:
    order = f"ORDER BY created_at {page.order}, id {page.order}"
    # OFFSET 0 is a fence: prompts are looked at in the order of time, and only until there are enough.
    return f"""
    WITH windows AS (
        SELECT * FROM (
            SELECT number, filled, starts_at, lead(starts_at, 1, 'infinity') OVER (ORDER BY starts_at) AS ends_at
            FROM search_windows
        ) AS all_windows
        WHERE cardinality(%(ended)s::text[]) > 0
          AND ends_at > greatest(%(after_at)s::timestamptz, %(created_after)s::timestamptz, '-infinity')
          AND starts_at <= least(%(before_at)s::timestamptz, %(created_before)s::timestamptz, 'infinity')
        ORDER BY starts_at {page.order}
    ), found AS (
        (
            SELECT id, created_at FROM (
                SELECT id, created_at, input->>'prompt' AS prompt FROM predictions
                WHERE status IN ('starting', 'processing') AND status = ANY(%(open)s::text[])
                  AND {page.bounds()} AND {MATCHES}
                {order} OFFSET 0
            ) AS not_ended
            WHERE {HAS_WORDS} LIMIT %(limit)s
        )
        UNION ALL
        (
            -- For each window in its turn, its own page. The limit ends it as soon as there are enough.
            SELECT ended.id, ended.created_at
            FROM windows CROSS JOIN LATERAL (
                (
                    SELECT prediction_id AS id, created_at FROM prediction_terms
                    WHERE windows.filled
                      AND terms @@ replace(%(terms)s, '#', windows.number::text)::tsquery
                      AND {page.bounds("prediction_id")}
                      AND (%(source)s::text IS NULL OR EXISTS (
                          SELECT FROM predictions
                          WHERE predictions.id = prediction_terms.prediction_id AND source = %(source)s
                      ))
                    {order} LIMIT %(limit)s
                )
                UNION ALL
                (
                    SELECT id, created_at FROM (
                        SELECT id, created_at, input->>'prompt' AS prompt FROM predictions
                        WHERE NOT windows.filled
                          AND created_at >= windows.starts_at AND created_at < windows.ends_at
                          AND status = ANY(%(ended)s::text[]) AND {page.bounds()} AND {MATCHES}
                        {order} OFFSET 0
                    ) AS not_indexed
                    WHERE {HAS_WORDS} LIMIT %(limit)s
                )
            ) AS ended
            LIMIT %(limit)s
        )
    )
    SELECT predictions.*
    FROM (SELECT id FROM found {order} LIMIT %(limit)s) AS page
    JOIN predictions USING (id)
    {order}
    """  # noqa: S608 (words of ours)
