"""A discrete-event simulation of requests on their way through API, Postgres, workers, S3 and courier.

Each process has a lock of its own, since Python runs one thread at a time; each machine has cores. A request uses them
one after the other, for as long as was measured. Commits that notify pass one after the other: Postgres holds a lock
from the notification until the commit is on the disk.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from statistics import median

Step = tuple[tuple["Resource", ...], float]  # what is held, in the order in which it is taken, and for how many seconds
Job = Generator[Step, None, None]


class Resource:
    """So many can hold it at the same time; who comes first is served first."""

    def __init__(self, places: int) -> None:
        self.free = places
        self.waiting: deque[Callable[[], None]] = deque()

    def take(self, then: Callable[[], None]) -> None:
        if self.free:
            self.free -= 1
            then()
        else:
            self.waiting.append(then)

    def give_back(self) -> None:
        if self.waiting:
            self.waiting.popleft()()
        else:
            self.free += 1


class Simulation:
    def __init__(self) -> None:
        self.now = 0.0
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, moment: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), action))

    def start(self, job: Job, over: Callable[[], None] = lambda: None) -> None:
        def go_on() -> None:
            try:
                resources, seconds = next(job)
            except StopIteration:
                over()
                return
            take(resources, 0, seconds)

        def take(resources: tuple[Resource, ...], index: int, seconds: float) -> None:
            if index < len(resources):
                resources[index].take(lambda: take(resources, index + 1, seconds))
                return
            self.at(self.now + seconds, lambda: release(resources))

        def release(resources: tuple[Resource, ...]) -> None:
            for resource in reversed(resources):
                resource.give_back()
            go_on()

        go_on()

    def run_until(self, moment: float) -> None:
        while self._events and self._events[0][0] <= moment:
            self.now, _, action = heapq.heappop(self._events)
            action()
        self.now = moment


@dataclass
class Deployment:
    """What runs where. `cores`: of the one machine that all share, or of Postgres alone where the rest has its own."""

    costs: Mapping[str, float]
    cores: int
    all_on_one_machine: bool
    api_processes: int = 1
    workers: int = 0
    couriers: int = 1
    pictures_at_once: int = 8  # of one worker
    draw_s: float = 0.08  # of a picture, with whatever shares its steps
    alone: bool = False  # no request is sent before the last one is answered, and takes less CPU time
    sim: Simulation = field(default_factory=Simulation)

    def __post_init__(self) -> None:
        self.postgres = Resource(self.cores)
        elsewhere = self.postgres if self.all_on_one_machine else Resource(1_000_000)
        self.core = elsewhere
        self.commit = Resource(1)
        self.load = Resource(1 if self.all_on_one_machine else 1_000_000)
        self.apis = [Resource(1) for _ in range(self.api_processes)]
        self.courier_locks = [Resource(1) for _ in range(self.couriers)]
        self.worker_locks = [Resource(1) for _ in range(self.workers)]
        self.places = Resource(self.workers * self.pictures_at_once)
        self._turn = count()

    def post(self) -> Job:
        name = "alone" if self.alone else "submit"
        turn = next(self._turn)
        api_s = self.costs[f"{name}.api_s"]
        yield (self.load, self.core), self.costs[f"{name}.load_s"]
        yield (self.apis[turn % len(self.apis)], self.core), api_s / 2
        yield (self.postgres,), self.costs[f"{name}.postgres_s"]
        yield (self.commit,), self.costs["commit_s"]
        yield (self.apis[turn % len(self.apis)], self.core), api_s / 2

    def draw(self, drawn: Callable[[], None]) -> Job:
        """From the claim to the delivered webhook. Its Postgres time is spread over the parts of the way."""
        costs, turn = self.costs, next(self._turn)
        worker = self.worker_locks[turn % len(self.worker_locks)]
        courier = self.courier_locks[turn % len(self.courier_locks)]
        postgres_s = costs["draw.postgres_s"] / 4
        commits = round(costs["draw.notifying_commits"])
        yield (self.postgres,), postgres_s
        yield (self.commit,), costs["commit_s"]
        yield (worker, self.core), costs["draw.worker_s"] / 2
        yield (self.postgres,), postgres_s
        yield (), self.draw_s
        yield (worker, self.core), costs["draw.worker_s"] / 2
        yield (self.core,), costs["draw.s3_s"]
        yield (self.postgres,), postgres_s
        yield (self.commit,), costs["commit_s"]
        drawn()
        yield (courier, self.core), costs["draw.courier_s"]
        yield (self.load, self.core), costs["draw.load_s"]
        yield (self.postgres,), postgres_s
        yield (self.commit,), (commits - 2) * costs["commit_s"]


def closed_loop(deployment: Deployment, connections: int, seconds: float) -> tuple[float, float]:
    """POSTs a second, and their median: each connection sends the next when it has the answer."""
    took: list[float] = []
    sim = deployment.sim

    def again(sent_at: float | None = None) -> None:
        if sent_at is not None:
            took.append(sim.now - sent_at)
        now = sim.now
        sim.start(deployment.post(), lambda: again(now))

    for _ in range(connections):
        again()
    sim.run_until(seconds)
    return len(took) / seconds, median(took)


def backlog(deployment: Deployment, predictions: int) -> float:
    """Pictures a second, if so many wait at the beginning."""
    return predictions / max(_drawn_at(deployment, [0.0] * predictions, posts=False)[0])


def steady(deployment: Deployment, rate_per_s: float, seconds: float) -> tuple[float, float]:
    """(pictures a second at the end of that time, median seconds from POST to picture) under so many POSTs a second."""
    chance = random.Random(1)
    times = list(_poisson(chance, rate_per_s, seconds))
    drawn, took = _drawn_at(deployment, times, posts=True, until=seconds)
    return len([at for at in drawn if at > seconds / 2]) / (seconds / 2), median(took) if took else float("inf")


def _poisson(chance: random.Random, rate_per_s: float, seconds: float) -> Iterator[float]:
    at = 0.0
    while (at := at + chance.expovariate(rate_per_s)) < seconds:
        yield at


def _drawn_at(
    deployment: Deployment, times: list[float], *, posts: bool, until: float = 1e9
) -> tuple[list[float], list[float]]:
    sim = deployment.sim
    drawn: list[float] = []
    took: list[float] = []

    def draw(sent_at: float) -> None:
        def note() -> None:
            drawn.append(sim.now)
            took.append(sim.now - sent_at)
            deployment.places.give_back()

        deployment.places.take(lambda: sim.start(deployment.draw(note)))

    def post(sent_at: float) -> None:
        sim.start(deployment.post(), partial(draw, sent_at))

    for sent_at in times:
        sim.at(sent_at, partial(post if posts else draw, sent_at))
    sim.run_until(until)
    return drawn, took
