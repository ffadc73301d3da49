"""Says what is in a picture without any learned part: nearest colours, bounding boxes, outlines.

It is strict: a shape counts only if it covers that of a perfect drawing to `SHAPE_OVERLAP`. A shape drawn as an outline
counts only if it covers a perfect outline to `OUTLINE_OVERLAP`, and what it surrounds has the background's colour.
"""

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .drawings import draw_outline, draw_shape, extent, outlines
from .scenes import Scene
from .vocabulary import COLOURS, PAIR_SIZES, RELATIONS, SHAPES, SIZES

SHAPE_OVERLAP = 0.75
OUTLINE_OVERLAP = 0.5
"""A line of 4 pixels that is off by one covers 0.6. A filled shape may cover 0.7, but surrounds only its own colour."""

POSITION_THRESHOLD = 0.07
"""Objects meant to be off the middle are at least 0.15 of a side away from it."""

COLOUR_DISTANCE = 45.0
"""A colour further than this from all that the model knows has no name. The closest two are 77 apart."""

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Seen:
    """One object as found; `x` and `y` are its middle in fractions, empty words mean "can't tell"."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    overlap: float


@dataclass(frozen=True)
class Attributes:
    """What was asked for, or what was found; for two objects "red + blue". Empty: it can't be told."""

    background: str
    colour: str
    shape: str
    place: str
    size: str


PARTS = tuple(field.name for field in fields(Attributes))


def asked(scene: Scene) -> Attributes:
    things = scene.things
    return Attributes(
        scene.background,
        " + ".join(thing.colour for thing in things),
        " + ".join(thing.shape for thing in things),
        scene.place,
        " + ".join(thing.size for thing in things),
    )


def look(pixels: Pixels, place: str, *, outlined: bool = False) -> Attributes:
    """What the picture shows. A position in `place` says to look for one object, a relation for two.

    Shapes are compared with filled ones, or with `outlined` ones.
    """
    background = background_of(pixels)
    if place not in RELATIONS:
        seen = find_thing(pixels, SIZES, outlined=outlined)
        if seen is None:
            return Attributes(background, "", "", "", "")
        return Attributes(background, seen.colour, seen.shape, position_of(seen), seen.size)
    first, second = find_pair(pixels, sideways=place in ("left of", "right of"), outlined=outlined)
    if place in ("right of", "below"):
        first, second = second, first
    if first is None or second is None:
        return Attributes(background, "", "", "", "")
    return Attributes(
        background,
        f"{first.colour} + {second.colour}",
        f"{first.shape} + {second.shape}",
        place if all(_is_apart(seen, place) and seen.shape for seen in (first, second)) else "",
        f"{first.size} + {second.size}",
    )


def right_parts(found: Attributes, wanted: Attributes) -> set[str]:
    return {part for part in PARTS if getattr(found, part) == getattr(wanted, part)}


def background_of(pixels: Pixels) -> str:
    """The colour of most of the frame, three pixels wide."""
    frame = np.concatenate([side.reshape(-1, 3) for side in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:])])
    return colour_name(np.median(frame, axis=0))


def find_thing(
    pixels: Pixels, sizes: dict[str, float], shorter: int | None = None, *, outlined: bool = False
) -> Seen | None:
    """The one object in this picture, or part of a picture whose shorter side was `shorter`."""
    values = pixels.astype(np.float64)
    frame = np.concatenate([values[:2].reshape(-1, 3), values[-2:].reshape(-1, 3)])
    background = np.median(frame, axis=0)
    distance = np.linalg.norm(values - background, axis=2)
    if np.count_nonzero(distance > 40) < 12:
        return None
    strong = distance > 0.75 * np.percentile(distance[distance > 40], 90)
    colour = np.median(values[strong], axis=0)
    axis = colour - background
    mask: Mask = ((values - background) @ axis) / (axis @ axis) > 0.5
    rows, columns = np.flatnonzero(mask.sum(axis=1) > 0), np.flatnonzero(mask.sum(axis=0) > 0)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    height, width = mask.shape
    shorter = shorter or min(width, height)
    box = slice(top, bottom), slice(left, right)
    shape, overlap = shape_of(mask[box], shorter if outlined else None)
    if outlined and not (shape and _surrounds(values[box], shape, shorter, background)):
        shape = ""
    size = size_of(shape, right - left, bottom - top, shorter, sizes)
    return Seen(shape, colour_name(colour), size, (left + right) / 2 / width, (top + bottom) / 2 / height, overlap)


