"""No model waits longer for its worker than `cli.host.demand.autoscale` promises: a simulation of random arrivals."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from cli.host.demand.autoscale import Running, decide
from cli.host.demand.waiting_models import WaitingModels
from storage.workers.demand import Demand

TICK_S = 1.0  # all times of a simulation are whole numbers of it


@dataclass(frozen=True)
class World:
    """What is played through. `arrivals`: (second, model); a worker draws one prediction after the other."""

    places: int
    switch_after_s: int
    idle_exit_s: int
    load_s: list[int]  # by model
    drawing_s: list[int]
    arrivals: list[tuple[int, int]]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    models = draw(st.integers(2, 6))
    seconds = st.integers(1, 12)
    return World(
        places=draw(st.integers(1, 3)),
        switch_after_s=draw(st.integers(0, 20)),
        idle_exit_s=draw(st.integers(0, 5)),
        load_s=draw(st.lists(seconds, min_size=models, max_size=models)),
        drawing_s=draw(st.lists(seconds, min_size=models, max_size=models)),
        arrivals=sorted(
            draw(st.lists(st.tuples(st.integers(0, 120), st.integers(0, models - 1)), min_size=1, max_size=120))
        ),
    )


@dataclass
class Worker:
    model: int
    loads_until: float
    draws_until: float | None = None
    idle_since: float | None = None
    is_leaving: bool = False
    makes_place_for: str | None = None


class Simulation:
    """The places of one machine. `longest_wait_s`: how long any model has waited for its worker to be started."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = 0.0
        self.waiting: list[list[float]] = [[] for _ in world.load_s]  # when each was submitted
        self.workers: dict[int, Worker] = {}
        self.line = WaitingModels()
        self.longest_wait_s = 0.0
        self.drawn = 0

    def run(self) -> None:
        arrivals = list(self.world.arrivals)
        while arrivals or any(self.waiting) or any(worker.draws_until for worker in self.workers.values()):
            assert self.now < 100_000, "it never ends"
            while arrivals and arrivals[0][0] <= self.now:
                self.waiting[arrivals.pop(0)[1]].append(self.now)
            for place in list(self.workers):
                self._work(place, self.workers[place])
            self._decide()
            self.now += TICK_S

    def _work(self, place: int, worker: Worker) -> None:
        if worker.draws_until is not None and worker.draws_until <= self.now:
            worker.draws_until, worker.idle_since = None, self.now
            self.drawn += 1
        if worker.draws_until is not None:
            return
        is_ready = worker.loads_until <= self.now
        if is_ready and not worker.is_leaving and self.waiting[worker.model]:
            self.waiting[worker.model].pop(0)
            worker.draws_until = self.now + self.world.drawing_s[worker.model]
            return
        idle_s = self.now - (worker.idle_since or worker.loads_until)
        if worker.is_leaving or (is_ready and idle_s >= self.world.idle_exit_s):
            del self.workers[place]
            self.line.worker_ended(str(worker.model), worker.makes_place_for, self.now)

    def _decide(self) -> None:
        demand = {
            str(model): Demand(
                len(waiting),
                sum(worker.model == model and worker.draws_until is not None for worker in self.workers.values()),
                self.now - waiting[0] if waiting else 0.0,
            )
            for model, waiting in enumerate(self.waiting)
        }
        waited_s = self.line.waited_s(demand, self.now)
        decision = decide(
            demand,
            [
                Running(
                    place,
                    str(worker.model),
                    self.now - worker.loads_until if worker.loads_until <= self.now else None,
                    worker.is_leaving,
                    worker.makes_place_for,
                )
                for place, worker in self.workers.items()
            ],
            limit=self.world.places,
            switch_after_s=self.world.switch_after_s,
            waited_s=waited_s,
            reserved=self.line.reserved,
        )
        staying = {worker.model for worker in self.workers.values() if not worker.is_leaving}
        for model in decision.start:
            if int(model) not in staying:
                self.longest_wait_s = max(self.longest_wait_s, waited_s[model])
                staying.add(int(model))
            free = next(place for place in range(self.world.places) if place not in self.workers)
            self.workers[free] = Worker(int(model), self.now + self.world.load_s[int(model)])
            self.line.worker_started(model)
        if len(self.workers) < self.world.places:
            self.line.a_place_is_left()
        for stop in decision.stop:
            worker = self.workers[stop.place]
            worker.is_leaving, worker.makes_place_for = True, stop.makes_place_for


@settings(max_examples=150, deadline=None)
@given(world=worlds())
def test_every_model_gets_its_worker_within_the_written_bound_and_everything_is_drawn(world: World) -> None:
    simulation = Simulation(world)
    simulation.run()
    assert simulation.drawn == len(world.arrivals)
    turn_s = max(world.load_s) + world.switch_after_s + max(world.drawing_s)
    rounds = math.ceil((len(world.load_s) - 1) / world.places)
    steps = 3 * TICK_S  # one each until the clock reaches the end of a turn, of a drawing, and the next start
    assert simulation.longest_wait_s <= rounds * (turn_s + steps)


def test_the_case_that_was_found_three_long_ones_of_a_one_of_b_then_sixty_more_of_a() -> None:
    arrivals = [(0, 0)] * 3 + [(1, 1)] + [(2, 0)] * 60
    simulation = Simulation(World(1, 30, 60, load_s=[5, 5], drawing_s=[10, 2], arrivals=arrivals))
    simulation.run()
    assert simulation.longest_wait_s <= 5 + 30 + 10 + 3
