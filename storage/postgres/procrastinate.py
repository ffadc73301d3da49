"""The Procrastinate App, and the names of queues and tasks.

The GPU worker claims from Procrastinate's tables with SQL of its own; the courier runs Procrastinate's worker.
"""

from __future__ import annotations

import hashlib
import re

import procrastinate

from storage.settings import Settings

TASK_DRAW = "darkroom:draw"
TASK_DELIVER = "darkroom:deliver"
WEBHOOK_QUEUE = "webhooks"

# Longer queue names make NOTIFY's channel name too long for Postgres (63 bytes), and the insert fails.
MAX_QUEUE_NAME = 40


def make_blueprint() -> procrastinate.Blueprint:
    """The tasks that every App knows. A new one for each: an App renames the tasks of the one that it is given."""
    blueprint = procrastinate.Blueprint()
    blueprint.task(name="draw")(draw)
    return blueprint


def draw(prediction_id: str) -> None:
    """The bell of a prediction. Only `darkroom worker` may take it; a stock worker gets this error.

    Rescue sees that the bell is gone and rings again.
    """
    raise RuntimeError(
        f"prediction {prediction_id} is drawn by `darkroom worker`, not by a stock Procrastinate worker: "
        f"name the queues of that worker (--queues={WEBHOOK_QUEUE})"
    )


def queue_name_of(model: str) -> str:
    """The queue of a model: `owner/name` as `draw-owner.name`, at most 40 characters.

    Where that would be too long, or could be another model's too, it is cut and completed with a hash.
    """
    name = f"draw-{model.replace('/', '.')}"
    if len(name) <= MAX_QUEUE_NAME and re.fullmatch(r"[a-z0-9_-]+/[a-z0-9_-]+", model):
        return name
    slug = re.sub(r"[^a-z0-9._-]+", "-", name.lower())
    digest = hashlib.sha256(model.encode()).hexdigest()[:8]
    return f"{slug[: MAX_QUEUE_NAME - 9].rstrip('-.')}-{digest}"


def channel_of(queue_name: str) -> str:
    """The channel on which Procrastinate tells that a job was inserted in that queue."""
    return f"procrastinate_queue_v1#{queue_name}"


def make_async_app(settings: Settings) -> procrastinate.App:
    """The App that the courier's stock worker runs on; direct, because it listens."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=settings.direct_url))
    app.add_tasks_from(make_blueprint(), namespace="darkroom")
    return app
