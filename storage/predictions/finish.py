"""Transaction 3: the only writer of terminal states. All of it happens, or none of it does.

One transaction writes the state, the images, the webhook delivery with its queue job, and removes the bell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from storage import crash_points
from storage.errors import DarkroomError
from storage.postgres.database import Connection, Row
from storage.postgres.notify import notify
from storage.predictions import bell
from storage.predictions.render import Renderer
from storage.predictions.states import PredictionStatus
from storage.webhooks.events import write_event


@dataclass(frozen=True)
class StoredThumbnail:
    """The small picture beside an image, its bytes in the bucket."""

    key: str
    sha256: str
    size_bytes: int
    content_type: str


@dataclass(frozen=True)
class StoredImage:
    """A picture whose bytes are in the bucket."""

    key: str
    sha256: str
    size_bytes: int
    content_type: str
    width: int
    height: int
    seed: int
    thumbnail: StoredThumbnail | None = None


@dataclass(frozen=True)
class ReusedImage:
    """An image of another prediction: the same object, which lives as long as either refers to it."""

    prediction_id: str
    index: int


class ImageGone(DarkroomError):
    """The image that was to be used again has just been removed."""


@dataclass(frozen=True)
class Succeeded:
    """Drawn and uploaded. `metrics` are added to the times that this transaction computes."""

    images: Sequence[StoredImage | ReusedImage]
    logs: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    reusable: bool = True  # False: the cache of results must not keep it

    status = PredictionStatus.SUCCEEDED
    error = None


@dataclass(frozen=True)
class Failed:
    """It can't be drawn; `error` is for the client."""

    error: str
    logs: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)

    status = PredictionStatus.FAILED
    reusable = False
    images: Sequence[StoredImage | ReusedImage] = ()


@dataclass(frozen=True)
class Canceled:
    """By the client (no `error`), or by its deadline."""

    error: str | None = None

    logs = None
    status = PredictionStatus.CANCELED
    reusable = False
    images: Sequence[StoredImage | ReusedImage] = ()
    metrics: dict[str, Any] = field(default_factory=dict)


Outcome = Succeeded | Failed | Canceled

# clock_timestamp() is read before the row's lock is had, so a claim may have come later: GREATEST keeps the order.
FINISH = """
UPDATE predictions
SET status = %(status)s,
    error = %(error)s,
    logs = coalesce(%(logs)s, logs),
    cache_key = CASE WHEN %(reusable)s THEN cache_key END,
    completed_at = greatest(clock.now, started_at),
    metrics = metrics || jsonb_strip_nulls(jsonb_build_object(
        'total_time', round(extract(epoch FROM greatest(clock.now, started_at) - created_at), 6),
        'predict_time', round(extract(epoch FROM greatest(clock.now, started_at) - started_at), 6),
        'queue_time', round(extract(epoch FROM started_at - created_at), 6)
    )) || %(metrics)s,
    claim_id = NULL,
    lease_expires_at = NULL
FROM (SELECT clock_timestamp() AS now) AS clock
WHERE id = %(id)s
  AND (status = 'processing' AND claim_id = %(claim_id)s
       OR %(claim_id)s::uuid IS NULL AND status IN ('starting', 'processing'))
RETURNING predictions.*
"""


def finish(
    conn: Connection, renderer: Renderer, prediction_id: str, outcome: Outcome, *, claim_id: UUID | None = None
) -> Row | None:
    """Write a terminal state with all that belongs to it; returns the row, or None where it was too late.

    Raises ImageGone where an image was to be used again.

    With a `claim_id` it writes only while that claim is held (a worker's result). Without, it writes over whatever
    is not terminal yet (cancel, deadline, a prediction that can't be served).
    """
    with conn.transaction():
        prediction = conn.execute(
            FINISH,
            {
                "id": prediction_id,
                "claim_id": claim_id,
                "status": outcome.status.value,
                "error": outcome.error,
                "logs": outcome.logs,
                "reusable": outcome.reusable,
                "metrics": Jsonb(outcome.metrics | {"image_count": len(outcome.images)}),
            },
        ).fetchone()
        if prediction is None:
            return None
        for index, image in enumerate(outcome.images):
            if isinstance(image, ReusedImage):
                _refer_to_image(conn, prediction_id, index, image)
            else:
                _insert_image(conn, prediction_id, index, image)
        bell.remove(conn, prediction)
        if outcome.status is PredictionStatus.SUCCEEDED:
            write_event(conn, renderer, prediction, "output")
        write_event(conn, renderer, prediction, "completed")
        notify(conn, prediction)
    if claim_id is not None:
        crash_points.reach("after-commit")
    return prediction


def _insert_image(conn: Connection, prediction_id: str, index: int, image: StoredImage) -> None:
    if image.thumbnail is not None:
        _insert_object(conn, image.thumbnail)
    _insert_object(conn, image)
    conn.execute(
        """
        INSERT INTO images (prediction_id, index, object_key, thumbnail_key, width, height, seed)
        VALUES (%(prediction_id)s, %(index)s, %(key)s, %(thumbnail_key)s, %(width)s, %(height)s, %(seed)s)
        """,
        {
            "prediction_id": prediction_id,
            "index": index,
            "key": image.key,
            "thumbnail_key": image.thumbnail.key if image.thumbnail else None,
            "width": image.width,
            "height": image.height,
            "seed": image.seed,
        },
    )


def _insert_object(conn: Connection, stored: StoredImage | StoredThumbnail) -> None:
    conn.execute(
        """
        INSERT INTO objects (key, sha256, size_bytes, content_type)
        VALUES (%(key)s, %(sha256)s, %(size_bytes)s, %(content_type)s)
        """,
        {
            "key": stored.key,
            "sha256": stored.sha256,
            "size_bytes": stored.size_bytes,
            "content_type": stored.content_type,
        },
    )


def _refer_to_image(conn: Connection, prediction_id: str, index: int, image: ReusedImage) -> None:
    """Raises ImageGone. The foreign key holds the object's row against retention until the commit."""
    written = conn.execute(
        """
        INSERT INTO images (prediction_id, index, object_key, thumbnail_key, width, height, seed)
        SELECT %(prediction_id)s, %(index)s, object_key, thumbnail_key, width, height, seed
        FROM images WHERE prediction_id = %(of)s AND index = %(of_index)s
        """,
        {"prediction_id": prediction_id, "index": index, "of": image.prediction_id, "of_index": image.index},
    )
    if written.rowcount == 0:
        raise ImageGone(f"image {image.index} of {image.prediction_id}")
