"""What the views work with: one of each a process, made by `create_app`."""

from __future__ import annotations

from dataclasses import dataclass

from flask import current_app
from psycopg_pool import ConnectionPool

from api.live.queue_position import QueuePositions
from api.settings import ApiSettings
from api.slots import Places
from storage.bucket import Bucket
from storage.catalog import Catalog
from storage.postgres.database import Connection, Row
from storage.postgres.listener import Hub
from storage.predictions.read import read_images
from storage.predictions.render import Wire
from storage.webhooks.addresses import AllowList

KEY = "darkroom"


@dataclass(frozen=True)
class Services:
    """The API's connections, and what it knows."""

    settings: ApiSettings
    catalog: Catalog
    pool: ConnectionPool[Connection]
    bucket: Bucket
    hub: Hub
    wire: Wire
    webhook_allow: AllowList
    positions: QueuePositions
    waiting: Places  # one for each request that may wait at the same time
    streaming: Places  # and for each stream

    def body_of(self, conn: Connection, row: Row) -> str:
        """The JSON of one prediction."""
        return self.wire.body(row, read_images(conn, [row["id"]])[row["id"]])


def services() -> Services:
    """Those of the app that serves this request."""
    found = current_app.extensions[KEY]
    assert isinstance(found, Services)
    return found
