"""How long a webhook takes while another token's receivers hang, and what a courier does when none hangs.

    python -m bench.webhook_fairness [--hanging 5000] [--hosts 40] [--deliveries 200]

A whole courier in a process of its own, on a real Postgres. The hanging receivers accept connections on loopback
addresses and never answer. Each figure of a single delivery goes from the COMMIT that wrote it to its arrival.
"""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.command import CommandLine, own_servers, publish
from bench.report import machine
from storage.postgres.database import Connection, connect
from storage.predictions.render import open_renderer
from storage.settings import Settings
from tests.conftest import TEMPLATE
from tests.integration.courier_running import process
from tests.integration.deliveries_of import insert_prediction, write
from tests.support.receivers import Receiver

VICTIM, TENANT = 1, 2
PAUSE_S = 0.1
PATIENCE_S = 120.0


@contextmanager
def hanging_receivers(hosts: int) -> Iterator[list[str]]:
    """URLs of servers that accept a connection, each on an address of its own, and say nothing."""
    with ExitStack() as sockets:
        urls = []
        for number in range(hosts):
            listening = sockets.enter_context(socket.create_server((f"127.0.1.{number + 1}", 0), backlog=1024))
            host, port = listening.getsockname()
            urls.append(f"http://{host}:{port}/hang")
        yield urls


def insert_prediction_of(conn: Connection, token_id: int | None) -> str:
    prediction_id = insert_prediction(conn)
    conn.execute("UPDATE predictions SET token_id = %s WHERE id = %s", (token_id, prediction_id))
    return prediction_id


def fill(conn: Connection, count: int, urls: list[str], token_id: int | None) -> None:
    """Deliveries that are due. They share one prediction: what is measured is their way, not the making of them."""
    with conn.transaction():
        prediction_id = insert_prediction_of(conn, token_id)
        for number in range(count):
            write(conn, urls[number % len(urls)], event="logs", prediction_id=prediction_id)
    conn.execute("ANALYZE")


def latencies_ms(conn: Connection, receiver: Receiver, count: int, token_id: int | None) -> list[float]:
    """One delivery after the other, each waited for; those that don't come in PATIENCE_S count as that long."""
    times: list[float] = []
    for _ in range(count):
        prediction_id = insert_prediction_of(conn, token_id)
        came = len(receiver.requests)
        write(conn, receiver.url, prediction_id=prediction_id)
        committed_at = time.monotonic()
        try:
            arrived_at = receiver.wait_for(came + 1, timeout_s=PATIENCE_S)[-1].at
        except AssertionError:
            return [*times, 1000 * PATIENCE_S]
        times.append(1000 * (arrived_at - committed_at))
        time.sleep(PAUSE_S)
    return times


def told(times: list[float]) -> str:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"p50 {statistics.median(ordered):.1f} ms, p99 {p99:.1f} ms, max {ordered[-1]:.1f} ms ({len(ordered)})"


def measure_throughput(settings: Settings, conn: Connection, count: int) -> str:
    with Receiver().serving() as receiver:
        fill(conn, count, [receiver.url], TENANT)
        with process(settings):
            requests = receiver.wait_for(count, timeout_s=PATIENCE_S)
    took_s = requests[-1].at - requests[0].at
    return f"- {count} due deliveries to one quick receiver: {took_s:.2f} s, {count / took_s:.0f} a second"


def measure_idle(settings: Settings, conn: Connection, count: int) -> str:
    with Receiver().serving() as receiver, process(settings):
        time.sleep(1)
        return f"- COMMIT to arrival, nothing else to deliver: {told(latencies_ms(conn, receiver, count, VICTIM))}"


def measure_beside_hanging(
    settings: Settings,
    conn: Connection,
    count: int,
    hanging: int,
    hosts: int,
    tenant: int | None,
    victim: int | None,
    *,
    settle_s: float,
) -> str:
    """Another token's receiver is unknown to the courier. Where all are one owner, it has answered once before."""
    who = "another token's" if tenant != victim else "a known receiver's, without tokens"
    with Receiver().serving() as receiver, hanging_receivers(hosts) as urls:
        if tenant != victim:
            fill(conn, hanging, urls, tenant)
        with process(settings):
            if tenant == victim:
                latencies_ms(conn, receiver, 1, victim)
                fill(conn, hanging, urls, tenant)
            time.sleep(settle_s)
            times = latencies_ms(conn, receiver, count, victim)
    return f"- {who}, beside {hanging} due deliveries to {hosts} hanging hosts: {told(times)}"


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--hanging", 5000, quick=50)
    options.size("--hosts", 40, quick=4)
    options.size("--deliveries", 200, quick=3)
    options.size("--due", 500, quick=10, explanation="deliveries that are due at once")
    options.size("--settle-s", 5.0, quick=0.5, explanation="before deliveries are timed beside those that hang")
    asked = options.read()
    before = machine()
    with own_servers() as servers:
        settings = servers.settings_for(TEMPLATE)
        found = []
        with connect(settings.database_url, application_name="bench") as conn:
            open_renderer(settings, conn)
            found.append(measure_throughput(settings, conn, asked.due))
            found.append(measure_idle(settings, conn, asked.deliveries))
            for tenant, victim in ((TENANT, VICTIM), (None, None)):
                found.append(
                    measure_beside_hanging(
                        settings,
                        conn,
                        asked.deliveries,
                        asked.hanging,
                        asked.hosts,
                        tenant,
                        victim,
                        settle_s=asked.settle_s,
                    )
                )
                conn.execute("TRUNCATE webhook_deliveries, procrastinate_jobs CASCADE")
    publish("webhook_fairness", "\n".join(found), before, write=asked.write)


if __name__ == "__main__":
    main()
