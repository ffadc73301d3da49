"""How long a POST takes that is answered from the cache of results, and one that is not, over HTTP.

    python -m bench.cached_answers [--requests 300]

One client on one connection, the two kinds in turn. Those that are not in the cache are answered with `starting`.
"""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.command import CommandLine, own_servers, publish
from bench.report import machine
from tests.support.serving import Service, serving

DRAWN = {"model": "darkroom/blank", "input": {"prompt": "a red circle", "seed": 7}}


class Client:
    """Keeps its connection, as a client library does."""

    def __init__(self, service: Service) -> None:
        address = urlsplit(service.url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port)

    def post(self, body: dict[str, Any], **headers: str) -> tuple[dict[str, Any], float]:
        """The prediction, and the milliseconds until it was read."""
        began = time.perf_counter()
        self._connection.request(
            "POST", "/v1/predictions", json.dumps(body), {"Content-Type": "application/json"} | headers
        )
        answer = self._connection.getresponse().read()
        return json.loads(answer), 1000 * (time.perf_counter() - began)


def measure(service: Service, requests: int) -> str:
    client = Client(service)
    drawn, _ = client.post(DRAWN, Prefer="wait=60")
    assert drawn["status"] == "succeeded", drawn
    hits, misses = [], []
    for number in range(requests):
        hit, took_ms = client.post(DRAWN)
        assert hit["status"] == "succeeded", hit["status"]
        hits.append(took_ms)
        miss, took_ms = client.post({"model": "darkroom/nobody", "input": {"prompt": "a red circle", "seed": number}})
        assert miss["status"] == "starting", miss["status"]
        misses.append(took_ms)
    lines = [f"| {requests} POSTs of each kind | p50, ms | p99, ms |", "|---|---|---|"]
    for name, times in (("from the cache", hits), ("not in the cache", misses)):
        cuts = statistics.quantiles(times, n=100)
        lines.append(f"| {name} | {cuts[49]:.1f} | {cuts[98]:.1f} |")
    return "\n".join(lines)


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--requests", 300, quick=5)
    asked = options.read()
    before = machine()
    with tempfile.TemporaryDirectory() as folder, own_servers() as servers, serving(servers, Path(folder)) as service:
        found = measure(service, asked.requests)
    publish("cached_answers", found, before, write=asked.write)


if __name__ == "__main__":
    main()
