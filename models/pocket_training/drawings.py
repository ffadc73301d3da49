"""Draws a scene with PIL, supersampled: the pictures that the model learns from."""

import math
import random
from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .scenes import Scene, place_things
from .vocabulary import COLOURS, SHAPES

SUPERSAMPLING = 4
LEAST_STROKE = 1 / 32
"""Of the picture's shorter side: 4 pixels of 128. The VAE loses the colour of thinner lines."""

STROKE = 0.2
"""Of a shape's radius."""

Pixels = npt.NDArray[np.uint8]
Point = tuple[float, float]


def draw_scene(scene: Scene, width: int, height: int, rng: random.Random, *, outlined: bool = False) -> Pixels:
    """The picture as (height, width, 3) bytes; `rng` decides the jitter only. Shapes are filled or `outlined`."""
    scale = SUPERSAMPLING
    image = Image.new("RGB", (width * scale, height * scale), COLOURS[scene.background])
    pen = ImageDraw.Draw(image)
    for thing, place in zip(scene.things, place_things(scene, width, height, rng), strict=True):
        radius = place.radius * min(width, height) * scale
        centre = (place.x * width * scale, place.y * height * scale)
        if outlined:
            draw_outline(pen, thing.shape, centre, radius, min(width, height) * scale, COLOURS[thing.colour])
        else:
            draw_shape(pen, thing.shape, centre, radius, COLOURS[thing.colour], COLOURS[scene.background])
    return np.asarray(image.reduce(scale))


def draw_crowd(side: int, rng: random.Random) -> Pixels:
    """Many small shapes anywhere: full of edges and corners, so a VAE learns quicker from it than from scenes."""
    colours = list(COLOURS.values())
    image = Image.new("RGB", (side * SUPERSAMPLING,) * 2, rng.choice(colours))
    pen = ImageDraw.Draw(image)
    for _ in range(rng.randint(3, 6)):
        radius = rng.uniform(7, 22) * SUPERSAMPLING
        centre = (rng.uniform(0, side) * SUPERSAMPLING, rng.uniform(0, side) * SUPERSAMPLING)
        draw_shape(pen, rng.choice(SHAPES), centre, radius, rng.choice(colours), rng.choice(colours))
    return np.asarray(image.reduce(SUPERSAMPLING))


def draw_shape(
    pen: ImageDraw.ImageDraw,
    shape: str,
    centre: Point,
    radius: float,
    colour: tuple[int, int, int] | int,
    hole_colour: tuple[int, int, int] | int,
) -> None:
    """One filled shape; a ring's hole is painted in `hole_colour`."""
    x, y = centre
    for points, is_hole in outlines(shape):
        fill = hole_colour if is_hole else colour
        pen.polygon([(x + px * radius, y + py * radius) for px, py in points], fill=fill)


def draw_outline(
    pen: ImageDraw.ImageDraw,
    shape: str,
    centre: Point,
    radius: float,
    shorter_side: float,
    colour: tuple[int, int, int] | int,
) -> None:
    """One shape as a line along the inside of its edge; a ring is two circles."""
    x, y = centre
    width = max(1, round(max(STROKE * radius, LEAST_STROKE * shorter_side)))
    for points, _ in outlines(shape):
        pen.polygon([(x + px * radius, y + py * radius) for px, py in points], outline=colour, width=width)


@cache
def outlines(shape: str) -> list[tuple[list[Point], bool]]:
    """Polygons of a shape of radius 1 round (0, 0), y pointing down, each with whether it is a hole."""
    if shape == "circle":
        return [(_ellipse(1.0), False)]
    if shape == "ring":
        return [(_ellipse(1.0), False), (_ellipse(0.52), True)]
    if shape == "square":
        return [([(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)], False)]
    if shape == "diamond":
        return [([(0.0, -1.12), (0.76, 0.0), (0.0, 1.12), (-0.76, 0.0)], False)]
    if shape == "triangle":
        return [([(0.0, -0.98), (1.06, 0.86), (-1.06, 0.86)], False)]
    if shape == "cross":
        arm, half = 1.0, 0.34
        corners = [(-half, -arm), (half, -arm), (half, -half), (arm, -half), (arm, half), (half, half)]
        return [(corners + [(-px, -py) for px, py in corners], False)]
    if shape == "star":
        tips = [(-math.pi / 2 + i * math.pi / 5, 1.16 if i % 2 == 0 else 0.5) for i in range(10)]
        return [([(r * math.cos(a), r * math.sin(a) + 0.06) for a, r in tips], False)]
    if shape == "heart":
        angles = [2 * math.pi * i / 90 for i in range(90)]
        return [([_heart(angle) for angle in angles], False)]
    raise ValueError(f"no outline for a {shape!r}")


def extent(shape: str) -> tuple[float, float]:
    """Width and height of a shape of radius 1."""
    points = outlines(shape)[0][0]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return max(xs) - min(xs), max(ys) - min(ys)


def _ellipse(radius: float) -> list[Point]:
    angles = [2 * math.pi * i / 90 for i in range(90)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _heart(angle: float) -> Point:
    x = 16 * math.sin(angle) ** 3
    y = 13 * math.cos(angle) - 5 * math.cos(2 * angle) - 2 * math.cos(3 * angle) - math.cos(4 * angle)
    return x / 15.6, -(y + 2.5) / 15.0
