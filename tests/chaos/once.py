"""One run: load and faults together, then healing, then the checks."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from storage.postgres.database import connect
from storage.predictions.render import open_renderer
from storage.s3.bucket import Bucket
from tests.chaos.deployment import Deployment
from tests.chaos.faults import Faults
from tests.chaos.invariants import World, violations_in
from tests.chaos.load import POISON_PROMPT, Load
from tests.chaos.recovery import Failover, Recovery, after_promotions, drawings_begun_again, recoveries
from tests.chaos.schedule import Profile, make_schedule

TICK_S = 0.02
POISON_EVERY_S = 0.2
# After the last fault: leases, locks of deliveries and the retries of receivers run out within half a minute.
SETTLE_WITHIN_S = 240.0


@dataclass
class Result:
    """What a run was, and what it showed."""

    seed: int
    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    took_s: float = 0.0
    settled_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    crash_points: Counter[str] = field(default_factory=Counter)
    misbehaved: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    webhooks: int = 0
    worker_deaths: int = 0
    begun_again: int = 0
    recoveries: list[Recovery] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)


def run_once(folder: Path, seed: int, profile: Profile) -> Result:
    """Run one seed in an empty folder; everything that it started has ended when it returns."""
    result = Result(seed)
    began = time.monotonic()
    deployment = Deployment(folder)
    with deployment.running():
        faults = Faults(deployment, make_schedule(seed, profile))
        load = Load(deployment.urls, deployment.receiver, profile, seed)
        poison = PoisonWatch(deployment)
        load.start()
        try:
            load_began = time.monotonic()
            while not (load.is_over() and faults.are_over):
                deployment.tick()
                faults.tick(time.monotonic() - load_began)
                poison.tick()
                time.sleep(TICK_S)
        finally:
            load.stop()
        deployment.heal()
        result.settled_s = _settle(deployment, poison)
        deployment.end_roles()
        with connect(deployment.postgres.url, application_name="chaos") as conn:
            result.accepted, result.refused = len(load.accepted), load.refused
            result.faults = faults.done
            result.crash_points = Counter(death.crash_point for death in deployment.deaths if death.crash_point)
            result.misbehaved = deployment.receiver.misbehaved
            result.webhooks = len(deployment.receiver.arrived())
            result.worker_deaths = sum(death.name.startswith("worker") for death in deployment.deaths)
            result.recoveries = recoveries(conn, deployment.deaths)
            result.failovers = after_promotions(conn, deployment.pair.promotions, load.accepted_at)
            result.begun_again = drawings_begun_again(conn)
            world = World(
                conn=conn,
                renderer=open_renderer(deployment.settings.model_copy(update={"public_url": deployment.urls[0]}), conn),
                bucket=Bucket(deployment.settings),
                settings=deployment.settings,
                accepted=load.accepted,
                arrived=deployment.receiver.arrived(),
                refused=load.refused,
            )
            result.violations = violations_in(world)
            result.ended = Counter(row["status"] for row in world.predictions())
    result.took_s = time.monotonic() - began
    return result


def _settle(deployment: Deployment, poison: PoisonWatch) -> float:
    """Let everything come to rest; returns how long that took, or as long as we were willing to wait."""
    began = time.monotonic()
    while (waited_s := time.monotonic() - began) < SETTLE_WITHIN_S:
        deployment.tick()
        poison.tick()
        with suppress(psycopg.OperationalError):
            if deployment.is_up() and _is_at_rest(deployment):
                return waited_s
        time.sleep(0.1)
    return waited_s


def _is_at_rest(deployment: Deployment) -> bool:
    """Judged by the rows that clients would ask for; the checks look at everything else afterwards."""
    with connect(deployment.postgres.url, application_name="chaos") as conn:
        row = conn.execute(
            """
            SELECT (SELECT count(*) FROM predictions WHERE completed_at IS NULL)
                 + (SELECT count(*) FROM webhook_deliveries WHERE status = 'pending')
                 + (SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'darkroom:draw') AS n
            """
        ).fetchone()
        return row is not None and row["n"] == 0


class PoisonWatch:
    """Kills whoever draws the poison prediction, as a request that crashes its GPU's driver would."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._next_at = 0.0

    def tick(self) -> None:
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + POISON_EVERY_S
        if not self._deployment.postgres.is_ready():
            return
        with (
            suppress(psycopg.OperationalError),
            connect(self._deployment.postgres.url, application_name="chaos") as conn,
        ):
            rows = conn.execute(
                """
                SELECT chaos_workers.pid FROM predictions JOIN chaos_workers ON chaos_workers.id = worker_id
                WHERE status = 'processing' AND input->>'prompt' = %s
                """,
                (POISON_PROMPT,),
            ).fetchall()
            alive = {role.process.pid for role in self._deployment.workers if role.process is not None}
            for row in rows:
                if row["pid"] in alive:
                    with suppress(ProcessLookupError):
                        os.kill(row["pid"], signal.SIGKILL)
