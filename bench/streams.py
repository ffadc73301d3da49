"""Many open event streams and waiting requests on one API process, with everything else on the same machine.

    python -m bench.streams [--streams 1000] [--waits 200] [--write]

Opens the streams and the waits, then cancels their predictions one by one, straight in the database, so that no
drawing disturbs the clock. Says: whether every ending arrived, how long from the COMMIT to the client, how quick
/healthz was meanwhile, and what a stream costs in memory. Then all listeners of one more prediction vanish without a
word, and it says how long their threads were held.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from bench.command import CommandLine, own_servers, publish
from bench.report import machine
from storage.postgres.database import Connection, connect
from storage.postgres.procrastinate import queue_name_of
from storage.predictions.finish import Canceled, finish
from storage.predictions.parameters import Parameters
from storage.predictions.render import Renderer, open_renderer
from storage.predictions.submit import Submission, submit
from tests.support.serving import Service, serving

MODEL = "darkroom/nobody"
AT_A_TIME = 20
VANISHING = 50
ARRIVE_WITHIN_S = 60.0
GONE_WITHIN_S = 90.0
BETWEEN_ENDINGS_S = 0.01
# Those of requests that wait came last; they don't wait for as long as it takes to end thousands.
LATEST_FIRST = "SELECT id FROM predictions WHERE status = 'starting' ORDER BY created_at DESC"


def rss_bytes() -> int:
    """Of the gunicorn worker: the largest process of `darkroom api` among our children and theirs."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        if "api" in child.cmdline() and "cli.main" in child.cmdline():
            total = max(total, child.memory_info().rss)
    return total


@asynccontextmanager
async def answer(
    service: Service, method: str, path: str, body: object = None, *headers: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """One request on a connection of its own; what comes back ends with the connection."""
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**20)
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: {address.netloc}",
        "Content-Type: application/json",
        "Connection: close",
        f"Content-Length: {len(payload)}",
        *headers,
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode() + payload)
    try:
        yield reader, writer
    finally:
        writer.close()


async def listen(service: Service, prediction_id: str, opening: asyncio.Semaphore, done_at: dict[str, float]) -> None:
    """`opening` lets a few connect at a time: who has a place gives it back with the first event."""
    await opening.acquire()
    async with answer(service, "GET", f"/v1/predictions/{prediction_id}/events") as (reader, _):
        await until(reader, b"event:")
        opening.release()
        await until(reader, b"event: done")
        done_at[prediction_id] = time.time()


async def until(reader: asyncio.StreamReader, beginning: bytes) -> None:
    """Read to the first line that begins so. Raises RuntimeError where the answer ends before it."""
    came = b""
    while line := await reader.readline():
        if line.startswith(beginning):
            return
        came += line
    raise RuntimeError(f"an answer without {beginning!r}: {came[:500]!r}")


async def wait(service: Service, done_at: dict[str, float]) -> None:
    body = {"model": MODEL, "input": {"prompt": "x"}}
    async with answer(service, "POST", "/v1/predictions", body, "Prefer: wait=60") as (reader, _):
        came = await reader.read()
    came_at = time.time()
    prediction = json.loads(came.partition(b"\r\n\r\n")[2])
    if prediction["status"] == "canceled":
        done_at[prediction["id"]] = came_at


async def watch_health(service: Service, took_s: list[float]) -> None:
    while True:
        began = time.perf_counter()
        async with answer(service, "GET", "/healthz") as (reader, _):
            await reader.read()
        took_s.append(time.perf_counter() - began)
        await asyncio.sleep(0.05)


def submit_some(conn: Connection, count: int) -> list[str]:
    parameters = Parameters(
        prompt="x", width=64, height=64, num_inference_steps=1, guidance_scale=0.0, seed=7
    ).to_json()
    return [
        submit(conn, Submission(MODEL, "1", queue_name_of(MODEL), {"prompt": "x"}, parameters, 3600))["id"]
        for _ in range(count)
    ]


