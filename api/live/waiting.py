"""Requests that wait for their prediction."""

from __future__ import annotations

from dataclasses import dataclass

from api.auth import caller
from api.live.client_connection import LOOK_EVERY_S, client_connection, expect_answers, has_hung_up
from api.live.watch import Snapshot, watch
from api.services import Services
from storage.postgres.database import Row


@dataclass(frozen=True)
class Waited:
    """How the wait ended: the prediction is over, the client disconnected, or neither (the time is up)."""

    row: Row  # as it was seen last
    over: Snapshot | None = None
    client_left: bool = False


def wait_until_over(here: Services, row: Row, *, give_up_at: float) -> Waited:
    """Wait until the prediction is over, until `give_up_at` (of `time.monotonic()`), until the client hangs up, or
    until the process stops. Raises AccessEnded."""
    connection = client_connection()
    expect_answers(connection)
    for seen in watch(here, row["id"], caller().access, give_up_at=give_up_at, tick_s=lambda: LOOK_EVERY_S):
        if isinstance(seen, Snapshot):
            row = seen.row
            if seen.is_over:
                return Waited(row, over=seen)
        elif has_hung_up(connection):
            return Waited(row, client_left=True)
    return Waited(row)
