"""Whether the API says that a POST would be accepted."""

from __future__ import annotations

import http.client
from contextlib import closing
from urllib.parse import urlsplit


def answers_ready(url: str) -> bool:
    """GET /readyz, past any proxy that the environment names."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)) as connection:
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