async def end_all(conn: Connection, renderer: Renderer, ids: list[str]) -> dict[str, float]:
    """Cancel them one after the other; when each was committed."""
    committed_at = {}
    for id_ in ids:
        await asyncio.to_thread(finish, conn, renderer, id_, Canceled())
        committed_at[id_] = time.time()
        await asyncio.sleep(BETWEEN_ENDINGS_S)
    return committed_at


async def measure(service: Service, streams: int, waits: int) -> list[str]:
    with connect(service.settings.database_url, application_name="bench") as conn:
        renderer = open_renderer(service.settings, conn)
        ids = submit_some(conn, streams)
        done_at: dict[str, float] = {}
        took_s: list[float] = []
        opening = asyncio.Semaphore(AT_A_TIME)
        before = rss_bytes()
        tasks = [asyncio.create_task(listen(service, id_, opening, done_at)) for id_ in ids]
        while await threads_held(service, "streams") < streams:
            raise_what_failed(tasks)
            await asyncio.sleep(0.5)
        per_stream = (rss_bytes() - before) / streams
        tasks += [asyncio.create_task(wait(service, done_at)) for _ in range(waits)]
        while await threads_held(service, "waits") < waits:
            raise_what_failed(tasks)
            await asyncio.sleep(0.5)
        waiting = [row["id"] for row in conn.execute(LATEST_FIRST).fetchall()]
        health = asyncio.create_task(watch_health(service, took_s))
        committed_at = await end_all(conn, renderer, waiting)
        await asyncio.wait(tasks, timeout=ARRIVE_WITHIN_S, return_when=asyncio.FIRST_EXCEPTION)
        raise_what_failed([*tasks, health])
        health.cancel()
        held_s = await vanish(service, conn)
    late_ms = [1000 * (done_at[id_] - committed_at[id_]) for id_ in done_at]
    return [
        f"{streams} streams and {waits} waits: {len(done_at)} of {streams + waits} endings arrived",
        f"from COMMIT to the client: {quantiles(late_ms)} ms",
        f"/healthz meanwhile ({len(took_s)} requests): {quantiles([1000 * s for s in took_s])} ms",
        f"memory: {per_stream / 1000:.0f} kB a stream",
        f"{VANISHING} listeners hung up: the last thread was free after {held_s:.0f} s",
    ]


def raise_what_failed(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done():
            task.result()


async def threads_held(service: Service, by: str) -> int:
    """By `streams` or by `waits`, as the API's metrics have it."""
    async with answer(service, "GET", "/metrics") as (reader, _):
        page = (await reader.read()).decode()
    found = re.search(rf"^darkroom_api_{by}_open (\S+)$", page, re.MULTILINE)
    assert found is not None, page[:500]
    return int(float(found[1]))


async def vanish(service: Service, conn: Connection) -> float:
    """Open some streams, let their clients be killed, and say how long it takes until no thread is held any more."""
    [id_] = submit_some(conn, 1)
    async with AsyncExitStack() as open_streams:
        for _ in range(VANISHING):
            stream = answer(service, "GET", f"/v1/predictions/{id_}/events")
            reader, _ = await open_streams.enter_async_context(stream)
            await until(reader, b"event:")
    began = time.monotonic()
    while await threads_held(service, "streams") > 0:
        if time.monotonic() > began + GONE_WITHIN_S:
            raise RuntimeError(f"threads of clients that are gone are held after {GONE_WITHIN_S:.0f} s")
        await asyncio.sleep(0.5)
    return time.monotonic() - began


def quantiles(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=100)
    return f"p50 {cuts[49]:.1f}, p99 {cuts[98]:.1f}, max {max(values):.1f}"


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--streams", 1000, quick=10)
    options.size("--waits", 200, quick=4)
    asked = options.read()
    before = machine()
    limits = {
        "api_threads": asked.streams + asked.waits + 2 * VANISHING,
        "api_max_streams": asked.streams + VANISHING,
        "api_max_waiting": asked.waits + 10,
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        own_servers() as servers,
        serving(servers, Path(folder), workers=False, **limits) as service,
    ):
        found = asyncio.run(measure(service, asked.streams, asked.waits))
    publish("streams", "\n".join(f"- {line}" for line in found), before, write=asked.write)


if __name__ == "__main__":
    main()
