"""A whole Darkroom of separate processes on servers that can each be stopped: what the faults strike."""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from api.settings import ApiSettings
from cli.embedded import EmbeddedPostgres, EmbeddedS3, EmbeddedServerError
from cli.embedded.ports import free_ports
from cli.host.demand.watch import DemandWatch
from storage.crash_points import CrashPoint
from storage.postgres.database import connect
from storage.postgres.migrate import upgrade
from storage.s3.bucket import ensure_bucket
from tests.chaos.failover import FailingPair
from tests.chaos.processes import RoleProcess, clean_environment
from tests.chaos.proxy import PostgresProxy
from tests.chaos.receiver import Receiver
from tests.chaos.witness import watch
from tests.support.pooler import PGBOUNCER, Pooler
from tests.support.replicated_postgres import socket_of

MODEL = "chaos/blank"
CATALOG = """
[models."chaos/blank"]
engine = "blank"
takes = ["image"]
defaults = { width = 64, height = 64, num_inference_steps = 8 }
limits = { multiple_of = 16, max_steps = 100 }
blank = { load_s = 0.2, step_s = 0.1 }
"""
# Drawn by hosts, one place each: their workers are forked, switched between the models, and end or stand by when idle.
HOSTED = ("chaos/first", "chaos/second")
HOSTED_CATALOG = """
[models."{name}"]
engine = "blank"
takes = ["image"]
defaults = {{ width = 64, height = 64, num_inference_steps = 8 }}
limits = {{ multiple_of = 16, max_steps = 100 }}
blank = {{ load_s = 0.2, step_s = 0.05 }}
"""
HOSTS: tuple[dict[str, str], ...] = ({}, {"STANDBY_AFTER_S": "0.5"})  # the settings of each
WORKERS = 4
SUPERVISED = ("worker-1", "worker-2")  # their deaths are told as `darkroom up` tells them
# How they find the primary: its one address, in a network of its own that is cut and frozen; or that address and, for
# what a pooler can do, a pooler; or that address alone. All others know both servers and look for the primary.
BEHIND_PROXY = "worker-3"
BEHIND_POOLER = ("worker-2", "courier-1", "api-1")
BY_ADDRESS = "host-1"
WEBHOOK_TIMEOUT_S = 2.0
# Days would be too long to watch; enough attempts for every receiver that takes it in the end.
RETRY_SCHEDULE = "0,1,1,1,2,2,2,3,3,3,3,3"


@dataclass(frozen=True)
class Death:
    """A process that ended without having been told to."""

    name: str
    pid: int
    at: float  # time.time()
    crash_point: CrashPoint | None


