"""Claim, finish, hand back, cancel and rescue from many connections at once: no deadlock, no lost bell."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable

from storage.postgres.database import Connection, connect
from storage.predictions.claim import NeedsEmptyWorker, hand_back, renew
from storage.predictions.finish import Canceled, finish
from storage.predictions.render import Renderer
from storage.predictions.rescue import rescue_once
from storage.settings import Settings
from tests.support.making import claim_one, count, expire_lease, submit_one, succeeded

PREDICTIONS = int(os.environ.get("CONCURRENCY_PREDICTIONS", "150"))
SECONDS = 60.0


class Crowd:
    """Threads with a connection each, until everything is over; the first error ends them all."""

    def __init__(self, settings: Settings, renderer: Renderer, ids: list[str]) -> None:
        self.settings = settings
        self.renderer = renderer
        self.ids = ids
        self.over = threading.Event()
        self.errors: list[BaseException] = []
        self.moves: Counter[str] = Counter()

    def run(self, *parts: Callable[[Connection, random.Random], None]) -> None:
        threads = [threading.Thread(target=self._run, args=(part, seed)) for seed, part in enumerate(parts)]
        for thread in threads:
            thread.start()
        give_up_at = time.monotonic() + SECONDS
        with connect(self.settings.database_url, application_name="watch") as conn:
            while not self.errors and time.monotonic() < give_up_at:
                if count(conn, "predictions", "status IN ('starting', 'processing')") == 0:
                    break
                time.sleep(0.05)
        self.over.set()
        for thread in threads:
            thread.join()

    def _run(self, part: Callable[[Connection, random.Random], None], seed: int) -> None:
        try:
            with connect(self.settings.database_url, application_name="crowd") as conn:
                while not self.over.is_set():
                    part(conn, random.Random(seed * 1_000_003 + self.moves.total()))
        except BaseException as error:
            self.errors.append(error)

    def work(self, conn: Connection, chance: random.Random) -> None:
        try:
            claimed = claim_one(conn, self.renderer, holds_others=chance.random() < 0.2)
        except NeedsEmptyWorker:
            return
        if claimed is None:
            time.sleep(0.005)
            return
        self.moves["claimed"] += 1
        renew(conn, [(claimed.prediction_id, claimed.claim_id)])
        what = chance.random()
        if what < 0.55:
            finish(conn, self.renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
        elif what < 0.8:
            hand_back(conn, self.renderer, claimed.prediction_id, claimed.claim_id)
        else:
            expire_lease(conn, claimed.prediction_id)  # died

    def cancel(self, conn: Connection, chance: random.Random) -> None:
        if finish(conn, self.renderer, chance.choice(self.ids), Canceled()) is not None:
            self.moves["canceled"] += 1
        time.sleep(0.02)

    def rescue(self, conn: Connection, chance: random.Random) -> None:
        rescue_once(conn, self.renderer, expire=True)
        time.sleep(0.01)


def test_a_crowd_of_workers_clients_and_couriers_loses_nothing(
    settings: Settings, conn: Connection, renderer: Renderer
) -> None:
    ids = [submit_one(conn, webhook_events=("start", "completed"))["id"] for _ in range(PREDICTIONS)]
    crowd = Crowd(settings, renderer, ids)
    crowd.run(*[crowd.work] * 6, *[crowd.cancel] * 2, *[crowd.rescue] * 2)
    assert crowd.errors == []
    assert count(conn, "predictions", "status IN ('starting', 'processing')") == 0
    assert count(conn, "predictions") == PREDICTIONS
    assert count(conn, "webhook_deliveries", "event = 'completed'") == PREDICTIONS
    assert count(conn, "webhook_deliveries", "event = 'start'") <= PREDICTIONS
    # A bell that was locked when its prediction ended is deleted by whoever fetches it, or by the next rescue.
    assert claim_one(conn, renderer) is None
    rescue_once(conn, renderer, expire=True)
    assert count(conn, "procrastinate_jobs", "task_name = 'darkroom:draw'") == 0
    assert crowd.moves["claimed"] > PREDICTIONS / 2
    assert crowd.moves["canceled"] > 0
