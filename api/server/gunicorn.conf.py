"""How gunicorn runs the API. `api/server/` is the HTTP server; gunicorn starts, watches and stops its process."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from api.services import KEY
from api.settings import ApiSettings

_settings = ApiSettings()  # from the environment

bind = os.environ.get("API_BIND", "127.0.0.1:8000")
worker_class = "api.server.worker.ApiWorker"
logger_class = "api.server.gunicorn_log.GunicornLog"
workers = 1
threads = _settings.api_threads
# Above the longest `Prefer: wait`; it is about the loop, which answers within a second.
timeout = 120
# A request that waits is not worth holding up a stop; the client polls on.
graceful_timeout = 3
control_socket_disable = True
accesslog = None
worker_tmp_dir = None

# What the header parser allows. The loop has counted the bytes of the whole header.
http_parser = "python"
limit_request_line = min(8190, _settings.max_header_bytes)
limit_request_fields = _settings.max_header_fields
limit_request_field_size = _settings.max_header_bytes
# No header changes who asks, which URL is asked for, or which URLs we answer: PUBLIC_URL says that, also behind a
# proxy. By default gunicorn lets clients on loopback do so.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
header_map = "drop"  # names with underscores, which could pass for others


def post_worker_init(worker: Any) -> None:
    """Let streams and waiting requests end when the worker is told to: they would use up the grace period."""
    events = worker.wsgi.extensions[KEY].events
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        then = signal.getsignal(number)

        def stop(number: int, frame: FrameType | None, then: Any = then) -> None:
            # On a thread of its own: this one may be interrupted while it holds a lock that closing takes.
            threading.Thread(target=events.close, daemon=True).start()
            then(number, frame)

        signal.signal(number, stop)
