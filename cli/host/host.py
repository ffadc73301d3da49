"""The workers of this machine, for `darkroom up` and `darkroom host`: started, switched and stopped by need."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from uuid import uuid4

from cli.host.demand.leases import DemandLeases
from cli.host.demand.watch import DemandWatch
from cli.host.devices import count_gpus, device_of
from cli.host.standby import StandbyRules
from cli.host.warm_parent.handle import WarmParent, is_possible
from cli.host.workers import Workers
from cli.supervision.forked_process import Process
from cli.supervision.launch import start_role
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from cli.supervision.supervise import Child
from storage.catalog import Catalog
from storage.settings import Settings
from storage.workers.warm import NO_BOUNDS

# A worker that ends has to load its model again for the next prediction.
IDLE_EXIT_S = 60.0
# One that stands by holds no memory of the device, so it may stay for long.
STANDBY_EXIT_S = 3600.0


@dataclass(frozen=True)
class HostOptions:
    """What both command lines say about workers."""

    workers: int | None  # at most, at the same time; None: one for each GPU, or one without a GPU
    idle_exit_s: float | None  # None: it depends on whether the worker may stand by
    switch_after_s: float
    warm_parent: bool
    standby_after_s: float | None = None  # None: no worker stands by
    standby_workers: int = 0


class Host:
    """Everything on the main thread, but for what asks Postgres. `changed` is set when `tick` has something to do."""

    def __init__(
        self,
        env: Mapping[str, str],
        settings: Settings,
        catalog: Catalog,
        options: HostOptions,
        record: ProcessRecord,
        log: LogStream,
        *,
        name: str = "up",
    ) -> None:
        """`name`: who says in the log what becomes of workers."""
        self.changed = threading.Event()
        self._env = env
        self._settings = settings
        self._record = record
        self._log = log
        self._name = name
        self._gpus = count_gpus(env)
        self._asked_idle_exit_s = options.idle_exit_s
        self._standby_rules = _standby_rules(options, catalog, lambda place: self._device_of(place).get("DEVICE", ""))
        self._may_be_warm = options.warm_parent and is_possible()
        self._warm_parent: WarmParent | None = None
        host = uuid4()
        models = list(catalog.models.values())
        self.watch = DemandWatch(settings.direct_url, models=models, host=host, changed=self.changed)
        self._leases = DemandLeases(
            settings.direct_url, host, self.changed, bounds_of=lambda model: self.watch.bounds.get(model, NO_BOUNDS)
        )
        self.limit = options.workers or max(1, self._gpus)
        self.workers = Workers(
            self.limit,
            catalog.models,
            self._launch,
            self.watch,
            record,
            log,
            switch_after_s=options.switch_after_s,
            leases=self._leases,
            standby=self._standby_rules,
            name=name,
        )

    def start(self) -> None:
        self.watch.start()
        self._leases.start()

    def start_warm_parent(self) -> None:
        """Its imports keep a core busy for some seconds: call it when all else is up."""
        if self._may_be_warm:
            self._warm_parent = WarmParent(self._env, self._settings.models, self._record, self._log, name=self._name)

    def tick(self) -> None:
        """Look after all of it; called many times a second. Main thread only."""
        self.changed.clear()
        if self._warm_parent is not None:
            self._warm_parent.tick()
        self.workers.tick()

    @property
    def is_idle(self) -> bool:
        """Whether no worker runs here and no prediction waits, as far as is known. Those that stand by don't count."""
        return not self.workers.running and not any(work.waiting for work in self.watch.demand.values())

    def stop(self) -> list[Child]:
        """Start nothing more; returns the processes that still run, which the caller ends."""
        self.watch.stop()
        self._leases.stop()
        children = [worker.child for worker in self.workers.all]
        if self._warm_parent is not None and self._warm_parent.child is not None:
            children.append(self._warm_parent.child)
        return children

    def _device_of(self, place: int) -> dict[str, str]:
        return device_of(place, gpus=self._gpus, asked=self._env.get("DEVICE", ""))

    def _launch(self, model: str, place: int) -> Process:
        idle_exit_s = self._asked_idle_exit_s
        if idle_exit_s is None:
            idle_exit_s = default_idle_exit_s(model, self._standby_rules)
        words = ("worker", "--model", model, "--host-decides", "--idle-exit", f"{idle_exit_s:g}")
        env = self._device_of(place)
        forked = self._warm_parent.fork(*words, env=env) if self._warm_parent is not None else None
        return forked or start_role(*words, env={**self._env, **env})


def default_idle_exit_s(model: str, rules: StandbyRules | None) -> float:
    """For a worker of this model."""
    return STANDBY_EXIT_S if rules is not None and rules.allow(model) else IDLE_EXIT_S


def _standby_rules(options: HostOptions, catalog: Catalog, device_of: Callable[[int], str]) -> StandbyRules | None:
    if options.standby_after_s is None:
        return None
    able = [name for name, model in catalog.models.items() if model.device.can_rest]
    return StandbyRules(options.standby_after_s, options.standby_workers, able, device_of)
