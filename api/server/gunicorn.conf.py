"""How gunicorn runs the API: threads, since a request that waits for its picture mostly sleeps."""

import os
import signal
import threading
from types import FrameType
from typing import Any

from api.services import KEY
from api.settings import ApiSettings

_settings = ApiSettings()  # from the environment

bind = os.environ.get("API_BIND", "127.0.0.1:8000")
worker_class = "api.server.gunicorn_worker.ApiWorker"
workers = 1
threads = _settings.api_threads
# Connections that are kept alive between requests need no thread.
worker_connections = threads + 1000
# Above the longest `Prefer: wait`; gthread counts this for the process, not for a request.
timeout = 120
# A request that waits is not worth holding up a stop; the client polls on.
graceful_timeout = 3
keepalive = 30
control_socket_disable = True
accesslog = None
worker_tmp_dir = None


def post_worker_init(worker: Any) -> None:
    """Let streams and waiting requests end when the worker is told to: they would use up the grace period."""
    hub = worker.wsgi.extensions[KEY].hub
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        then = signal.getsignal(number)

        def stop(number: int, frame: FrameType | None, then: Any = then) -> None:
            # On a thread of its own: this one may be interrupted while it holds a lock that closing takes.
            threading.Thread(target=hub.close, daemon=True).start()
            then(number, frame)

        signal.signal(number, stop)
