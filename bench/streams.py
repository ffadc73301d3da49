"""Many open event streams and waiting requests on one API process, with everything else on the same machine.

    python -m bench.streams [--streams 1000] [--waits 200]

Opens the streams and the waits, then cancels their predictions one by one, straight in the database, so that no
drawing disturbs the clock. Says: whether every event arrived, how long from the COMMIT to the client, how quick
/healthz was meanwhile, and what a stream costs in memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from storage.database import connect
from storage.finish import Canceled, finish
from storage.queue import queue_name_of
from storage.submit import Submission, submit
from storage.wire import open_wire
from tests.conftest import Servers
from tests.serving import Service, serving

MODEL = "darkroom/nobody"
AT_A_TIME = 20


def rss_bytes() -> int:
    """Of the gunicorn worker: the child of the only `api` among our children's children."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        if "api" in child.cmdline() and "cli.main" in child.cmdline():
            total = max(total, child.memory_info().rss)
    return total


async def request(service: Service, method: str, path: str, body: object = None, *headers: str) -> asyncio.StreamReader:
    address = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**20)
    payload = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(payload)}", *headers]
    writer.write("\r\n".join([*lines, "", ""]).encode() + payload)
    reader.writer = writer  # type: ignore[attr-defined] # or it would be closed
    return reader


async def listen(service: Service, prediction_id: str, opening: asyncio.Semaphore, done_at: dict[str, float]) -> None:
    """`opening` lets a few connect at a time, and is free again when the first event is there."""
    await opening.acquire()
    reader = await request(service, "GET", f"/v1/predictions/{prediction_id}/events")
    is_open = False
    while line := await reader.readline():
        if not is_open and line.startswith(b"event:"):
            is_open = True
            opening.release()
        if line.startswith(b"event: done"):
            done_at[prediction_id] = time.time()
            return
    if not is_open:
        raise RuntimeError(f"no stream of {prediction_id}")


async def wait(service: Service, done_at: dict[str, float]) -> None:
    body = {"model": MODEL, "input": {"prompt": "x"}}
    reader = await request(service, "POST", "/v1/predictions", body, "Prefer: wait=60")
    answer = await reader.read()
    came_at = time.time()
    prediction = json.loads(answer.partition(b"\r\n\r\n")[2])
    if prediction["status"] == "canceled":
        done_at[prediction["id"]] = came_at


async def watch_health(service: Service, took_s: list[float]) -> None:
    while True:
        began = time.perf_counter()
        await (await request(service, "GET", "/healthz")).read()
        took_s.append(time.perf_counter() - began)
        await asyncio.sleep(0.05)


async def measure(service: Service, streams: int, waits: int) -> None:
    with connect(service.settings.database_url, application_name="bench") as conn:
        wire = open_wire(service.settings, conn)
        ids = []
        for _ in range(streams):
            submission = Submission(MODEL, "1", queue_name_of(MODEL), {"prompt": "x"}, {"num_inference_steps": 1}, 3600)
            ids.append(submit(conn, submission)["id"])
        done_at: dict[str, float] = {}
        took_s: list[float] = []
        opening = asyncio.Semaphore(AT_A_TIME)
        before = rss_bytes()
        tasks = [asyncio.create_task(listen(service, id_, opening, done_at)) for id_ in ids]
        await asyncio.sleep(0)
        while opening.locked() or opening._value < AT_A_TIME:
            await asyncio.sleep(0.1)
        per_stream = (rss_bytes() - before) / streams
        tasks += [asyncio.create_task(wait(service, done_at)) for _ in range(waits)]
        while True:
            waiting = conn.execute("SELECT id FROM predictions WHERE status = 'starting'").fetchall()
            if len(waiting) == streams + waits:
                break
            await asyncio.sleep(0.1)
        health = asyncio.create_task(watch_health(service, took_s))
        committed_at: dict[str, float] = {}
        for row in waiting:
            await asyncio.to_thread(finish, conn, wire, row["id"], Canceled())
            committed_at[row["id"]] = time.time()
            await asyncio.sleep(0.01)
        await asyncio.wait(tasks, timeout=60)
        health.cancel()
    late_ms = [1000 * (done_at[id_] - committed_at[id_]) for id_ in done_at]
    print(f"streams {streams}, waits {waits}: {len(done_at)} of {streams + waits} endings arrived")
    print(f"from COMMIT to the client: {quantiles(late_ms)} ms")
    print(f"/healthz meanwhile ({len(took_s)} requests): {quantiles([1000 * s for s in took_s])} ms")
    print(f"memory: {per_stream / 1000:.0f} kB a stream")


def quantiles(values: list[float]) -> str:
    cuts = statistics.quantiles(values, n=100)
    return f"p50 {cuts[49]:.1f}, p99 {cuts[98]:.1f}, max {max(values):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--waits", type=int, default=200)
    given = parser.parse_args()
    servers = Servers()
    limits = {
        "api_threads": given.streams + given.waits + 100,
        "api_max_streams": given.streams + 10,
        "api_max_waiting": given.waits + 10,
    }
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(servers.start(), Path(folder), workers=False, **limits) as service,
        ):
            asyncio.run(measure(service, given.streams, given.waits))
    finally:
        servers.stop()


if __name__ == "__main__":
    main()