def find_pair(pixels: Pixels, sideways: bool, *, outlined: bool = False) -> tuple[Seen | None, Seen | None]:
    """Left and right, or upper and lower object, each in its half of the picture."""
    height, width = pixels.shape[:2]
    shorter = min(width, height)
    if sideways:
        halves = pixels[:, : width // 2], pixels[:, width // 2 :]
    else:
        halves = pixels[: height // 2], pixels[height // 2 :]
    first, second = (find_thing(half, PAIR_SIZES, shorter, outlined=outlined) for half in halves)
    return first, second


def shape_of(mask: Mask, outlined_in: int | None = None) -> tuple[str, float]:
    """The shape that, stretched to the same box, covers the mask best, and how well (0 to 1).

    It is filled, or the outline of a shape in a picture whose shorter side has `outlined_in` pixels.
    """
    height, width = mask.shape
    best, overlap = "", 0.0
    for shape in SHAPES:
        perfect = _perfect(shape, width, height, outlined_in)
        score = float(np.count_nonzero(mask & perfect) / np.count_nonzero(mask | perfect))
        if score > overlap:
            best, overlap = shape, score
    return (best if overlap >= (SHAPE_OVERLAP if outlined_in is None else OUTLINE_OVERLAP) else ""), overlap


def size_of(shape: str, width: int, height: int, shorter: int, sizes: dict[str, float]) -> str:
    if not shape:
        return ""
    full_width, full_height = extent(shape)
    radius = (width * height / (full_width * full_height)) ** 0.5 / shorter
    return min(sizes, key=lambda name: abs(np.log(radius / sizes[name])))


def position_of(seen: Seen) -> str:
    dx, dy = seen.x - 0.5, seen.y - 0.5
    if max(abs(dx), abs(dy)) < POSITION_THRESHOLD:
        return "centre"
    if abs(dx) > 2 * abs(dy):
        return "left" if dx < 0 else "right"
    if abs(dy) > 2 * abs(dx):
        return "top" if dy < 0 else "bottom"
    return ""


def colour_name(value: npt.NDArray[np.float64]) -> str:
    name = min(COLOURS, key=lambda each: float(np.linalg.norm(value - np.array(COLOURS[each]))))
    return name if np.linalg.norm(value - np.array(COLOURS[name])) <= COLOUR_DISTANCE else ""


def _is_apart(seen: Seen, relation: str) -> bool:
    """Whether an object stays in the middle of its half, across the direction in which the pair is set."""
    across = seen.y if relation in ("left of", "right of") else seen.x
    return abs(across - 0.5) < 2 * POSITION_THRESHOLD


def _surrounds(values: npt.NDArray[np.float64], shape: str, shorter: int, background: npt.NDArray[np.float64]) -> bool:
    """Whether the inside of this outlined shape has the colour of the background."""
    height, width = values.shape[:2]
    inside = _perfect(shape, width, height, None) & ~_perfect(shape, width, height, shorter)
    if not inside.any():
        return False
    return colour_name(np.median(values[inside], axis=0)) == colour_name(background) != ""


@cache
def _perfect(shape: str, width: int, height: int, outlined_in: int | None) -> Mask:
    """A perfect drawing of the shape that fills a box of this many pixels."""
    scale = 8
    unit = 64
    full_width, full_height = extent(shape)
    box = (round(full_width * unit), round(full_height * unit))
    image = Image.new("L", box, 0)
    left, top = _corner(shape)
    pen, centre = ImageDraw.Draw(image), (-left * unit, -top * unit)
    if outlined_in is None:
        draw_shape(pen, shape, centre, unit, 255, 0)
    else:
        radius = (width * height / (full_width * full_height)) ** 0.5
        draw_outline(pen, shape, centre, unit, outlined_in * unit / radius, 255)
    resized = image.resize((width * scale, height * scale), Image.Resampling.BILINEAR).reduce(scale)
    mask: Mask = np.asarray(resized) > 127
    return mask


@cache
def _corner(shape: str) -> tuple[float, float]:
    points = outlines(shape)[0][0]
    return min(x for x, _ in points), min(y for _, y in points)
