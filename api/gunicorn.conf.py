"""How gunicorn runs the API: threads, since a request that waits for its picture mostly sleeps."""

import os

from api.settings import ApiSettings

_settings = ApiSettings()  # from the environment

bind = os.environ.get("API_BIND", "127.0.0.1:8000")
worker_class = "gthread"
workers = 1
threads = _settings.api_threads
# Above the longest `Prefer: wait`; gthread counts this for the process, not for a request.
timeout = 120
# A request that waits is not worth holding up a stop; the client polls on.
graceful_timeout = 3
keepalive = 30
control_socket_disable = True
accesslog = None
worker_tmp_dir = None
