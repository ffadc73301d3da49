"""Predictions and deliveries for tests of the courier, written as storage writes them."""

from typing import Any

from ulid import ULID

from storage.postgres.database import Connection, Row
from storage.webhooks.events import DROPS, WebhookEvent
from storage.webhooks.outbox import write_delivery

BODY = '{"id":"x","status":"succeeded","prompt":"Käse & 猫"}'


def insert_prediction(conn: Connection) -> str:
    """A prediction with no life of its own; returns its id."""
    prediction_id = str(ULID()).lower()
    conn.execute(
        """
        INSERT INTO predictions (id, status, model, version, queue_name, input, parameters, deadline_at, completed_at)
        VALUES (%s, 'succeeded', 'darkroom/blank', '1', 'draw', '{}', '{}', now() + interval '1 day', now())
        """,
        (prediction_id,),
    )
    return prediction_id


def write(
    conn: Connection,
    url: str,
    *,
    event: WebhookEvent = "completed",
    prediction_id: str | None = None,
    body: str = BODY,
) -> str:
    """Write one event; returns the delivery's id, which is its webhook-id."""
    with conn.transaction():
        return write_delivery(
            conn,
            prediction_id=prediction_id or insert_prediction(conn),
            event=event,
            url=url,
            body=body,
            drops=DROPS.get(event, ()),
        )


def read(conn: Connection, delivery_id: str) -> Row:
    row = conn.execute("SELECT * FROM webhook_deliveries WHERE id = %s", (delivery_id,)).fetchone()
    assert row is not None
    return row


def jobs(conn: Connection) -> list[dict[str, Any]]:
    """The jobs of the webhook queue that deliver, oldest first."""
    return conn.execute(
        """
        SELECT *, args->>'delivery_id' AS delivery_id FROM procrastinate_jobs
        WHERE queue_name = 'webhooks' AND args ? 'delivery_id' ORDER BY id
        """
    ).fetchall()


def make_due(conn: Connection, delivery_id: str) -> None:
    """Let the time until the next attempt have passed."""
    conn.execute(
        "UPDATE webhook_deliveries SET next_attempt_at = clock_timestamp() - interval '3 s' WHERE id = %s",
        (delivery_id,),
    )
