"""JSON over HTTP, as the benchmarks' clients speak it: no retries, no redirects."""

from __future__ import annotations

import json
from typing import Any

import urllib3

TIMEOUT_S = 120.0


class Refused(Exception):
    """Another answer than 2xx."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body[:500]!r}")
        self.status = status


def get_json(url: str) -> Any:
    """Raises Refused, and urllib3's HTTPError if nobody answers."""
    return _call("GET", url, None, {})


def post_json(url: str, body: Any, **headers: str) -> Any:
    """Raises what `get_json` raises."""
    return _call("POST", url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})


def _call(method: str, url: str, body: bytes | None, headers: dict[str, str]) -> Any:
    answer = urllib3.request(method, url, body=body, headers=headers, timeout=TIMEOUT_S, retries=False, redirect=False)
    if not 200 <= answer.status < 300:
        raise Refused(answer.status, answer.data)
    return json.loads(answer.data)
