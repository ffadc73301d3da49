"""A webhook from this deployment to a receiver on this machine: a prediction that is canceled at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cli.client.server import RequestRefused, Server, prediction_path
from cli.doctor.finding import Finding, broken, first_line, warning, well
from storage.errors import OperatorError

PART = "webhook"
ARRIVES_WITHIN_S = 15.0


def check_webhook(server: Server, host: str) -> Finding:
    """Submit, cancel, and wait for `completed`. The prediction is deleted again.

    `host`: the name or address of this machine for the courier.
    """
    with _receiver("127.0.0.1" if host == "127.0.0.1" else "") as (port, arrived):
        asked = {
            "model": server.first_model(),
            "input": {"prompt": "darkroom doctor"},
            "webhook": f"http://{host}:{port}/darkroom-doctor",
            "webhook_events_filter": ["completed"],
        }
        began = time.monotonic()
        try:
            prediction = server.post("/v1/predictions", asked)
        except RequestRefused as error:
            return warning(
                PART, f"not tried: {first_line(error)}", f"add {host} to WEBHOOK_ALLOW to try it, or leave it out"
            )
        except OperatorError as error:
            return broken(PART, first_line(error), "see what is said of the API")
        try:
            server.post(prediction_path(prediction["id"], "cancel"))
            has_arrived = arrived.wait(ARRIVES_WITHIN_S)
        finally:
            server.delete(prediction_path(prediction["id"]))
    if not has_arrived:
        return broken(
            PART,
            f"none arrived at http://{host}:{port} within {ARRIVES_WITHIN_S:g} s",
            "see `darkroom webhooks list`: is a courier running, and may it reach this machine?",
        )
    return well(PART, f"one arrived after {1000 * (time.monotonic() - began):.0f} ms")


@contextmanager
def _receiver(bound_to: str) -> Iterator[tuple[int, threading.Event]]:
    """Its port, and what is set when something arrives. It takes one path and reads nothing of what comes."""
    arrived = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            is_ours = self.path == "/darkroom-doctor" and "webhook-signature" in self.headers
            self.send_response(204 if is_ours else 404)
            self.end_headers()
            if is_ours:
                arrived.set()

        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer((bound_to, 0), Handler) as receiver:
        thread = threading.Thread(target=receiver.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver.server_port, arrived
        finally:
            receiver.shutdown()
            thread.join()
