"""What is in a picture: one or two objects on a plain background."""

import random
import zlib
from dataclasses import dataclass

from .vocabulary import COLOURS, PAIR_SIZES, POSITIONS, RELATIONS, SHAPES, SIZES

PAIR_SHARE = 0.4
MARGIN = 0.045
JITTER = 0.015


@dataclass(frozen=True)
class Thing:
    shape: str
    colour: str
    size: str


@dataclass(frozen=True)
class Scene:
    """`place` is a position for one object and a relation for two."""

    background: str
    things: tuple[Thing, ...]
    place: str

    def usual_parts(self) -> frozenset[str]:
        """The parts that go without saying: a medium black circle in the middle of white; of two, the first is left.

        People leave out what is usual, and a prompt that leaves something out means it. (On black, things are
        usually white; a white thing is usually on black, a white and a black one on gray.)
        """
        colours = {thing.colour for thing in self.things}
        parts = set()
        if self.background == next(colour for colour in ("white", "black", "gray") if colour not in colours):
            parts.add("background")
        if self.place == ("centre" if len(self.things) == 1 else "left of"):
            parts.add("place")
        if all(thing.size == "medium" for thing in self.things):
            parts.add("size")
        if colours == {"white" if self.background == "black" else "black"}:
            parts.add("colour")
        if all(thing.shape == "circle" for thing in self.things):
            parts.add("shape")
        return frozenset(parts)

    def held_out(self) -> bool:
        """Whether this combination of attributes is kept for the evaluation (about one in twelve)."""
        if len(self.things) == 1:
            thing = self.things[0]
            key = f"{thing.shape} {thing.colour} {self.background}"
        else:
            key = " ".join(f"{thing.shape} {thing.colour}" for thing in self.things)
        return zlib.crc32(key.encode()) % 12 == 0


@dataclass(frozen=True)
class Placement:
    """Centre and radius in fractions: x of the width, y of the height, radius of the shorter side."""

    x: float
    y: float
    radius: float


def sample_scene(rng: random.Random, *, held_out: bool, pair: bool | None = None) -> Scene:
    """A scene drawn evenly from all those that are (or are not) held out."""
    while True:
        scene = _any_scene(rng, rng.random() < PAIR_SHARE if pair is None else pair)
        if scene.held_out() == held_out:
            return scene


def place_things(scene: Scene, width: int, height: int, rng: random.Random) -> list[Placement]:
    """Where each object goes in a picture of this many pixels, with a little jitter."""
    if len(scene.things) == 1:
        directions = [POSITIONS[scene.place]]
        radii = [SIZES[scene.things[0].size]]
        spread = 0.25
    else:
        dx, dy = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}[scene.place]
        directions = [(dx, dy), (-dx, -dy)]
        radii = [PAIR_SIZES[thing.size] for thing in scene.things]
        spread = 0.25
    shorter = min(width, height)
    placements = []
    for (dx, dy), nominal in zip(directions, radii, strict=True):
        radius = nominal * rng.uniform(0.95, 1.05)
        x = _along(dx, spread, radius * shorter / width) + rng.uniform(-JITTER, JITTER)
        y = _along(dy, spread, radius * shorter / height) + rng.uniform(-JITTER, JITTER)
        placements.append(Placement(x, y, radius))
    return placements


def _along(direction: int, spread: float, radius: float) -> float:
    """The centre along one side: as far out as `spread` says, less where the object would leave the picture."""
    return 0.5 + direction * min(spread, 0.5 - MARGIN - radius)


def _any_scene(rng: random.Random, pair: bool) -> Scene:
    background = rng.choice(list(COLOURS))
    others = [colour for colour in COLOURS if colour != background]
    count = 2 if pair else 1
    things = tuple(Thing(rng.choice(SHAPES), rng.choice(others), rng.choice(list(SIZES))) for _ in range(count))
    return Scene(background, things, rng.choice(RELATIONS if pair else list(POSITIONS)))
