"""Everything that `darkroom up` runs: the order in which it starts, is looked after, and stops."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import cli
from cli.embedded import StartCancelled
from cli.supervision.data_folder import DataFolder
from cli.supervision.interrupts import Interrupted, StopRequest, give_way_to
from cli.supervision.launch import start_role
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from cli.supervision.stopping import end_children
from cli.supervision.supervise import Role, describe_exit
from cli.up.address import (
    NOT_OPEN,
    choose_port,
    describe_access,
    host_and_port,
    is_loopback,
    reachable,
    require_public_url,
    require_tokens,
    url_of,
)
from cli.up.environment import known_settings, shared_environment
from cli.up.missing_weights import missing_weights
from cli.up.readiness import answers_ready
from cli.up.servers import Servers
from cli.up.settings_check import check_settings
from cli.up.stages import Stages
from storage.errors import OperatorError

if TYPE_CHECKING:
    from api.settings import ApiSettings
    from cli.host.host import Host, HostOptions
    from storage.catalog import Catalog
    from storage.settings import Settings

TICK_S = 0.05
READY_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Options:
    """The command line of `darkroom up`."""

    port: int
    host: str
    data: Path
    models: Path | None
    workers: int
    idle_exit_s: float | None
    switch_after_s: float
    warm_parent: bool


class WholeService:
    """One run, from the first check to the last process gone."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._stop = StopRequest()
        self._log = LogStream()
        self._stages = Stages(self._log)
        self._folder = DataFolder(options.data)
        self._record = ProcessRecord(self._folder.run)
        self._servers: Servers | None = None
        self._roles: list[Role] = []
        self._host: Host | None = None

    def run(self) -> int:
        """Returns the exit code. Raises OperatorError, with everything stopped, for what the operator can mend."""
        self._stop.install()
        is_ready = False
        try:
            self._start()
            is_ready = True
            while not self._stop.is_set():
                self._tick()
                self._host.changed.wait(TICK_S) if self._host is not None else time.sleep(TICK_S)
        except (Interrupted, StartCancelled):
            pass
        finally:
            self._end()
        if is_ready or self._stop.first is None:
            return 0
        return 128 + self._stop.first

    def _start(self) -> None:
        threading.Thread(target=_import_ahead, daemon=True).start()
        require_public_url(self._options.host, os.environ.get("PUBLIC_URL"))
        models = (self._options.models or _catalog_nearby()).resolve()
        give_way_to(self._stop, partial(check_settings, os.environ, models=models, host=self._options.host))
        self._folder.open()
        for role in self._record.end_leftovers():
            self._log.from_role("up", f"ended the {role} process that an earlier run left behind")
        port = choose_port(self._options.host, self._options.port)
        url = url_of(reachable(self._options.host), port)
        self._stop.raise_if_set()

        self._log.line(f"Starting Darkroom, with its data in {self._folder.path}")
        self._servers = Servers(self._folder, os.environ, self._stop, self._record, self._log)
        self._servers.launch()
        self._folder.note_catalog(models)
        env = shared_environment(
            os.environ,
            public_url=url,
            models=models,
            database_url=self._servers.postgres.url if self._servers.postgres else None,
            s3=self._servers.s3_settings(),
            own_servers=[*self._servers.addresses(), host_and_port(self._options.host, port)],
            is_for_this_machine=is_loopback(self._options.host),
        )
        if self._servers.postgres is not None and not env.get("SECRET_KEY"):
            env["SECRET_KEY"] = self._folder.secret_key()
        settings, catalog = give_way_to(self._stop, partial(_read_settings, env))
        for line in give_way_to(self._stop, partial(missing_weights, catalog)):
            self._log.from_role("up", line)
        self._servers.wait_for_postgres(self._stages)
        self._prepare_database(settings)
        if (database_url := give_way_to(self._stop, self._servers.app_database_url)) is not None:
            env["DATABASE_URL"] = database_url
            settings, catalog = give_way_to(self._stop, partial(_read_settings, env))
        self._folder.note_running(url, known_settings(env), is_own_database=self._servers.postgres is not None)
        give_way_to(self._stop, partial(require_tokens, self._options.host, settings))
        if self._servers.s3 is None:
            self._prepare_bucket(settings)
            self._start_roles(env, settings, catalog, port)
        else:  # S3 is the slowest to start. Its keys can't be wrong, so the roles may start at the same time
            self._start_roles(env, settings, catalog, port)
            self._servers.wait_for_s3(self._stages)
            self._prepare_bucket(settings)
        self._wait_until_ready(url)
        if self._host is not None:
            self._host.start_warm_parent()
        access = describe_access(self._options.host, settings)
        self._log.line(access)
        self._log.line(f"Darkroom is ready at {url}")
        self._log.dim(_example(url, catalog, with_token=access.startswith(NOT_OPEN)))

    def _prepare_database(self, settings: Settings) -> None:
        from storage.postgres.migrate import upgrade

        with self._stages("the database's schema"):
            give_way_to(self._stop, partial(upgrade, settings))

    def _prepare_bucket(self, settings: Settings) -> None:
        from storage.s3.bucket import ensure_bucket

        with self._stages("the bucket"):
            give_way_to(self._stop, partial(ensure_bucket, settings))

    def _start_roles(self, env: Mapping[str, str], settings: Settings, catalog: Catalog, port: int) -> None:
        from cli.host.host import Host

        address = ("--host", self._options.host, "--port", str(port))
        api = Role("api", partial(start_role, "api", *address, env=env), self._record, self._log)
        courier = Role("courier", partial(start_role, "courier", env=env), self._record, self._log)
        for role in (api, courier):
            self._roles.append(role)
            role.start()
        self._host = Host(env, settings, catalog, self._host_options(), self._record, self._log)
        self._host.start()

    def _host_options(self) -> HostOptions:
        from cli.host.host import HostOptions
        from worker.settings import WorkerSettings

        settings = WorkerSettings()
        return HostOptions(
            workers=self._options.workers,
            idle_exit_s=self._options.idle_exit_s,
            switch_after_s=self._options.switch_after_s,
            warm_parent=self._options.warm_parent and settings.warm_parent,
            standby_after_s=settings.standby_after_s,
            standby_workers=settings.standby_workers,
        )

    def _wait_until_ready(self, url: str) -> None:
        """A role that ends before we are ready won't get better by itself: its message is the operator's."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        with self._stages("API"):
            while not answers_ready(url):
                self._stop.raise_if_set()
                self._tick()
                for role in self._roles:
                    if role.last_exit_code is not None:
                        raise OperatorError(
                            f"The {role.name} {describe_exit(role.last_exit_code)} before it was ready:"
                            " what it said is above."
                        )
                if time.monotonic() > deadline:
                    raise OperatorError(f"The API wasn't ready after {READY_TIMEOUT_S:.0f} s: look at its lines above.")
                time.sleep(TICK_S)

    def _tick(self) -> None:
        if self._servers is not None:
            self._servers.tick()
        for role in self._roles:
            role.tick()
        if self._host is not None:
            self._host.tick()

    def _end(self) -> None:
        """Everything down: first who takes requests in, then who works on them, then what they stand on."""
        children = [role.child for role in self._roles if role.child is not None]
        if self._host is not None:
            children += self._host.stop()
        try:
            for child in end_children(children, self._stop):
                self._log.from_role("up", f"{child.role} had to be killed: it didn't stop in time")
        finally:
            if self._servers is not None:
                self._servers.stop()
            self._log.flush()
            self._folder.close(unused=self._servers is None)


def _read_settings(env: Mapping[str, str]) -> tuple[ApiSettings, Catalog]:
    """Settings as the roles will read them. They come from the environment, so ours becomes theirs."""
    from api.settings import ApiSettings
    from storage.catalog import load_catalog

    os.environ.update(env)
    settings = ApiSettings()
    return settings, load_catalog(settings.models)


def _catalog_nearby() -> Path:
    """models.toml in this folder, else the one beside the code."""
    here = Path("models.toml")
    return here if here.exists() else Path(cli.__file__).parents[1] / "models.toml"


def _import_ahead() -> None:
    """Import slow modules while the servers start."""
    with suppress(ImportError):  # the code that needs the module reports a better error
        importlib.import_module("storage.s3.bucket")
        importlib.import_module("storage.postgres.migrate")


def _example(url: str, catalog: Catalog, *, with_token: bool) -> str:
    model = next(iter(catalog.models))
    body = f'{{"model":"{model}","input":{{"prompt":"a red circle on a blue background"}}}}'
    command = "curl"
    if "http" in getproxies() and not proxy_bypass(urlsplit(url).netloc):  # curl would ask it even for loopback
        command += f" --noproxy {urlsplit(url).hostname}"
    headers = [
        "Content-Type: application/json",
        *(["Authorization: Bearer dr_…"] if with_token else []),
        "Prefer: wait",
    ]
    words = [command, f"{url}/v1/predictions", *(f"-H '{header}'" for header in headers), f"-d '{body}'"]
    return f"Try: {' '.join(words)}"
