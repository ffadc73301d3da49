"""Small makers of what many tests need."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from storage.postgres.database import Connection, Row
from storage.postgres.procrastinate import queue_name_of
from storage.predictions.claim import Claim, claim
from storage.predictions.finish import StoredImage, Succeeded, finish
from storage.predictions.parameters import Parameters
from storage.predictions.render import Renderer
from storage.predictions.submit import Submission, submit
from storage.workers import registry as presence

MODEL = "darkroom/blank"
QUEUE = queue_name_of(MODEL)
WEBHOOK = "http://127.0.0.1:9/hook"


def submit_one(conn: Connection, **more: Any) -> Row:
    """A prediction of the blank model, in `starting`."""
    parameters = Parameters(
        prompt="a red circle", width=64, height=64, num_inference_steps=2, guidance_scale=0.0, seed=7
    )
    values: dict[str, Any] = {
        "model": MODEL,
        "version": "1",
        "queue_name": QUEUE,
        "input": {"prompt": parameters.prompt},
        "parameters": parameters.to_json(),
        "deadline_s": 3600.0,
        "webhook": WEBHOOK,
        "webhook_events": ("completed",),
    }
    return submit(conn, Submission(**(values | more)))


def claim_one(
    conn: Connection, renderer: Renderer, *, holds_others: bool = False, queue_name: str = QUEUE
) -> Claim | None:
    """Claim the next prediction of a queue (the blank model's), as a worker of its own."""
    return claim(
        conn,
        renderer,
        queue_name=queue_name,
        worker_id=uuid4(),
        bell_worker_id=presence.register_bell_worker(conn),
        holds_others=holds_others,
    )


def succeeded(claimed: Claim, *, images: int = 1) -> Succeeded:
    """The outcome of a drawing, its objects named after the claim as the worker names them."""
    return Succeeded(
        [
            StoredImage(
                key=f"{claimed.prediction_id}/{claimed.attempt}-{claimed.claim_id}/{index}.png",
                sha256="0" * 64,
                size_bytes=1,
                content_type="image/png",
                width=64,
                height=64,
                seed=7 + index,
            )
            for index in range(images)
        ]
    )


def count(conn: Connection, table: str, where: str = "true") -> int:
    row = conn.execute(f"SELECT count(*) AS n FROM {table} WHERE {where}").fetchone()
    assert row is not None
    n: int = row["n"]
    return n


def expire_lease(conn: Connection, prediction_id: str) -> None:
    """Make the lease of a prediction run out, without the wait."""
    conn.execute(
        "UPDATE predictions SET lease_expires_at = 'epoch' WHERE id = %s AND status = 'processing'", (prediction_id,)
    )


def draw_next(conn: Connection, renderer: Renderer) -> None:
    """Draw the next prediction that waits."""
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id) is not None
