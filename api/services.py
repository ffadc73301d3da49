"""The objects that the views share. `create_app` makes one of each per process."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app
from psycopg_pool import ConnectionPool

from api.live.access_watch import AccessWatch
from api.live.queue_position import QueuePositions
from api.models.run_counts import RunCounts
from api.pictures.memory import PictureMemory
from api.settings import ApiSettings
from api.slots import Slots
from storage.catalog import Catalog
from storage.outbound.check_url import AllowList
from storage.postgres.clock import DatabaseClock
from storage.postgres.database import Connection, Row
from storage.postgres.listener import EventListener
from storage.predictions.read import with_images
from storage.predictions.render import Renderer
from storage.s3.bucket import Bucket
from storage.webhooks.allowed_targets import AllowedTargets

KEY = "darkroom"


@dataclass(frozen=True)
class Services:
    """The API's settings, connections and caches."""

    settings: ApiSettings
    catalog: Catalog
    pool: ConnectionPool[Connection]
    clock: DatabaseClock
    bucket: Bucket
    events: EventListener
    renderer: Renderer  # for what is stored or sent to others, such as webhooks
    answers: Renderer  # for what this API answers: with IMAGE_URLS=presigned, the URLs of images lead to the bucket
    webhook_targets: AllowedTargets
    positions: QueuePositions
    access_watch: AccessWatch
    run_counts: RunCounts
    waiting: Slots[int]  # one for each request that may wait at the same time
    streaming: Slots[int]  # and for each stream
    fetching: Slots[int]  # and for each picture that is fetched by URL
    picture_memory: PictureMemory
    picture_sources: AllowList  # private servers that pictures may be fetched from

    def body_of(self, conn: Connection, row: Row) -> str:
        """The JSON of one prediction."""
        [row], images = with_images(conn, [row])
        return self.answers.body(row, images[row["id"]])


def services() -> Services:
    """The services of the app that handles the current request."""
    found = current_app.extensions[KEY]
    assert isinstance(found, Services)
    return found
