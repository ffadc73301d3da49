"""Which workers to start and stop: none while nothing waits, at most `limit` at once, and every model gets its turn.

How long a model can be kept waiting: a worker that draws may keep its place for `switch_after_s` after it is ready
(its turn). Then it has to leave if another model has no worker. It finishes what it is drawing, and its place goes to
the model that has waited longest for a place. With M models that have work and N places, a model's worker is therefore
started after at most

    ceil((M - 1) / N) * (load + switch_after_s + drawing)

where `load` and `drawing` are the longest times that any of these models takes to load, and to finish what a worker
holds. `tests/unit/test_autoscale_bound.py` checks this for random arrivals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from storage.workers.demand import Demand
from storage.workers.warm import NO_BOUNDS, WorkerBounds

NOTHING = Demand(waiting=0, processing=0)


@dataclass(frozen=True)
class Running:
    """A worker process. `turn_s`: for how many seconds it has been ready; None while it loads its model."""

    place: int
    model: str
    turn_s: float | None = None
    is_leaving: bool = False
    makes_place_for: str | None = None  # the model that gets its place


@dataclass(frozen=True)
class Stop:
    """End the worker in `place`; the place then belongs to `makes_place_for`."""

    place: int
    makes_place_for: str


@dataclass(frozen=True)
class Decision:
    """The models to start a worker for, once per worker, and the workers to stop."""

    start: list[str] = field(default_factory=list)
    stop: list[Stop] = field(default_factory=list)


def decide(
    demand: Mapping[str, Demand],
    running: Sequence[Running],
    *,
    limit: int,
    switch_after_s: float,
    waited_s: Mapping[str, float] | None = None,
    reserved: Collection[str] = (),
    resting: Collection[str] = (),
    modest: Collection[str] = (),
    elsewhere: Mapping[str, int] | None = None,
    bounds: Mapping[str, WorkerBounds] | None = None,
) -> Decision:
    """What to do now.

    A model wants one worker for each prediction that waits or is being drawn. Free places go first to models that have
    work and no worker: to those in `reserved`, since a place was freed for them, then to the one that has waited
    longest for a place (`waited_s`, by model). The next ones go to models that have fewer workers than `bounds` asks
    for. What is left goes to the models with the most work for each worker. No model gets more than `bounds` allows.
    If a model with work and without a worker finds no free place, another worker is stopped for it: one whose model has
    nothing to do, else one whose turn is over. No worker is stopped for what `bounds` asks for.

    Nothing is started for a model in `resting`, because its last worker died a moment ago. A model in `modest` could
    not be loaded the last time: it may use a free place, but no worker is stopped for it. `elsewhere`: how many workers
    a model has on other hosts; they draw its predictions as well.
    """
    have = Counter(elsewhere or {})
    have.update(worker.model for worker in running if not worker.is_leaving)
    free = limit - len(running)
    bounds = bounds or {}
    full = {model for model, bound in bounds.items() if bound.at_most == 0}
    line = _line(demand, have, waited_s or {}, reserved, {*resting, *full})
    start = line[: max(0, free)]
    have.update(start)
    startable = {model: work for model, work in demand.items() if model not in resting}
    to_keep_ready = {model: bound for model, bound in bounds.items() if model not in resting}
    while len(start) < free:
        next_one = _below_its_bounds(to_keep_ready, have) or _most_in_need(startable, have, bounds)
        if next_one is None:
            break
        start.append(next_one)
        have[next_one] += 1
    without_place = [model for model in line if model not in start and model not in modest]
    return Decision(start, _stops(without_place, demand, running, have, switch_after_s, bounds))


def _line(
    demand: Mapping[str, Demand],
    have: Mapping[str, int],
    waited_s: Mapping[str, float],
    reserved: Collection[str],
    resting: Collection[str],
) -> list[str]:
    """The models that wait for a first worker, in the order in which they get one."""
    waiting = [
        model for model, work in demand.items() if work.waiting > 0 and not have.get(model) and model not in resting
    ]
    return sorted(waiting, key=lambda model: (model not in reserved, -waited_s.get(model, 0.0)))


def _below_its_bounds(bounds: Mapping[str, WorkerBounds], have: Mapping[str, int]) -> str | None:
    short = [model for model, bound in bounds.items() if have[model] < bound.at_least]
    return min(short, key=lambda model: have[model] / bounds[model].at_least, default=None)


def _most_in_need(
    demand: Mapping[str, Demand], have: Mapping[str, int], bounds: Mapping[str, WorkerBounds]
) -> str | None:
    short = [
        model
        for model, work in demand.items()
        if work.waiting > 0 and have[model] < min(_work(demand, model), bounds.get(model, NO_BOUNDS).at_most)
    ]
    return max(short, key=lambda model: _work(demand, model) / (have[model] + 1), default=None)


def _stops(
    line: Sequence[str],
    demand: Mapping[str, Demand],
    running: Sequence[Running],
    have: Counter[str],
    switch_after_s: float,
    bounds: Mapping[str, WorkerBounds],
) -> list[Stop]:
    """One worker for each model in `line`, as far as there are any that may be stopped."""
    leaving = [worker for worker in running if worker.is_leaving]
    served = {worker.makes_place_for for worker in leaving}
    others = sum(worker.makes_place_for not in line for worker in leaving)  # their places are free for anyone
    stops: list[Stop] = []
    for model in [model for model in line if model not in served][others:]:
        candidates = [
            worker
            for worker in running
            if not worker.is_leaving
            and worker.place not in {stop.place for stop in stops}
            and (_work(demand, worker.model) == 0 or (worker.turn_s is not None and worker.turn_s >= switch_after_s))
        ]
        if not candidates:
            break
        chosen = min(candidates, key=partial(_stay_value, demand=demand, have=have, bounds=bounds))
        have[chosen.model] -= 1
        stops.append(Stop(chosen.place, model))
    return stops


def _stay_value(
    worker: Running, *, demand: Mapping[str, Demand], have: Mapping[str, int], bounds: Mapping[str, WorkerBounds]
) -> tuple[float, bool, float]:
    """The worker with the smallest value is stopped: it has the least work, and if it can be, is not asked to stay."""
    is_asked_to_stay = have[worker.model] <= bounds.get(worker.model, NO_BOUNDS).at_least
    return _work(demand, worker.model) / have[worker.model], is_asked_to_stay, -(worker.turn_s or 0.0)


def _work(demand: Mapping[str, Demand], model: str) -> int:
    work = demand.get(model, NOTHING)
    return work.waiting + work.processing
