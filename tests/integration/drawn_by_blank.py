"""Predictions for the blank engine, and where they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from storage.catalog import Blank, Defaults, Limits, Model
from storage.postgres.database import Connection, Row
from storage.predictions.parameters import Parameters
from tests.support.making import MODEL, count, submit_one

PARAMETERS = Parameters(prompt="a red circle", width=64, height=64, num_inference_steps=4, guidance_scale=0.0, seed=7)
OVER = "status IN ('succeeded', 'failed', 'canceled')"


def blank(**times: float) -> Model:
    return Model(
        name=MODEL,
        engine="blank",
        defaults=Defaults(width=64, height=64, num_inference_steps=4),
        limits=Limits(),
        blank=Blank(**times),
    )


def submit_many(conn: Connection, n: int, **more: Any) -> list[str]:
    return [
        submit_one(conn, webhook=None, parameters=replace(PARAMETERS, seed=seed).to_json(), **more)["id"]
        for seed in range(n)
    ]


def submit_steps(conn: Connection, steps: int, **more: Any) -> Row:
    parameters = Parameters(
        prompt="a red circle", width=64, height=64, num_inference_steps=steps, guidance_scale=0.0, seed=7
    )
    return submit_one(conn, parameters=parameters.to_json(), webhook=None, webhook_events=(), **more)


def the_only(conn: Connection) -> Row:
    row = conn.execute("SELECT * FROM predictions").fetchone()
    assert row is not None
    return row


def over(conn: Connection, n: int, status: str = "succeeded") -> Callable[[], bool]:
    return lambda: count(conn, "predictions", f"status = '{status}'") == n
