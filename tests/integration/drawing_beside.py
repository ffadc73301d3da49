"""Drawing beside a request that waits, on a thread and a connection of its own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask.testing import FlaskClient

from api.settings import ApiSettings
from storage.postgres.database import Connection, connect
from storage.predictions.render import Renderer, open_renderer
from tests.support.api_app import MODEL

KEY = {"Idempotency-Key": "order-17"}
IMAGES = {"model": MODEL, "prompt": "a red circle"}


@contextmanager
def beside(settings: ApiSettings, work: Callable[[Connection, Renderer], object]) -> Iterator[None]:
    """`work` again and again on a connection of its own until it returns something."""
    stop = threading.Event()

    def run() -> None:
        with connect(settings.database_url, application_name="test beside") as conn:
            renderer = open_renderer(settings, conn)
            while not stop.is_set() and not work(conn, renderer):
                time.sleep(0.02)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def images_of(client: FlaskClient, *, stream: bool) -> list[dict[str, Any]]:
    """What `POST /v1/images/generations` says under the key: the JSON of the answer, or of each event."""
    answer = client.post("/v1/images/generations", json=IMAGES | {"stream": stream}, headers=KEY)
    text = answer.get_data(as_text=True)
    if not stream:
        return [json.loads(text)]
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]
