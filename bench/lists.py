"""How long lists, filters and searches take with a million predictions in the database.

    python -m bench.lists [--predictions 1000000] [--rounds 20] [--write]

Starts a Postgres of its own and fills it, which takes some ten minutes for a million. The prompts have 20 words of
20,000, the frequent ones more often, and some more that are placed on purpose: in all prompts, only in the oldest ones,
in a few, in every second one. Each time is that of one page of 100 on a warm cache: its statements and their answers.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

from bench.command import CommandLine, publish
from bench.report import machine
from cli.embedded import EmbeddedPostgres
from storage.postgres.database import Connection, Row, connect
from storage.postgres.migrate import upgrade
from storage.predictions.lists.filters import Filters
from storage.predictions.lists.page import Page
from storage.predictions.lists.search import search
from storage.predictions.lists.search_windows import WINDOW, fill_window
from storage.predictions.read import read_predictions
from storage.predictions.states import PredictionStatus
from storage.settings import Settings

WORDS = 20_000
SYLLABLES = ("ba", "co", "di", "fu", "ge", "ha", "jo", "ki", "lu", "me", "no", "pa", "ri", "so", "tu", "va", "we", "zo")
WAITING = 200
BIG, SMALL, ABSENT = 1, 2, 3  # tokens with a third of all predictions, with 40, with none
OLD, NEW, RARE = "bench/old", "bench/new", "bench/rare"

PREDICTIONS = """
INSERT INTO predictions (
    id, status, model, version, queue_name, input, parameters, metadata, keep, token_id, created_at, started_at,
    completed_at, deadline_at
)
SELECT '01' || lpad(n::text, 24, '0'),
       CASE WHEN waits THEN 'starting' WHEN n %% 25 = 0 THEN 'failed' WHEN n %% 5000 = 7 THEN 'canceled'
            ELSE 'succeeded' END,
       CASE WHEN n %% 20000 = 11 THEN 'bench/rare' WHEN n < 0.6 * %(total)s THEN 'bench/old' ELSE 'bench/new' END,
       '1', 'draw-bench', jsonb_build_object('prompt', prompt), '{"seed": 7}',
       jsonb_build_object('order', n, 'project', CASE WHEN n < 0.4 * %(total)s THEN 'past' ELSE 'present' END),
       n %% 10000 = 3,
       CASE WHEN n %% 25000 = 13 THEN 2 WHEN n %% 3 = 0 THEN 1 ELSE 10 + n %% 50 END,
       made_at, made_at, CASE WHEN NOT waits THEN made_at + interval '2 s' END, made_at + interval '1 day'
