"""Any order of events, with stale workers writing at any time: the life cycle holds and nothing is lost.

A Hypothesis state machine drives the real SQL on a real database and compares with what must be true.
"""

from __future__ import annotations

import os
import secrets
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from storage.postgres.database import Connection, Row
from storage.predictions.claim import Claim, NeedsEmptyWorker, hand_back, renew
from storage.predictions.finish import Canceled, Failed, finish
from storage.predictions.progress import write_logs
from storage.predictions.read import read_prediction
from storage.predictions.render import Renderer
from storage.predictions.rescue import rescue_once
from storage.predictions.states import MAX_ATTEMPTS, MAX_CRASHES, TRANSITIONS, PredictionStatus
from tests.support.making import QUEUE, claim_one, expire_lease, submit_one, succeeded

EXAMPLES = int(os.environ.get("HYPOTHESIS_EXAMPLES", "25"))
STEPS = int(os.environ.get("HYPOTHESIS_STEPS", "40"))


def make_machine(conn: Connection, renderer: Renderer) -> type[RuleBasedStateMachine]:
    """The machine on this database."""

    class LifeCycle(RuleBasedStateMachine):
        predictions: Bundle[str] = Bundle("predictions")
        claims: Bundle[Claim] = Bundle("claims")  # also those that were lost since: stale workers hold on to them

        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[str, Row] = {}
            self.published: dict[str, UUID] = {}

        @initialize()
        def empty_tables(self) -> None:
            conn.execute(
                "TRUNCATE predictions, objects, webhook_deliveries, procrastinate_jobs, workers, usage_totals, activity"
                " CASCADE"
            )

        @rule(target=predictions, priority=st.integers(0, 2), wants_start=st.booleans())
        def submit(self, priority: int, wants_start: bool) -> str:
            events = ("start", "logs", "completed") if wants_start else ("completed",)
            row = submit_one(conn, priority=priority, webhook_events=events)
            prediction_id: str = row["id"]
            return prediction_id

        @rule(target=claims, holds_others=st.booleans())
        def claim(self, holds_others: bool) -> Any:
            claimable = self._claimable()
            try:
                claimed = claim_one(conn, renderer, holds_others=holds_others)
            except NeedsEmptyWorker:
                assert holds_others
                return multiple()
            if claimed is None:
                assert claimable == set(), "a prediction that could be claimed was not"
                return multiple()
            assert claimed.prediction_id in claimable
            return claimed

        @rule(held=claims)
        def renew_lease(self, held: Claim) -> None:
            ours = self._is_held(held)
            assert renew(conn, [(held.prediction_id, held.claim_id)]) == ({held.claim_id} if ours else set())

        @rule(held=claims)
        def report_progress(self, held: Claim) -> None:
            ours = self._is_held(held)
            assert write_logs(conn, renderer, held.prediction_id, held.claim_id, secrets.token_hex(2)) is ours

        @rule(held=claims)
        def succeed(self, held: Claim) -> None:
            ours = self._is_held(held)
            row = finish(conn, renderer, held.prediction_id, succeeded(held), claim_id=held.claim_id)
            assert (row is not None) is ours
            if ours:
                self.published[held.prediction_id] = held.claim_id

        @rule(held=claims)
        def fail(self, held: Claim) -> None:
            ours = self._is_held(held)
            row = finish(conn, renderer, held.prediction_id, Failed("no"), claim_id=held.claim_id)
            assert (row is not None) is ours

        @rule(held=consumes(claims))
        def give_back(self, held: Claim) -> None:
            ours = self._is_held(held)
            assert hand_back(conn, renderer, held.prediction_id, held.claim_id) is ours

        @rule(prediction_id=predictions)
        def cancel(self, prediction_id: str) -> None:
            was = PredictionStatus(self._read(prediction_id)["status"])
            assert (finish(conn, renderer, prediction_id, Canceled()) is not None) is not was.is_terminal

        @rule(prediction_id=predictions)
        def lose_worker(self, prediction_id: str) -> None:
            expire_lease(conn, prediction_id)

        @rule(prediction_id=predictions)
        def pass_deadline(self, prediction_id: str) -> None:
            conn.execute(
                """
                UPDATE predictions SET deadline_at = clock_timestamp()
                WHERE id = %s AND status IN ('starting', 'processing')
                """,
                (prediction_id,),
            )

        @rule(prediction_id=predictions)
        def lose_bell(self, prediction_id: str) -> None:
            """A stock worker ran wild, or somebody tidied up the queue."""
            conn.execute(
                "DELETE FROM procrastinate_jobs WHERE id = (SELECT queue_job_id FROM predictions WHERE id = %s)",
                (prediction_id,),
            )

        @rule()
        def rescue(self) -> None:
            rescue_once(conn, renderer, expire=True)
            assert not rescue_once(conn, renderer, expire=True), "one call leaves nothing to rescue"
            row = conn.execute(
                """
                SELECT count(*) AS n FROM predictions LEFT JOIN procrastinate_jobs AS job ON job.id = queue_job_id
                WHERE predictions.status = 'starting' AND job.status IS DISTINCT FROM 'todo'
                """
            ).fetchone()
            assert row == {"n": 0}, "after rescue everything that waits has a bell"

        @invariant()
        def every_move_is_one_that_exists(self) -> None:
            for row in conn.execute("SELECT * FROM predictions").fetchall():
                before = self.seen.get(row["id"])
                if before is not None:
                    self._compare(before, row)
                self.seen[row["id"]] = row

        @invariant()
        def nobody_is_lost(self) -> None:
            row = conn.execute("SELECT count(*) AS n FROM predictions").fetchone()
            assert row is not None
            assert row["n"] >= len(self.seen)

        @invariant()
        def every_end_is_told_exactly_once(self) -> None:
            rows = conn.execute(
                """
                SELECT p.id, p.status, count(d.id) AS told FROM predictions AS p
                LEFT JOIN webhook_deliveries AS d ON d.prediction_id = p.id AND d.event = 'completed'
                GROUP BY p.id
                """
            ).fetchall()
            for row in rows:
                assert row["told"] == PredictionStatus(row["status"]).is_terminal

        @invariant()
        def every_end_is_counted_exactly_once(self) -> None:
            row = conn.execute(
                """
                SELECT (SELECT coalesce(sum(succeeded + failed + canceled), 0) FROM usage_totals) AS used,
                       (SELECT coalesce(sum(images), 0) FROM usage_totals) AS images,
                       (SELECT coalesce(sum(value::int), 0) FROM activity, jsonb_each_text(counts)
                        WHERE span_s = 60 AND key IN ('succeeded', 'failed', 'canceled')) AS seen,
                       (SELECT count(*) FROM predictions WHERE completed_at IS NOT NULL) AS ended,
                       (SELECT count(*) FROM images) AS published
                """
            ).fetchone()
            assert row is not None
            assert row["used"] == row["seen"] == row["ended"]
            assert row["images"] == row["published"]

        @invariant()
        def what_is_published_is_of_the_claim_that_finished(self) -> None:
            keys: dict[str, list[str]] = {}
            for row in conn.execute("SELECT prediction_id, object_key FROM images").fetchall():
                keys.setdefault(row["prediction_id"], []).append(row["object_key"])
            assert keys.keys() == self.published.keys()
            for prediction_id, claim_id in self.published.items():
                assert [str(claim_id) in key for key in keys[prediction_id]] == [True]

        @invariant()
        def no_bell_is_left_for_what_is_over(self) -> None:
            rows = conn.execute(
                """
                SELECT p.status FROM predictions AS p JOIN procrastinate_jobs AS job ON job.id = p.queue_job_id
                WHERE job.queue_name = %s
                """,
                (QUEUE,),
            ).fetchall()
            assert not any(PredictionStatus(row["status"]).is_terminal for row in rows)

        def _compare(self, before: Row, after: Row) -> None:
            was, now = PredictionStatus(before["status"]), PredictionStatus(after["status"])
            if was is not now:
                # A rescue may take back and fail in one transaction; everything else is a single move.
                assert now in TRANSITIONS[was], f"{was} → {now}"
            if was.is_terminal:
                assert before == after, "a terminal prediction never changes"
            assert before["attempt"] <= after["attempt"] <= MAX_ATTEMPTS
            assert before["crashes"] <= after["crashes"] <= MAX_CRASHES

        def _read(self, prediction_id: str) -> Row:
            row = read_prediction(conn, prediction_id)
            assert row is not None, "a prediction was lost"
            return row

        def _is_held(self, held: Claim) -> bool:
            row = self._read(held.prediction_id)
            return bool(row["status"] == "processing" and row["claim_id"] == held.claim_id)

        def _claimable(self) -> set[str]:
            rows = conn.execute(
                """
                SELECT p.id FROM predictions AS p JOIN procrastinate_jobs AS job ON job.id = p.queue_job_id
                WHERE p.status = 'starting' AND job.status = 'todo' AND p.deadline_at > clock_timestamp()
                """
            ).fetchall()
            return {row["id"] for row in rows}

    return LifeCycle


def test_no_order_of_events_breaks_the_life_cycle(conn: Connection, renderer: Renderer) -> None:
    run_state_machine_as_test(
        make_machine(conn, renderer),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