class Deployment:
    """Everything in one folder. The main thread calls `tick` often, and does all else too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.deaths: list[Death] = []
        self.supervised: Collection[str] = SUPERVISED
        self.pair = FailingPair(folder / "postgres")
        self._s3_secret = secrets.token_urlsafe(24)
        self.s3 = EmbeddedS3(folder / "s3", access_key_id="chaos", secret_access_key=self._s3_secret)
        self.receiver = Receiver()
        self.workers: list[RoleProcess] = []
        self.hosts: list[RoleProcess] = []
        self.couriers: list[RoleProcess] = []
        self.apis: list[RoleProcess] = []
        self.urls: list[str] = []
        self._s3_back_at = 0.0
        self._pooler_back_at = 0.0
        self._is_pooler_up = False

    @contextlib.contextmanager
    def running(self) -> Iterator[Deployment]:
        with ExitStack() as stack:
            stack.callback(self.s3.stop)
            self.s3.launch()
            stack.enter_context(self.pair.running())
            self.s3.wait()
            stack.enter_context(self.receiver.serving())
            self.proxy = PostgresProxy(socket_of(self.postgres))
            stack.callback(self.proxy.close)
            if PGBOUNCER is not None:
                self._pooler = Pooler(self.pair.address.url, self.folder)
                stack.callback(self._pooler.kill)
                self._pooler.start()
                self._is_pooler_up = True
            self.settings = ApiSettings(
                database_url=self.pair.url,
                s3_endpoint_url=self.s3.endpoint_url,
                s3_access_key_id="chaos",
                s3_secret_access_key=self._s3_secret,
                s3_prefix="chaos",
                webhook_allow="127.0.0.0/8",
            )
            upgrade(self.settings)
            ensure_bucket(self.settings)
            with connect(self.postgres.url, application_name="chaos") as conn:
                watch(conn)
            self.demand_watch = DemandWatch(self.pair.url)
            self.demand_watch.start()
            stack.callback(self.demand_watch.stop)
            self._make_roles()
            stack.callback(self.end_roles)
            for role in self.roles:
                role.start()
            self._wait_until_up()
            yield self

    @property
    def postgres(self) -> EmbeddedPostgres:
        """The server that takes writes, now."""
        return self.pair.primary

    @property
    def roles(self) -> list[RoleProcess]:
        return [*self.workers, *self.hosts, *self.couriers, *self.apis]

    def tick(self) -> None:
        now = time.monotonic()
        self.pair.tick()
        self.pair.follow(self.proxy)
        if self.s3.process.poll() is not None and now >= self._s3_back_at:
            self._s3_back_at = now + 0.5
            with contextlib.suppress(EmbeddedServerError):
                self.s3.launch()
        if PGBOUNCER is not None and not self._is_pooler_up and now >= self._pooler_back_at:
            self._pooler.launch()
            self._is_pooler_up = True
        for role in self.roles:
            role.tick()

    def kill_pooler(self, away_s: float) -> bool:
        if not self._is_pooler_up:
            return False
        self._pooler_back_at = time.monotonic() + away_s
        self._pooler.kill()
        self._is_pooler_up = False
        return True

    def kill_s3(self, away_s: float) -> None:
        self._s3_back_at = time.monotonic() + away_s
        self.s3.process.kill()

    def end_listen_connections(self) -> None:
        with (
            contextlib.suppress(psycopg.OperationalError),
            connect(self.postgres.url, application_name="chaos") as conn,
        ):
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'")
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%listener'"
            )

    def heal(self) -> None:
        """End every lasting fault."""
        for role in self.roles:
            role.thaw()
        self.proxy.heal()
        self.receiver.is_open = True
        self.pair.heal()
        self._s3_back_at = self._pooler_back_at = 0.0

    def end_roles(self) -> None:
        """Stop them all, gracefully and together."""
        for role in self.roles:
            role.terminate()
        for role in self.roles:
            role.end()

    def is_up(self) -> bool:
        return self.pair.is_up() and self.s3.is_ready()

    def _make_roles(self) -> None:
        catalog = self.folder / "models.toml"
        hosted = self.folder / "hosted.toml"
        hosted.write_text("".join(HOSTED_CATALOG.format(name=name) for name in HOSTED))
        catalog.write_text(CATALOG + hosted.read_text())
        ports = free_ports(2)
        self.urls = [f"http://127.0.0.1:{port}" for port in ports]
        env = clean_environment() | {
            "DATABASE_URL": self.pair.url,
            "S3_ENDPOINT_URL": self.s3.endpoint_url,
            "S3_ACCESS_KEY_ID": "chaos",
            "S3_SECRET_ACCESS_KEY": self._s3_secret,
            "S3_PREFIX": "chaos",
            "MODELS": str(catalog),
            "PUBLIC_URL": self.urls[0],
            "WEBHOOK_ALLOW": "127.0.0.0/8",
            "WEBHOOK_TIMEOUT_S": str(WEBHOOK_TIMEOUT_S),
            "WEBHOOK_RETRY_SCHEDULE": RETRY_SCHEDULE,
            "GRACE_SECONDS": "3",
            "STALL_SECONDS": "20",
        }
        for number in range(WORKERS):
            name = f"worker-{number}"
            self.workers.append(self._role(name, ["worker", "--model", MODEL], env))
        for number, more in enumerate(HOSTS):
            name = f"host-{number}"
            words = ["host", "--data", str(self.folder / name), "--idle-exit", "2", "--switch-after", "0.5"]
            self.hosts.append(self._role(name, words, env | {"MODELS": str(hosted), **more}))
        for number in range(2):
            self.couriers.append(self._role(f"courier-{number}", ["courier"], env))
        for number, port in enumerate(ports):
            self.apis.append(self._role(f"api-{number}", ["api", "--port", str(port)], env))

    def _role(self, name: str, words: list[str], env: dict[str, str]) -> RoleProcess:
        env = env | self._way_to_postgres(name)
        return RoleProcess(name, words, env, self.folder / f"{name}.log", on_death=self._note_death)

    def _way_to_postgres(self, name: str) -> dict[str, str]:
        if name == BEHIND_PROXY:
            return {"DATABASE_URL": self.proxy.url}
        if name == BY_ADDRESS:
            return {"DATABASE_URL": self.pair.address.url}
        if name in BEHIND_POOLER and PGBOUNCER is not None:
            return {"DATABASE_URL": self._pooler.url, "DATABASE_DIRECT_URL": self.pair.address.url}
        return {}

    def _note_death(self, role: RoleProcess, pid: int, at: float, code: int) -> None:
        if code == -signal.SIGKILL:
            self.deaths.append(Death(role.name, pid, at, role.armed if role.killed_at is None else None))
        if role.name in self.supervised and code != 0:
            self.demand_watch.worker_died(pid)

    def _wait_until_up(self, timeout_s: float = 240.0) -> None:
        """Every worker has said that it is there, and couriers and APIs have begun."""
        deadline = time.monotonic() + timeout_s
        with connect(self.postgres.url, application_name="chaos") as conn:
            while time.monotonic() < deadline:
                self.tick()
                row = conn.execute("SELECT count(*) AS n FROM workers WHERE state = 'idle'").fetchone()
                others = [role.name for role in self.roles if not self._has_begun(role)]
                if row is not None and row["n"] == WORKERS and not others:
                    return
                time.sleep(0.1)
        raise RuntimeError(f"not up after {timeout_s:.0f} s; the logs are in {self.folder}")

    def _has_begun(self, role: RoleProcess) -> bool:
        said = (self.folder / f"{role.name}.log").read_text(errors="replace")
        return role in self.workers or any(
            words in said for words in ("courier started", "Booting worker", "draw here for")
        )
