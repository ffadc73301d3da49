"""A claim that Postgres has committed, and whose answer never came: the worker finds it, and goes on with it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from storage.postgres.database import Connection, open_pool
from storage.predictions.render import Renderer
from storage.predictions.rescue import rescue_once
from storage.settings import Settings
from tests.chaos.proxy import CHUNK_BYTES, PostgresProxy
from tests.support.making import QUEUE, submit_one
from worker.claims.bell_listener import BellListener, CanNotAsk


class LosesTheNextAnswer(PostgresProxy):
    """Passes everything on until `loses_one` is set: then it resets the connection on whose claim an answer came."""

    loses_one = False
    _has_seen_claim = False

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(CHUNK_BYTES):
                if self._has_seen_claim:
                    self._has_seen_claim = False
                    break
                if self.loses_one and b"darkroom_claim_v1" in data:
                    self.loses_one, self._has_seen_claim = False, True
                sink.sendall(data)
        except OSError:
            pass
        self._reset(source)
        self._reset(sink)


@pytest.fixture
def proxy(conn: Connection) -> Iterator[LosesTheNextAnswer]:
    found = LosesTheNextAnswer(Path(conn.info.host) / f".s.PGSQL.{conn.info.port}")
    yield found
    found.close()


@pytest.fixture
def bells(
    settings: Settings, conn: Connection, renderer: Renderer, proxy: LosesTheNextAnswer
) -> Iterator[BellListener]:
    through = proxy.url.replace("/postgres?", f"/{conn.info.dbname}?")
    with open_pool(settings.model_copy(update={"database_url": through}), application_name="test", size=1) as pool:
        yield BellListener(
            pool, renderer, direct_url=through, queue_name=QUEUE, worker_id=uuid4(), on_event=lambda _: None
        )


def lose_the_answer(bells: BellListener, proxy: LosesTheNextAnswer) -> None:
    assert bells.take() is None  # it has signed in
    proxy.loses_one = True


def test_it_goes_on_with_a_claim_whose_answer_was_lost_and_counts_no_crash(
    bells: BellListener, proxy: LosesTheNextAnswer, conn: Connection
) -> None:
    lose_the_answer(bells, proxy)
    first, second = submit_one(conn), submit_one(conn)
    with pytest.raises(CanNotAsk):
        bells.take()
    assert conn.execute("SELECT status FROM predictions WHERE id = %s", (first["id"],)).fetchone() == {
        "status": "processing"
    }
    conn.execute(
        "UPDATE predictions SET lease_expires_at = clock_timestamp() - interval '1 s' WHERE claim_id IS NOT NULL"
    )
    found = bells.take()
    assert found is not None
    assert (found.prediction_id, found.attempt, found.prediction["crashes"]) == (first["id"], 1, 0)
    assert conn.execute(
        "SELECT lease_expires_at > clock_timestamp() AS is_held FROM predictions WHERE claim_id = %s", (found.claim_id,)
    ).fetchone() == {"is_held": True}
    following = bells.take()
    assert following is not None
    assert following.prediction_id == second["id"]
    assert bells.take() is None


def test_a_claim_that_was_taken_back_meanwhile_is_not_its_own_any_more(
    bells: BellListener, proxy: LosesTheNextAnswer, conn: Connection, renderer: Renderer
) -> None:
    lose_the_answer(bells, proxy)
    submit_one(conn)
    with pytest.raises(CanNotAsk):
        bells.take()
    conn.execute("UPDATE predictions SET lease_expires_at = 'epoch'")  # expired, also soon after Postgres's own start
    assert rescue_once(conn, renderer, expire=True).expired_leases == 1
    again = bells.take()
    assert again is not None
    assert (again.attempt, again.prediction["crashes"]) == (2, 1)
