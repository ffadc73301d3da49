"""Reading predictions: one, or a page of them, newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from storage.postgres.database import Connection, Row
from storage.predictions.lists.page import Page
from storage.predictions.states import PredictionStatus


def read_prediction(conn: Connection, prediction_id: str) -> Row | None:
    """One prediction, or None if there is none or its owner has deleted it."""
    return conn.execute("SELECT * FROM predictions WHERE id = %s AND deleted_at IS NULL", (prediction_id,)).fetchone()


def read_predictions(
    conn: Connection, page: Page, *, token_id: int | None = None, source: str | None = None
) -> list[Row]:
    """A page, newest first. With a `token_id`, only those of that token."""
    owner = "true" if token_id is None else "token_id = %(token_id)s"
    return page.in_order(
        conn.execute(
            f"""
            SELECT * FROM predictions
            WHERE {owner} AND deleted_at IS NULL AND {page.bounds()}
              AND (%(source)s::text IS NULL OR source = %(source)s)
            ORDER BY created_at {page.order}, id {page.order}
            LIMIT %(limit)s
            """,  # noqa: S608 (words of ours)
            page.values() | {"token_id": token_id, "source": source},
        ).fetchall()
    )


def read_images(conn: Connection, prediction_ids: list[str]) -> dict[str, list[Row]]:
    """The images of several predictions with their objects, in the order of `output`."""
    images: dict[str, list[Row]] = {prediction_id: [] for prediction_id in prediction_ids}
    for row in conn.execute(
        """
        SELECT images.*, objects.content_type, objects.size_bytes, objects.sha256,
               clock_timestamp() - objects.missing_since AS missing_for
        FROM images JOIN objects ON objects.key = images.object_key
        WHERE images.prediction_id = ANY(%s) ORDER BY images.prediction_id, images.index
        """,
        (prediction_ids,),
    ):
        images[row["prediction_id"]].append(row)
    return images


def with_images(conn: Connection, rows: list[Row]) -> tuple[list[Row], dict[str, list[Row]]]:
    """Predictions that were read before, with their images.

    The rows are read again where retention has removed the images meanwhile: such a prediction must say
    `data_removed`, not that it succeeded with no output.
    """
    images = read_images(conn, [row["id"] for row in rows])
    hollow = [
        row["id"]
        for row in rows
        if row["status"] == PredictionStatus.SUCCEEDED and not row["data_removed"] and not images[row["id"]]
    ]
    if not hollow:
        return rows, images
    again = {row["id"]: row for row in conn.execute("SELECT * FROM predictions WHERE id = ANY(%s)", (hollow,))}
    return [again.get(row["id"], row) for row in rows], images


@dataclass(frozen=True)
class StoredFile:
    """Where an image's bytes lie."""

    key: str
    content_type: str
    size_bytes: int
    sha256: str
    missing_for: timedelta | None = None  # since the bucket was found to have lost its bytes


def read_file(conn: Connection, prediction_id: str, index: int, *, thumbnail: bool = False) -> StoredFile | None:
    """The object behind one image or its thumbnail, or None."""
    row = conn.execute(
        """
        SELECT objects.key, objects.content_type, objects.size_bytes, objects.sha256,
               clock_timestamp() - objects.missing_since AS missing_for
        FROM images
        JOIN objects ON objects.key = CASE WHEN %s THEN images.thumbnail_key ELSE images.object_key END
        WHERE images.prediction_id = %s AND images.index = %s
        """,
        (thumbnail, prediction_id, index),
    ).fetchone()
    return StoredFile(**row) if row else None
