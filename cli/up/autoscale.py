"""How many workers there should be for each model: none when nothing waits, never more than N in all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from storage.workers.demand import Demand

NOTHING = Demand(waiting=0, processing=0)


@dataclass(frozen=True)
class Decision:
    """The models to start a worker for, and those to take one from, each once per worker."""

    start: list[str] = field(default_factory=list)
    stop: list[str] = field(default_factory=list)


def decide(
    demand: Mapping[str, Demand],
    running: Mapping[str, int],
    *,
    limit: int,
    leaving: int = 0,
    resting: Collection[str] = (),
    modest: Collection[str] = (),
    may_take_busy: bool = True,
) -> Decision:
    """What to do, given the workers that run and mean to stay (`running`) and those that are `leaving`.

    Nothing is started for a model that is `resting`, since its last worker died a moment ago. One that is `modest`
    takes a place that is free, and nobody's: it could not be loaded the last time.
    A worker of a model is wanted for each prediction that waits or is being drawn. When the places don't suffice,
    models without a worker come first, then those with the most work for each worker. When there is no place at
    all for a model without a worker, another model gives one up: an idle one if there is, else a busy one, which
    the caller allows only now and then (`may_take_busy`), since loading a model costs more than a drawing.
    """
    have = dict(running)
    free = limit - sum(have.values()) - leaving
    start: list[str] = []
    startable = {model: work for model, work in demand.items() if model not in resting}
    while free > 0 and (short := _most_in_need(startable, have)) is not None:
        start.append(short)
        have[short] = have.get(short, 0) + 1
        free -= 1

    stop: list[str] = []
    without = sum(
        1 for model, work in startable.items() if work.waiting > 0 and not have.get(model) and model not in modest
    )
    for _ in range(without - leaving):
        giver = _giver(demand, have, may_take_busy=may_take_busy and not stop)
        if giver is None:
            break
        stop.append(giver)
        have[giver] -= 1
    return Decision(start, stop)


def is_busy(demand: Mapping[str, Demand], model: str) -> bool:
    work = demand.get(model, NOTHING)
    return work.waiting + work.processing > 0


def _most_in_need(demand: Mapping[str, Demand], have: Mapping[str, int]) -> str | None:
    short = [
        model
        for model, work in demand.items()
        if work.waiting > 0 and have.get(model, 0) < work.waiting + work.processing
    ]
    return max(short, key=lambda model: _need(demand[model], have.get(model, 0)), default=None)


def _need(work: Demand, workers: int) -> tuple[bool, float]:
    return workers == 0, (work.waiting + work.processing) / (workers + 1)


def _giver(demand: Mapping[str, Demand], have: Mapping[str, int], *, may_take_busy: bool) -> str | None:
    """The model that can best spare a worker: idle, or with the least work for each of its workers."""
    candidates = [model for model, count in have.items() if count > 0 and (may_take_busy or not is_busy(demand, model))]

    def work_each(model: str) -> float:
        work = demand.get(model, NOTHING)
        return (work.waiting + work.processing) / have[model]

    return min(candidates, key=work_each, default=None)
