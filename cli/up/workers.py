"""The GPU workers of `darkroom up`: started when there is work, gone when there is none."""

from __future__ import annotations

import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from cli.up.autoscale import decide, is_busy
from cli.up.demand_watch import DemandWatch
from cli.up.frozen_workers import SILENT_S, Silence
from cli.up.log_stream import LogStream
from cli.up.stale_processes import ProcessRecord
from cli.up.supervise import BackOff, Child, describe_exit

EXIT_NOT_LOADED = 1  # of `darkroom worker`: the model can't be loaded, or the bucket not be written
# Taking a busy worker from a model costs a load of the other one, so it's done this seldom.
TAKE_EVERY_S = 30.0
# A worker that loads is not sent away for another model, unless it has been loading for longer than this.
LOADING_AT_MOST_S = 600.0
# A model that could not be loaded sends nobody away for so long; a place that is free is enough to try again.
MODEST_FOR_S = 120.0


@dataclass
class Worker:
    child: Child
    model: str
    silence: Silence
    started_at: float = field(default_factory=time.monotonic)
    leaving: bool = False


@dataclass
class _Model:
    back_off: BackOff = field(default_factory=lambda: BackOff(first_delay_s=0.0))  # its work waits
    start_again_at: float = 0.0
    modest_until: float = 0.0
    started_at: float = 0.0
    loading_until: float = 0.0  # when a worker of it was last seen loading


class Workers:
    """At most `limit` of them. `launch(model)` starts one process, which ends by itself when it is idle."""

    def __init__(
        self,
        limit: int,
        models: Collection[str],
        launch: Callable[[str], subprocess.Popen[bytes]],
        watch: DemandWatch,
        record: ProcessRecord,
        log: LogStream,
    ) -> None:
        self.running: dict[int, Worker] = {}  # by their place, 1 … limit
        self._limit = limit
        self._models = {model: _Model() for model in models}
        self._launch = launch
        self._watch = watch
        self._record = record
        self._log = log
        self._took_at = -TAKE_EVERY_S
        self._signs = watch.signs  # the last that were looked at

    def tick(self) -> None:
        """Take note of who is gone, start and stop who has to be; called many times a second."""
        now = time.monotonic()
        self.reap()
        self._kill_silent()
        self._note_loading(now)
        known = [(model, work) for model, work in self._watch.demand.items() if model in self._models]
        demand = dict(sorted(known, key=lambda each: self._models[each[0]].started_at))  # in turn
        staying = Counter(worker.model for worker in self.running.values() if not worker.leaving)
        decision = decide(
            demand,
            staying,
            limit=self._limit,
            leaving=len(self.running) - staying.total(),
            resting={name for name, model in self._models.items() if now < model.start_again_at},
            modest={name for name, model in self._models.items() if now < model.modest_until},
            may_take_busy=now - self._latest_change() >= TAKE_EVERY_S,
        )
        for model in decision.start:
            self._start(model)
        for model in decision.stop:
            if is_busy(demand, model):
                self._took_at = now
            self._take_one_from(model)

    def reap(self) -> None:
        """Take note of workers that ended; what a dead one held is free at once."""
        for place, worker in list(self.running.items()):
            if worker.child.process.poll():  # told before its last lines are waited for
                self._watch.worker_died(worker.child.process.pid)
            code = worker.child.exit_code()
            if code is None:
                continue
            del self.running[place]
            if code == 0 and not worker.leaving:
                self._models[worker.model].back_off.forget()
                self._models[worker.model].modest_until = 0.0
            if code == 0 or (worker.leaving and code == -signal.SIGTERM):  # it had not come to hearing signals
                continue
            model = self._models[worker.model]
            if code == EXIT_NOT_LOADED:
                model.modest_until = time.monotonic() + MODEST_FOR_S
            delay_s = model.back_off.after_failure(worker.child.lived_s)
            model.start_again_at = time.monotonic() + delay_s
            self._log.from_role(
                "up",
                f"{worker.child.role} ({worker.model}) {describe_exit(code)};"
                f" another is started {f'in {delay_s:.0f} s' if delay_s else 'at once'} if there is work",
            )

    def _kill_silent(self) -> None:
        """A frozen worker would count as one that can draw, for as long as it is frozen."""
        if self._watch.signs is self._signs:
            return
        self._signs = self._watch.signs
        for worker in self.running.values():
            if worker.silence.is_too_long(self._signs.get(worker.child.process.pid)):
                self._log.from_role(
                    "up",
                    f"{worker.child.role} ({worker.model}) gave no sign of life for {SILENT_S:.0f} s,"
                    " while Postgres was there to hear it: it is killed",
                )
                worker.child.kill()

    def _note_loading(self, now: float) -> None:
        for worker in self.running.values():
            sign = self._watch.signs.get(worker.child.process.pid)
            if sign is not None and sign.state == "loading" and now - worker.started_at < LOADING_AT_MOST_S:
                self._models[worker.model].loading_until = now

    def _latest_change(self) -> float:
        """When a busy worker was last taken, started, or seen loading: it needs time to draw before it may be taken."""
        models = self._models.values()
        return max([self._took_at, *(max(model.started_at, model.loading_until) for model in models)])

    def _start(self, model: str) -> None:
        self._models[model].started_at = time.monotonic()
        place = next(place for place in range(1, self._limit + 1) if place not in self.running)
        try:
            process = self._launch(model)
        except OSError as error:
            self._models[model].start_again_at = time.monotonic() + self._models[model].back_off.after_failure(0)
            self._log.from_role("up", f"a worker for {model} can't be started: {error}")
            return
        child = Child(f"worker-{place}", process, self._record, self._log)
        self.running[place] = Worker(child, model, Silence(self._watch.signs.get(process.pid)))

    def _take_one_from(self, model: str) -> None:
        for worker in self.running.values():
            if worker.model == model and not worker.leaving:
                self._log.from_role("up", f"{worker.child.role} ({model}) makes place for another model")
                worker.leaving = True
                worker.child.terminate()
                return
