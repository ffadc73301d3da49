"""All about webhook events: their names, who gets which, which one makes others pointless, and how one is written.

To add an event, add it here, call `write_event` where it happens, and widen the check constraint of
`webhook_deliveries.event` in a migration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from storage.predictions.read import read_images
from storage.predictions.states import PredictionStatus
from storage.webhooks import outbox

if TYPE_CHECKING:
    from storage.postgres.database import Connection, Row
    from storage.predictions.render import Renderer

# In the order in which they happen.
WebhookEvent = Literal[
    "queued",  # the prediction was accepted
    "start",  # a worker has claimed it, for the first time
    "output",  # it has succeeded
    "logs",  # its logs have changed
    "completed",  # it has ended, in any way
]
EVENTS: tuple[WebhookEvent, ...] = get_args(WebhookEvent)

# What a receiver gets if the request has no `webhook_events_filter`: Replicate's events.
DEFAULT_FILTER: tuple[WebhookEvent, ...] = ("start", "output", "logs", "completed")

# `completed` contains all that `output` does. A client that asked for both gets only `completed`.
INCLUDED_IN: dict[WebhookEvent, WebhookEvent] = {"output": "completed"}

# Writing the event drops these, where they were not sent yet: their news is old.
DROPS: dict[WebhookEvent, tuple[WebhookEvent, ...]] = {"completed": ("queued", "start", "output", "logs")}

# Tried again for days. The others are tried once.
DURABLE: frozenset[WebhookEvent] = frozenset({"completed"})


def filter_of(asked: list[WebhookEvent] | None) -> tuple[WebhookEvent, ...]:
    """The events that a request's `webhook_events_filter` asks for, each once."""
    return DEFAULT_FILTER if asked is None else tuple(event for event in EVENTS if event in asked)


def wants(webhook: str | None, webhook_events: list[str] | tuple[str, ...], event: WebhookEvent) -> bool:
    """Whether a receiver gets that event."""
    return webhook is not None and event in webhook_events and INCLUDED_IN.get(event) not in webhook_events


def write_event(conn: Connection, renderer: Renderer, prediction: Row, event: WebhookEvent) -> None:
    """Write the event if the receiver wants it: in the caller's transaction, which changed the prediction.

    That transaction holds the lock of the prediction's row, so the events of a prediction are written in their order.
    """
    if not wants(prediction["webhook"], prediction["webhook_events"], event):
        return
    prediction_id = prediction["id"]
    has_images = prediction["status"] == PredictionStatus.SUCCEEDED
    images = read_images(conn, [prediction_id])[prediction_id] if has_images else []
    outbox.write_delivery(
        conn,
        prediction_id=prediction_id,
        event=event,
        url=prediction["webhook"],
        body=renderer.body(prediction, images),
        drops=DROPS.get(event, ()),
    )
