"""A load generator: so many keep-alive connections, each sending the same POST again as soon as it was answered."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from dataclasses import dataclass, field
from statistics import quantiles
from urllib.parse import urlsplit

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length:"


@dataclass
class Taken:
    """What a run of the load measured."""

    seconds: float
    latencies_s: list[float] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.latencies_s) / self.seconds

    def quantile_ms(self, percent: int) -> float:
        return 1000 * quantiles(self.latencies_s, n=100)[percent - 1]


class Refused(Exception):
    """The server answered with something else than 201, or hung up."""


class _Connection(asyncio.Protocol):
    """One request at a time on one connection, until it is told to stop."""

    def __init__(self, request: bytes, latencies_s: list[float], over: asyncio.Future[None]) -> None:
        self._request = request
        self._latencies_s = latencies_s
        self._over = over
        self._came = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, found, body = self._came.partition(HEAD_END)
        if not found or len(body) < _length(head):
            return
        if b" 201 " not in head.partition(b"\r\n")[0]:
            self._fail(Refused(self._came[:500].decode(errors="replace")))
            return
        self._latencies_s.append(time.perf_counter() - self._sent_at)
        self._came = b""
        self._send()

    def connection_lost(self, reason: Exception | None) -> None:
        self._fail(Refused(f"the server hung up: {reason}"))

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._request)

    def _fail(self, error: Exception) -> None:
        if not self._over.done():
            self._over.set_exception(error)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line.lower().startswith(LENGTH):
            return int(line[len(LENGTH) :])
    raise Refused(f"an answer without a length: {head[:300]!r}")


def post_again_and_again(url: str, body: object, *, connections: int, seconds: float, warm_up_s: float) -> Taken:
    """Load `url` for so long; answers that come while it warms up are not counted. Raises Refused."""
    gc.collect()
    return asyncio.run(_load(url, json.dumps(body).encode(), connections, seconds, warm_up_s))


async def _load(url: str, payload: bytes, connections: int, seconds: float, warm_up_s: float) -> Taken:
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    host, port = address.hostname, address.port
    head = [
        f"POST {address.path} HTTP/1.1",
        f"Host: {address.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(payload)}",
    ]
    request = "\r\n".join(head).encode() + HEAD_END + payload
    loop = asyncio.get_running_loop()
    over: asyncio.Future[None] = loop.create_future()
    latencies_s: list[float] = []
    opened = [
        await loop.create_connection(lambda: _Connection(request, latencies_s, over), host, port)
        for _ in range(connections)
    ]
    await _unless_over(over, warm_up_s)
    latencies_s.clear()
    began = time.perf_counter()
    await _unless_over(over, seconds)
    taken = Taken(time.perf_counter() - began, latencies_s.copy())
    over.cancel()
    for transport, _ in opened:
        transport.abort()
    await asyncio.sleep(0.2)  # what was asked last is answered, and troubles no later run
    return taken


async def _unless_over(over: asyncio.Future[None], seconds: float) -> None:
    done, _ = await asyncio.wait([over], timeout=seconds)
    if done:
        over.result()