FROM (
    SELECT n, n > %(total)s - %(waiting)s AS waits, now() - (%(total)s - n) * interval '1.7 s' AS made_at,
           concat_ws(
               ' ', 'everywhere', CASE WHEN n < 0.4 * %(total)s THEN 'bygone' END,
               CASE WHEN n %% 30000 = 17 THEN 'seldom' END, CASE n %% 2 WHEN 0 THEN 'leftish' ELSE 'rightish' END,
               CASE WHEN n %% 1000 = 5 THEN '一只红色的猫' END,
               (SELECT string_agg((%(words)s::text[])[1 + floor(%(size)s * power(random(), 3))], ', ')
                FROM generate_series(1, 17) WHERE n IS NOT NULL)
           ) AS prompt
    FROM generate_series(%(first)s::int, %(last)s::int) AS n
) AS made
"""
# As migration 0016 divides what is there.
WINDOWS = """
INSERT INTO search_windows (starts_at, filled)
SELECT created_at, false
FROM (SELECT created_at, row_number() OVER (ORDER BY created_at, id) AS place FROM predictions) AS numbered
WHERE place %% %(window)s = 0 ORDER BY created_at
"""


def words() -> list[str]:
    """Words of two to four syllables, always the same ones."""
    source = random.Random(7)
    found: dict[str, None] = {}
    while len(found) < WORDS:
        found["".join(source.choices(SYLLABLES, k=source.choice((2, 3, 3, 4))))] = None
    return list(found)


def fill(conn: Connection, total: int) -> None:
    """Predictions that have ended, the newest of them not; one in 25 failed."""
    known = words()
    with conn.transaction():
        conn.execute("SET LOCAL session_replication_role = replica")  # the triggers would run a million times
        for first in range(1, total + 1, 50_000):
            conn.execute(
                PREDICTIONS,
                {
                    "total": total,
                    "waiting": WAITING,
                    "words": known,
                    "size": WORDS,
                    "first": first,
                    "last": min(total, first + 49_999),
                },
            )
    conn.execute(WINDOWS, {"window": WINDOW})


def index(conn: Connection) -> str:
    """Index all; the first window as the courier does, whose time is told, the others at once."""
    conn.execute("VACUUM ANALYZE predictions")
    began, count = time.perf_counter(), 0
    while count < WINDOW and (indexed := fill_window(conn)) is not None:
        count += indexed
    rate = count / (time.perf_counter() - began)
    conn.execute("DROP INDEX ix_prediction_terms_terms")
    conn.execute(
        """
        INSERT INTO prediction_terms (prediction_id, created_at, terms)
        SELECT id, created_at, darkroom_terms(predictions) FROM predictions WHERE completed_at IS NOT NULL
        ORDER BY created_at ON CONFLICT DO NOTHING
        """
    )
    conn.execute("SET maintenance_work_mem = '512MB'")
    conn.execute("CREATE INDEX ix_prediction_terms_terms ON prediction_terms USING gin (terms) WITH (fastupdate = off)")
    conn.execute("UPDATE search_windows SET filled = true")
    conn.execute("VACUUM ANALYZE prediction_terms, search_windows")
    return f"The courier indexed {rate:.0f} predictions a second from before migration 0016."


def sizes(conn: Connection) -> str:
    found = conn.execute(
        """
        SELECT pg_size_pretty(pg_total_relation_size('predictions')) AS predictions,
               pg_size_pretty(pg_table_size('prediction_terms')) AS terms,
               pg_size_pretty(pg_relation_size('ix_prediction_terms_terms')) AS index
        """
    ).fetchone()
    assert found is not None
    return (
        f"Predictions {found['predictions']} with their indexes, terms {found['terms']}, their index {found['index']}."
    )


@dataclass(frozen=True)
class Case:
    """One kind of list."""

    name: str
    filters: Filters
    token_id: int | None = None


def cases() -> list[Case]:
    frequent, other = words()[0], words()[1]
    ended = frozenset({PredictionStatus.SUCCEEDED})
    searches = {
        "everywhere": "a word that all prompts have",
        frequent: "a frequent word",
        f"{frequent} {other}": "two frequent words",
        f"everywhere {frequent} {other}": "three words",
        "bygone": "a word of the oldest 40 % only",
        f"bygone {frequent}": "that and a frequent word",
        "leftish rightish": "two words, each in every second prompt, never in the same",
        "seldom": "a word of 34 prompts",
        "seldom everywhere": "that and a word that all have",
        "everyw": "the beginning of a word that all have",
        "bab": "the beginning of many words",
        "leftish right": "the same two, only the beginning of the second",
        "nowhere": "a word that no prompt has",
        "everywhere nowhere": "that and a word that all have",
        "猫": "one Chinese character, in a thousand prompts",
        "红色的猫": "four Chinese characters",
        "绿色的猫": "four that no prompt has",
    }
    found = [Case("no filter", Filters())]
    found += [Case(f"q: {name}", Filters(words=text)) for text, name in searches.items()]
    for token, who in ((BIG, "a third"), (SMALL, "40"), (ABSENT, "none")):
        for text in ("everywhere", frequent, "bygone", "leftish rightish", "seldom", "nowhere"):
            found.append(Case(f"token with {who} of the predictions, q: {searches[text]}", Filters(words=text), token))
        found.append(Case(f"token with {who}, status succeeded", Filters(statuses=ended), token))
        found.append(Case(f"token with {who}, model of the oldest 60 %", Filters(model=OLD), token))
    found += [
        Case("status succeeded", Filters(statuses=ended)),
        Case("status failed (4 %)", Filters(statuses=frozenset({PredictionStatus.FAILED}))),
        Case("status canceled (200)", Filters(statuses=frozenset({PredictionStatus.CANCELED}))),
        Case("status starting (200)", Filters(statuses=frozenset({PredictionStatus.STARTING}))),
        Case("status processing (none)", Filters(statuses=frozenset({PredictionStatus.PROCESSING}))),
        Case("model of the newest 40 %", Filters(model=NEW)),
        Case("model of the oldest 60 %", Filters(model=OLD)),
        Case("model with 50 predictions", Filters(model=RARE)),
        Case("model with none", Filters(model="bench/none")),
        Case("metadata of the newest 60 %", Filters(metadata={"project": "present"})),
        Case("metadata of the oldest 40 %", Filters(metadata={"project": "past"})),
        Case("metadata of one prediction", Filters(metadata={"order": 4711})),
        Case("metadata that none has", Filters(metadata={"order": -1})),
        Case("kept (100)", Filters(keep=True)),
        Case("not kept", Filters(keep=False)),
        Case("canceled, of the old model, with past metadata, a frequent word", Filters(
            words=frequent, model=OLD, statuses=frozenset({PredictionStatus.CANCELED}), metadata={"project": "past"}
        )),
    ]  # fmt: skip
    return found


def read(conn: Connection, case: Case, page: Page) -> list[Row]:
    if case.filters.are_none:
        return read_predictions(conn, page, token_id=case.token_id)
    return search(conn, case.filters, page, token_id=case.token_id)


def times_ms(rounds: int, work: Callable[[], object]) -> list[float]:
    work()  # warm
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        times.append(1000 * (time.perf_counter() - began))
    return times


def measure(conn: Connection, rounds: int) -> str:
    """Markdown. The pages: the first, the one after it, and the one before that again."""
    lines = ["| list | found on page 1 | p50, ms | max, ms | page 2 | back |", "|---|---:|---:|---:|---:|---:|"]
    worst = 0.0
    for case in cases():
        page = Page(limit=101)
        rows = read(conn, case, page)
        first = times_ms(rounds, partial(read, conn, case, page))
        cells = [f"{median(first):.1f}", f"{max(first):.1f}"]
        worst = max(worst, *first)
        for which in ("before", "after"):
            if len(rows) < 101:
                cells.append("")
                continue
            at = rows[99]
            position = (at["created_at"], at["id"])
            other = Page(limit=101, before=position) if which == "before" else Page(limit=101, after=position)
            taken = times_ms(rounds, partial(read, conn, case, other))
            worst = max(worst, *taken)
            cells.append(f"{median(taken):.1f}")
        found = "100 and more" if len(rows) == 101 else str(len(rows))
        lines.append(f"| {case.name} | {found} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join([*lines, "", f"The slowest of all: {worst:.1f} ms."])


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--predictions", 1_000_000, quick=1000)
    options.size("--rounds", 20, quick=1)
    options.add_argument("--folder", type=Path, help="keep the database there, and take the one that is there")
    asked = options.read()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        Path(name).chmod(0o755)
        folder = asked.folder or Path(name) / "postgres"
        was_there = folder.exists()
        postgres = EmbeddedPostgres(folder)
        postgres.start()
        try:
            with connect(postgres.url, application_name="bench") as conn:
                rate = ""
                if not was_there:
                    upgrade(Settings(database_url=postgres.url))
                    conn.execute("SET synchronous_commit = off")
                    fill(conn, asked.predictions)
                    rate = index(conn)
                table = measure(conn, asked.rounds)
                size = sizes(conn)
        finally:
            postgres.stop()
    how = f"{asked.predictions} predictions, {asked.rounds} rounds. {size} {rate}".strip()
    publish("lists", f"{how}\n\n{table}", before, write=asked.write)


if __name__ == "__main__":
    main()
