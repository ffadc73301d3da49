"""`make recovery`: what a killed worker costs while everything else is well, and which part of it takes how long.

One prediction at a time, on one of four workers that are all warm. Its worker is killed at a random moment between two
renewals of its lease, and what happened then is read from the history that the database itself wrote.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from storage import logs
from storage.postgres.database import Connection, connect
from storage.predictions.claim import RENEW_EVERY_S
from tests.chaos.deployment import MODEL, Deployment
from tests.chaos.recovery import percentile
from tests.support.report_sections import write_section

COMMAND = "make recovery"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
SAMPLES = 30
SEED = 101
TICK_S = 0.05  # as often as `darkroom up` looks after its children
STEPS = 100  # of 0.1 s: the drawing is never over before it is claimed again
EXPIRE_NOTHING_FOR_S = 11.0  # after the couriers connected, and after Postgres started
GIVE_UP_AFTER_S = 120.0


@dataclass(frozen=True)
class Kill:
    """From SIGKILL of the worker that drew to the claim by another, in the three parts of which that consists."""

    supervised: bool
    notice_s: float  # until the lease was over, or the supervisor had said in the database that it is
    rescue_s: float  # from there until rescue had given the prediction back
    claim_s: float  # from there until another worker had it
    successor_s: float  # beside all this: until the killed worker's successor had its model loaded

    @property
    def total_s(self) -> float:
        return self.notice_s + self.rescue_s + self.claim_s


def measure(samples: int, *, seed: int = SEED, say: Callable[[str], None] = print) -> list[Kill]:
    """Kill so many workers by leases alone, and so many seen by a supervisor."""
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o755)  # as root, Postgres runs as an account of its own
    chance = random.Random(seed)
    kills: list[Kill] = []
    deployment = Deployment(folder)
    with deployment.running(), connect(deployment.postgres.url, application_name="chaos") as conn:
        _for(deployment, EXPIRE_NOTHING_FOR_S)
        _until(deployment, lambda: _all_are_idle(deployment, conn))
        for supervised in (True, False):
            for number in range(samples):
                kill = _kill_one(deployment, conn, chance, supervised=supervised)
                kills.append(kill)
                say(
                    f"{'supervised' if supervised else 'by leases'} {number + 1}/{samples}: {kill.total_s:.2f} s ="
                    f" notice {kill.notice_s:.2f} + rescue {kill.rescue_s:.2f} + claim {kill.claim_s:.2f};"
                    f" its successor was ready after {kill.successor_s:.1f} s"
                )
    shutil.rmtree(folder, ignore_errors=True)
    return kills


def lines_of(kills: Sequence[Kill]) -> list[str]:
    """The tables of the page."""
    lines: list[str] = []
    for name, supervised in (("By leases alone", False), ("Seen by a supervisor, as under `darkroom up`", True)):
        found = [kill for kill in kills if kill.supervised is supervised]
        parts = (
            ("its supervisor has said so" if supervised else "the lease is over", [kill.notice_s for kill in found]),
            ("… until rescue has given it back", [kill.rescue_s for kill in found]),
            ("… until another worker has it", [kill.claim_s for kill in found]),
            ("**from SIGKILL to the claim by another**", [kill.total_s for kill in found]),
            ("(beside it: until a successor has started and loaded)", [kill.successor_s for kill in found]),
        )
        lines += [f"| {name}, {len(found)} kills | p50 | p99 | max |", "|---|---|---|---|"]
        for part, seconds in parts:
            shown = (percentile(seconds, 0.5), percentile(seconds, 0.99), max(seconds))
            lines.append(f"| {part} | " + " | ".join(f"{value:.2f} s" for value in shown) + " |")
        lines.append("")
    return [*lines, written_on()]


def written_on() -> str:
    """When and where: figures of a busy machine must be recognizable."""
    return (
        f"Written {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores ({platform.system()},"
        f" Python {platform.python_version()}), with a load average of {os.getloadavg()[1]:.1f} at the end."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=SAMPLES, help="kills of each kind")
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--no-page", action="store_true", help="the tables on stdout only")
    asked = parser.parse_args()
    logs.configure("chaos", level="ERROR")
    lines = lines_of(measure(asked.samples))
    print("\n".join(lines))
    if not asked.no_page:
        write_section(asked.page, COMMAND, lines)
    return 0


def _kill_one(deployment: Deployment, conn: Connection, chance: random.Random, *, supervised: bool) -> Kill:
    prediction_id = _post(deployment, "", {"model": MODEL, "input": {"prompt": "?", "num_inference_steps": STEPS}})
    _until(deployment, lambda: _count(conn, prediction_id, "processing") == 1)
    _for(deployment, 0.2 + chance.uniform(0, RENEW_EVERY_S))
    row = conn.execute(
        "SELECT pid FROM chaos_workers JOIN predictions ON worker_id = chaos_workers.id WHERE predictions.id = %s",
        (prediction_id,),
    ).fetchone()
    assert row is not None, "it is drawn for longer than that"
    (victim,) = (role for role in deployment.workers if role.process is not None and role.process.pid == row["pid"])
    deployment.supervised = (victim.name,) if supervised else ()
    killed_at = time.time()
    victim.kill()
    _until(deployment, lambda: _count(conn, prediction_id, "processing") == 2)
    _post(deployment, f"/{prediction_id}/cancel", {})
    _until(deployment, lambda: _all_are_idle(deployment, conn))
    assert victim.process is not None
    moves = conn.execute(
        """
        SELECT extract(epoch FROM freed.at)::float AS freed_at, extract(epoch FROM claimed.at)::float AS claimed_at,
               extract(epoch FROM coalesce(notice.at, freed.lease_was))::float AS noticed_at,
               (SELECT extract(epoch FROM ready_at)::float FROM chaos_workers WHERE pid = %s) AS successor_at
        FROM chaos_moves AS freed
        JOIN chaos_moves AS claimed
          ON claimed.prediction_id = freed.prediction_id AND claimed.status = 'processing' AND claimed.attempt = 2
        LEFT JOIN chaos_notices AS notice ON notice.prediction_id = freed.prediction_id
        WHERE freed.prediction_id = %s AND freed.was = 'processing' AND freed.status = 'starting'
        """,
        (victim.process.pid, prediction_id),
    ).fetchone()
    assert moves is not None
    return Kill(
        supervised=supervised,
        notice_s=moves["noticed_at"] - killed_at,
        rescue_s=moves["freed_at"] - moves["noticed_at"],
        claim_s=moves["claimed_at"] - moves["freed_at"],
        successor_s=moves["successor_at"] - killed_at,
    )


def _all_are_idle(deployment: Deployment, conn: Connection) -> bool:
    pids = {role.process.pid for role in deployment.workers if role.process is not None}
    return len(pids) == len(deployment.workers) and _is_idle(conn, pids)


def _is_idle(conn: Connection, pids: set[int]) -> bool:
    rows = conn.execute(
        """
        SELECT pid FROM workers WHERE state = 'idle'
          AND NOT EXISTS (SELECT FROM predictions WHERE worker_id = workers.id AND status = 'processing')
        """
    )
    return pids <= {row["pid"] for row in rows}


def _count(conn: Connection, prediction_id: str, status: str) -> int:
    row = conn.execute(
        "SELECT count(*) AS n FROM chaos_moves WHERE prediction_id = %s AND status = %s", (prediction_id, status)
    ).fetchone()
    assert row is not None
    n: int = row["n"]
    return n


def _post(deployment: Deployment, path: str, body: dict[str, object]) -> str:
    with closing(http.client.HTTPConnection(urlsplit(deployment.urls[0]).netloc, timeout=10)) as connection:
        connection.request("POST", f"/v1/predictions{path}", json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        if answer.status not in (200, 201):
            raise RuntimeError(f"{answer.status}: {said.decode(errors='replace')}")
        return str(json.loads(said)["id"])


def _until(deployment: Deployment, condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + GIVE_UP_AFTER_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"it did not happen in {GIVE_UP_AFTER_S:.0f} s; the logs are in {deployment.folder}")
        deployment.tick()
        time.sleep(TICK_S)


def _for(deployment: Deployment, seconds: float) -> None:
    end_at = time.monotonic() + seconds
    _until(deployment, lambda: time.monotonic() >= end_at)


if __name__ == "__main__":
    sys.exit(main())
