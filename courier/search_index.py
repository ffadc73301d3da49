"""The courier's thread that keeps searches quick: it opens the windows of the index, and fills those from before 0016.

Any number of couriers may do it at once: each skips what another one has locked.
"""

import threading

import psycopg
import structlog

from storage.postgres.database import Connection, connect
from storage.predictions.lists.search_windows import fill_window, open_window
from storage.settings import Settings

log = structlog.get_logger(__name__)

# A window that is full grows until then.
INDEX_EVERY_S = 60.0
# Between two batches, so that requests get their turn.
PAUSE_S = 0.05


def keep_indexing(settings: Settings, stop: threading.Event) -> None:
    """Index at the start and every minute until `stop` is set, through any failure of the database."""
    while not stop.is_set():
        try:
            with connect(settings.direct_url, application_name="darkroom-search-index") as conn:
                index_once(conn, stop)
        except psycopg.Error as error:
            log.warning("search index interrupted", error=" ".join(str(error).split()))
        except Exception:
            log.exception("search index broke")
        stop.wait(INDEX_EVERY_S)


def index_once(conn: Connection, stop: threading.Event | None = None) -> None:
    """One round: a new window if the last one is full, and all that isn't indexed. Raises psycopg.Error."""
    stop = stop or threading.Event()
    open_window(conn)
    indexed = 0
    while not stop.is_set() and (count := fill_window(conn)) is not None:
        indexed += count
        stop.wait(PAUSE_S)
    if indexed:
        log.info("indexed what ended before this release", predictions=indexed)
