"""Option types for numbers, whose errors say which numbers are expected."""

from __future__ import annotations

from typing import Any

import click


class WholeNumber(click.IntRange):
    """As IntRange; `'abc' is not a whole number from 1 to 65535`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return int(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is not a whole number{_bounds(self.min, self.max)}", param, ctx)


class Number(click.FloatRange):
    """As FloatRange; `'abc' is not a number from 0`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(super().convert(value, param, ctx))
        except click.BadParameter:
            self.fail(f"{value!r} is not a number{_bounds(self.min, self.max)}", param, ctx)


def _bounds(least: float | None, most: float | None) -> str:
    return (f" from {least:g}" if least is not None else "") + (f" to {most:g}" if most is not None else "")
