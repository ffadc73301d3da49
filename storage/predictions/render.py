"""The prediction object as clients see it: rendered here, once, for API answers and webhook bodies alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from storage.access.links import Links
from storage.access.sealing import open_sealer
from storage.access.signing_keys import ensure_keys, link_keys
from storage.formats import THUMBNAIL_EXTENSION, extension_of
from storage.postgres.database import Connection, Row
from storage.predictions.states import PredictionStatus
from storage.settings import Settings

# By its deadline a prediction is over; who opens the stream a little later still hears how it ended.
STREAM_AFTER_DEADLINE = timedelta(hours=1)
# When links to images that are kept for ever expire. They stay a pure function of the row.
FOR_EVER = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True)
class Renderer:
    """Renders predictions, and holds what that needs besides the rows."""

    links: Links
    retention: timedelta | None  # None: for ever
    # With IMAGE_URLS=presigned, and only in answers: these URLs are made when they are read, and never stored.
    presign: Callable[[str, str, datetime], str] | None = None  # an object's key, the file's name, when it expires

    def prediction(self, row: Row, images: Sequence[Row]) -> dict[str, Any]:
        """Replicate's prediction object. `images`: rows of images joined with their objects, by index."""
        status = PredictionStatus(row["status"])
        shows_output = status is PredictionStatus.SUCCEEDED and not row["data_removed"]
        return {
            "id": row["id"],
            "model": row["model"],
            "version": row["version"],
            "input": row["input"],
            "output": self._output(row, images) if shows_output else None,
            "error": row["error"],
            "logs": row["logs"],
            "metrics": row["metrics"],
            "status": status.value,
            "created_at": timestamp(row["created_at"]),
            "started_at": timestamp(row["started_at"]),
            "completed_at": timestamp(row["completed_at"]),
            "data_removed": row["data_removed"],
            "keep": row["keep"],
            "metadata": row["metadata"],
            "source": row["source"],
            "urls": self.links.of_prediction(row["id"], row["deadline_at"] + STREAM_AFTER_DEADLINE),
            "seed": row["parameters"].get("seed"),
            "thumbnails": self._thumbnails(row, images) if shows_output else None,
        }

    def body(self, row: Row, images: Sequence[Row]) -> str:
        """The same as JSON text: what GET answers with and what a webhook carries, byte for byte."""
        return dump(self.prediction(row, images))

    def _expires_at(self, row: Row) -> datetime:
        """A link lives as long as its image."""
        return FOR_EVER if self.retention is None or row["keep"] else row["completed_at"] + self.retention

    def _thumbnails(self, row: Row, images: Sequence[Row]) -> list[str | None]:
        expires_at = self._expires_at(row)
        return [
            image["thumbnail_key"] and self._url(row, image, "thumbnail_key", THUMBNAIL_EXTENSION, expires_at)
            for image in images
        ]

    def _output(self, row: Row, images: Sequence[Row]) -> list[str]:
        expires_at = self._expires_at(row)
        return [
            self._url(row, image, "object_key", extension_of(image["content_type"]), expires_at) for image in images
        ]

    def _url(self, row: Row, image: Row, key: str, extension: str, expires_at: datetime) -> str:
        if self.presign is None:
            return self.links.of_image(row["id"], image["index"], extension, expires_at)
        return self.presign(image[key], f"{row['id']}-{image['index']}.{extension}", expires_at)


def open_renderer(settings: Settings, conn: Connection) -> Renderer:
    """The Renderer of this deployment; makes the signing keys where there are none."""
    sealer = open_sealer(settings)
    ensure_keys(conn, sealer)
    return Renderer(
        links=Links(public_url=settings.public_url, keys=tuple(link_keys(conn, sealer))),
        retention=settings.retention,
    )


def dump(value: object) -> str:
    """Compact JSON, UTF-8 kept as it is."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def timestamp(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds and a Z; Replicate's clients parse exactly this."""
    if moment is None:
        return None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
