"""What goes wrong, and when: all of it follows from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from storage.crash_points import CrashPoint
from tests.support.pooler import PGBOUNCER

FaultKind = Literal[
    "worker killed",
    "worker frozen",
    "worker told to stop",
    "worker dies at a crash point",
    "host killed",
    "host told to stop",
    "worker or warm parent of a host killed",
    "courier killed",
    "courier frozen",
    "courier told to stop",
    "courier dies at a crash point",
    "API killed",
    "API told to stop",
    "Postgres stopped at once",
    "Postgres failed over: primary killed",
    "Postgres failed over: primary cut off",
    "Postgres failed over: primary demoted",
    "Postgres read-only",
    "pooler killed",
    "S3 killed",
    "network to Postgres cut",
    "network to Postgres frozen",
    "LISTEN connections ended",
    "receivers unreachable",
]

# How often each kind comes, relative to the others; and for how long it lasts, in seconds.
WEIGHTS: dict[FaultKind, int] = {
    "worker killed": 20,
    "worker frozen": 8,
    "worker told to stop": 8,
    "worker dies at a crash point": 16,
    "host killed": 6,
    "host told to stop": 3,
    "worker or warm parent of a host killed": 8,
    "courier killed": 6,
    "courier frozen": 4,
    "courier told to stop": 3,
    "courier dies at a crash point": 8,
    "API killed": 4,
    "API told to stop": 2,
    "Postgres stopped at once": 4,
    "Postgres failed over: primary killed": 3,
    "Postgres failed over: primary cut off": 3,
    "Postgres failed over: primary demoted": 3,
    "Postgres read-only": 3,
    "pooler killed": 4,
    "S3 killed": 4,
    "network to Postgres cut": 6,
    "network to Postgres frozen": 5,
    "LISTEN connections ended": 4,
    "receivers unreachable": 2,
}
LASTS_S: dict[FaultKind, tuple[float, float]] = {
    "worker frozen": (1.0, 10.0),  # a lease lasts 6 s: some wake up in time, some too late
    "courier frozen": (1.0, 6.0),
    "Postgres stopped at once": (0.2, 4.0),
    "Postgres failed over: primary killed": (0.2, 5.0),  # until the standby is promoted
    "Postgres failed over: primary cut off": (0.2, 5.0),
    "Postgres failed over: primary demoted": (0.2, 5.0),
    "Postgres read-only": (1.0, 30.0),
    "pooler killed": (0.2, 5.0),
    "S3 killed": (0.5, 5.0),
    "network to Postgres cut": (0.5, 8.0),
    "network to Postgres frozen": (1.0, 9.0),
    "receivers unreachable": (1.0, 3.0),
}
_POOLER: tuple[FaultKind, ...] = ("pooler killed",) if PGBOUNCER is not None else ()
if not _POOLER:
    del WEIGHTS["pooler killed"]
WORKER_CRASH_POINTS: tuple[CrashPoint, ...] = ("after-claim", "mid-step", "after-upload", "after-commit")
COURIER_CRASH_POINTS: tuple[CrashPoint, ...] = ("before-post", "during-post")


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, `at_s` seconds after the load began."""

    at_s: float
    kind: FaultKind
    target: int  # which of its kind, modulo how many there are
    lasts_s: float = 0.0
    crash_point: CrashPoint | None = None
    nth: int = 1  # the time at which the crash point strikes


@dataclass(frozen=True)
class Profile:
    """The size of one run."""

    predictions: int
    faults: int
    load_s: float
    steps: tuple[int, int] = (4, 12)  # of a drawing, at 0.1 s each
    weights: tuple[tuple[FaultKind, int], ...] = tuple(WEIGHTS.items())
    at_least: tuple[FaultKind, ...] = ()  # kinds that come whatever the seed says
    lasts_at_most_s: float = 30.0
    hostile: bool = True  # receivers that misbehave, clients that cancel, a poison prediction


LONG = Profile(predictions=420, faults=125, load_s=230)
SHORT = Profile(
    predictions=40,
    faults=20,
    load_s=24,
    at_least=("Postgres failed over: primary killed", "Postgres read-only", *_POOLER),
    lasts_at_most_s=5.0,
)


def make_schedule(seed: int, profile: Profile) -> list[Fault]:
    """The faults of a run, in order: the same seed, the same faults. Every crash point is among them, if it fits."""
    chance = random.Random(seed)
    kinds, weights = zip(*profile.weights, strict=True)
    chosen: list[FaultKind] = chance.choices(kinds, weights, k=profile.faults - len(profile.at_least))
    for kind in profile.at_least:
        chosen.insert(chance.randrange(len(chosen)), kind)
    worker_points = _in_turn(chance, WORKER_CRASH_POINTS)
    courier_points = _in_turn(chance, COURIER_CRASH_POINTS)
    faults = []
    for number, kind in enumerate(chosen):
        place = chance.random()
        point = None
        if kind == "worker dies at a crash point":
            point = next(worker_points)
        elif kind == "courier dies at a crash point":
            point = next(courier_points)
        lowest, highest = LASTS_S.get(kind, (0.0, 0.0))
        faults.append(
            Fault(
                at_s=profile.load_s * (number + place) / profile.faults,
                kind=kind,
                target=chance.randrange(1000),
                lasts_s=min(chance.uniform(lowest, highest), profile.lasts_at_most_s),
                crash_point=point,
                nth=chance.randint(1, 20 if point == "mid-step" else 3),
            )
        )
    return faults


def _in_turn(chance: random.Random, points: tuple[CrashPoint, ...]) -> Iterator[CrashPoint]:
    while True:
        yield from chance.sample(points, len(points))
