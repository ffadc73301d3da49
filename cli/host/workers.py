"""The GPU workers of `darkroom up`: started when there is work, gone when there is none."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from uuid import UUID

from cli.host.demand.autoscale import NOTHING, Running, Stop, decide
from cli.host.demand.leases import DemandLeases
from cli.host.demand.waiting_models import WaitingModels
from cli.host.demand.watch import DemandWatch
from cli.host.frozen_workers import SILENT_S, Silence
from cli.host.standby import StandbyRules, StandingBy
from cli.host.worker import Worker
from cli.supervision.forked_process import Process
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from cli.supervision.supervise import Child, RestartDelay, describe_exit
from storage.workers.warm import NO_BOUNDS

EXIT_NOT_LOADED = 1  # of `darkroom worker`: the model can't be loaded, or the bucket not be written
# Loading a model costs more than a drawing, so a worker keeps its place for this long after it has loaded.
SWITCH_AFTER_S = 30.0
# After a model could not be loaded, no worker is stopped for it for this long; it may try again in a free place.
MODEST_FOR_S = 120.0


@dataclass
class _Model:
    restart_delay: RestartDelay = field(default_factory=lambda: RestartDelay(first_delay_s=0.0))  # its work waits
    start_again_at: float = 0.0
    modest_until: float = 0.0


class Workers:
    """At most `limit` of them. `launch(model)` starts one process, which ends by itself when it is idle."""

    def __init__(
        self,
        limit: int,
        models: Collection[str],
        launch: Callable[[str, int], Process],
        watch: DemandWatch,
        record: ProcessRecord,
        log: LogStream,
        *,
        switch_after_s: float = SWITCH_AFTER_S,
        leases: DemandLeases | None = None,
        standby: StandbyRules | None = None,
        name: str = "up",
    ) -> None:
        """Without `leases`, no other host may serve the same database. Without `standby`, no worker stands by."""
        self.running: dict[int, Worker] = {}  # by their place, 1 … limit
        self._limit = limit
        self._models = {model: _Model() for model in models}
        self._launch = launch
        self._watch = watch
        self._record = record
        self._log = log
        self._switch_after_s = switch_after_s
        self._leases = leases
        self._standing_by = StandingBy(standby)
        self._name = name
        self._leases_of_places: dict[str, list[UUID]] = {}  # model → for the places that are freed for it
        self._waiting = WaitingModels()
        self._signs = watch.signs  # the last that were looked at

    def tick(self) -> None:
        """Take note of who is gone, start and stop who has to be; called many times a second."""
        now = time.monotonic()
        self.reap()
        self._kill_silent()
        self._note_ready(now)
        self._note_standby(now)
        demand = {model: work for model, work in self._watch.demand.items() if model in self._models}
        decision = decide(
            demand,
            [
                Running(place, worker.model, worker.turn_s(now), worker.leaving, worker.makes_place_for)
                for place, worker in self.running.items()
            ],
            limit=self._limit,
            switch_after_s=self._switch_after_s,
            waited_s=self._waiting.waited_s(demand, now),
            reserved=self._waiting.reserved,
            resting={name for name, model in self._models.items() if now < model.start_again_at},
            modest={name for name, model in self._models.items() if now < model.modest_until},
            elsewhere=self._watch.elsewhere,
            bounds={model: self._watch.bounds.get(model, NO_BOUNDS) for model in self._models},
        )
        for model in decision.start:
            self._start(model)
        if len(self.running) < self._limit and not decision.start:
            self._waiting.a_place_is_left()
            self._give_back_unused()
        for stop in decision.stop:
            self._stop(stop)
        self._stand_by_if_idle(now)
        self._watch.own_pids = [worker.pid for worker in self.all]

    @property
    def all(self) -> list[Worker]:
        """Those that run and those that stand by."""
        return [*self.running.values(), *self._standing_by.workers]

    def reap(self) -> None:
        """Take note of workers that ended; what a dead one held is free at once."""
        for worker in self.all:
            if worker.child.process.poll():  # told before its last lines are waited for
                self._watch.worker_died(worker.pid)
            code = worker.child.exit_code()
            if code is None:
                continue
            if worker in self._standing_by.workers:
                self._standing_by.workers.remove(worker)
            else:
                del self.running[worker.place]
                self._give_back(worker)
                self._waiting.worker_ended(worker.model, worker.makes_place_for, time.monotonic())
            self._note_exit(worker, code)

    def _note_exit(self, worker: Worker, code: int) -> None:
        if code == 0 and not worker.leaving:
            self._models[worker.model].restart_delay.reset()
            self._models[worker.model].modest_until = 0.0
        if code == 0 or (worker.leaving and code == -signal.SIGTERM):  # it had not come to hearing signals
            return
        model = self._models[worker.model]
        if code == EXIT_NOT_LOADED:
            model.modest_until = time.monotonic() + MODEST_FOR_S
        delay_s = model.restart_delay.after_failure(worker.child.lived_s)
        model.start_again_at = time.monotonic() + delay_s
        self._log.from_role(
            self._name,
            f"{worker.child.role} ({worker.model}) {describe_exit(code)};"
            f" another is started {f'in {delay_s:.0f} s' if delay_s else 'at once'} if there is work",
        )

    def _kill_silent(self) -> None:
        """A frozen worker would count as one that can draw, for as long as it is frozen."""
        if self._watch.signs is self._signs:
            return
        self._signs = self._watch.signs
        for worker in self.all:
            if worker.silence.is_too_long(self._signs.get(worker.pid)):
                self._log.from_role(
                    self._name,
                    f"{worker.child.role} ({worker.model}) gave no sign of life for {SILENT_S:.0f} s,"
                    " while Postgres was there to hear it: it is killed",
                )
                worker.child.kill()

    def _note_ready(self, now: float) -> None:
        for worker in self.running.values():
            if worker.pid in self._watch.signed_in:
                self._give_back(worker)
            if worker.ready_at is None and worker.pid in self._watch.ready:
                worker.ready_at = now
            if worker.pid not in self._watch.idle:
                worker.idle_since = None
            elif worker.idle_since is None:
                worker.idle_since = now

    def _note_standby(self, now: float) -> None:
        standing_by = self._watch.standing_by
        for place, worker in list(self.running.items()):
            if worker.stands_by and worker.pid in standing_by:
                del self.running[place]
                self._give_back(worker)
                self._waiting.worker_ended(worker.model, worker.makes_place_for, now)
                self._standing_by.add(worker)
        self._standing_by.repeat_orders(self.running.values(), standing_by)

    def _stand_by_if_idle(self, now: float) -> None:
        """One that is to stay ready does not, nor one whose model has work waiting: it is about to claim that."""
        have = Counter(worker.model for worker in self.running.values() if not worker.leaving)
        for worker in self.running.values():
            at_least = self._watch.bounds.get(worker.model, NO_BOUNDS).at_least
            if self._watch.demand.get(worker.model, NOTHING).waiting:
                continue
            if have[worker.model] > at_least and self._standing_by.is_due(worker, now):
                self._standing_by.order(worker)
                have[worker.model] -= 1

    def _start(self, model: str) -> None:
        lease = self._lease(model)
        if lease is None and self._leases is not None:
            return
        self._waiting.worker_started(model)
        places = [place for place in range(1, self._limit + 1) if place not in self.running]
        if (woken := self._standing_by.wake(model, places)) is not None:
            worker, place = woken
            worker.lease, self.running[place] = lease, worker
            return
        place = places[0]
        try:
            process = self._launch(model, place)
        except OSError as error:
            if lease is not None and self._leases is not None:
                self._leases.give_back(lease)
            self._models[model].start_again_at = time.monotonic() + self._models[model].restart_delay.after_failure(0)
            self._log.from_role(self._name, f"a worker for {model} can't be started: {error}")
            return
        child = Child(f"worker-{place}", process, self._record, self._log)
        self.running[place] = Worker(child, model, place, Silence(self._watch.signs.get(process.pid)), lease=lease)

    def _lease(self, model: str) -> UUID | None:
        """One that was taken when a place was freed for the model, else a new one; None: not granted (yet)."""
        if self._leases is None:
            return None
        if self._leases_of_places.get(model):
            return self._leases_of_places[model].pop()
        return self._leases.take(model)

    def _give_back(self, worker: Worker) -> None:
        if self._leases is not None and worker.lease is not None:
            self._leases.give_back(worker.lease)
            worker.lease = None

    def _give_back_unused(self) -> None:
        """A place is free and nothing wants it: the predictions that it was freed for are gone."""
        for leases in self._leases_of_places.values():
            while leases and self._leases is not None:
                self._leases.give_back(leases.pop())

    def _stop(self, stop: Stop) -> None:
        if self._leases is not None:  # so that not every host frees a place for the same prediction
            lease = self._leases.take(stop.makes_place_for)
            if lease is None:
                return
            self._leases_of_places.setdefault(stop.makes_place_for, []).append(lease)
        worker = self.running[stop.place]
        self._log.from_role(self._name, f"{worker.child.role} ({worker.model}) makes place for {stop.makes_place_for}")
        if self._standing_by.can_take(worker):
            self._standing_by.order(worker, makes_place_for=stop.makes_place_for)
            return
        worker.leaving, worker.makes_place_for = True, stop.makes_place_for
        worker.child.terminate()
