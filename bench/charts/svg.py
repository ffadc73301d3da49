"""Bars as SVG, for pages that are light or dark: no scripts, no fonts or addresses of others, no chance, no date."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, MARGIN = 760, 14
BAR, BETWEEN_BARS, BETWEEN_LABELS = 15, 2, 12
TOP, LINE = 44, 20  # where the bars begin; the height of a line of text
LETTER = 6.7  # about the width of a letter: nobody knows the font of the reader
ROOM_FOR_VALUE = 54
TICKS_AT_MOST = 7
# GitHub's own colours for text, and hues that are told apart without seeing red or green, on white and on black.
COLOURS = ("#0969da", "#bf8700", "#8250df", "#1a7f7a", "#cf222e", "#6e7781", "#d4a5d9", "#57606a", "#54aeff")
STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-size: 15px; font-weight: 600; }
.middle { text-anchor: middle; }
.end { text-anchor: end; }
path { stroke: #8b949e; stroke-opacity: .35; }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3; } }
"""


@dataclass(frozen=True)
class Bars:
    """Bars from left to right, below each other. A series has a value for each label; None where there is none."""

    title: str
    unit: str  # what the axis says
    labels: Sequence[str]
    series: Mapping[str, Sequence[float | None]]
    stacked: bool = False

    @property
    def longest(self) -> float:
        rows = [[max(0.0, value or 0.0) for value in row] for row in zip(*self.series.values(), strict=True)]
        return max(sum(row) if self.stacked else max(row) for row in rows) or 1.0

    @property
    def label_height(self) -> int:
        """Of the bars that belong to one label."""
        bars = 1 if self.stacked else len(self.series)
        return bars * BAR + (bars - 1) * BETWEEN_BARS


def svg(bars: Bars) -> str:
    """The same text for the same figures."""
    left = MARGIN + LETTER * max(len(label) for label in bars.labels) + 8
    scale = (WIDTH - left - ROOM_FOR_VALUE - MARGIN) / bars.longest
    bottom = TOP + len(bars.labels) * (bars.label_height + BETWEEN_LABELS)
    legend = list(_legend(bars, left, bottom + 3 * LINE)) if len(bars.series) > 1 else []
    height = bottom + 2 * LINE + MARGIN + (LINE * _rows_of(bars, left) if legend else 0)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img">',
        f"<title>{escape(bars.title)} ({escape(bars.unit)})</title>",
        f"<style>{STYLE}</style>",
        _text(WIDTH / 2, 24, bars.title, "title middle"),
        *_axis(bars, left, bottom, scale),
        *_bars(bars, left, scale),
        *legend,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _axis(bars: Bars, left: float, bottom: int, scale: float) -> Iterator[str]:
    step = _step(bars.longest)
    for number in range(math.floor(bars.longest / step) + 1):
        x = left + number * step * scale
        yield f'<path d="M{x:.1f} {TOP - 6}V{bottom}"/>'
        yield _text(x, bottom + 15, f"{number * step:,g}", "middle")
    yield _text((left + WIDTH - MARGIN) / 2, bottom + 15 + LINE, bars.unit, "middle")


def _step(longest: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(longest / TICKS_AT_MOST))
    return next(power * each for each in (1, 2, 5, 10) if longest / (power * each) < TICKS_AT_MOST)


def _bars(bars: Bars, left: float, scale: float) -> Iterator[str]:
    for place, label in enumerate(bars.labels):
        top = TOP + place * (bars.label_height + BETWEEN_LABELS)
        yield _text(left - 8, top + bars.label_height / 2 + 4, label, "end")
        x, y = left, float(top)
        for colour, values in zip(COLOURS, bars.series.values(), strict=False):
            value = max(0.0, values[place] or 0.0)
            yield _rect(x, y, value * scale, BAR, colour)
            if bars.stacked:
                x += value * scale
                continue
            if values[place] is not None:
                yield _text(x + value * scale + 5, y + BAR - 3, f"{values[place]:,g}")
            y += BAR + BETWEEN_BARS


def _legend(bars: Bars, left: float, top: int) -> Iterator[str]:
    for row, x, colour, name in _places(bars, left):
        y = top + row * LINE
        yield _rect(x, y - 10, 12, 12, colour)
        yield _text(x + 17, y, name)


def _places(bars: Bars, left: float) -> Iterator[tuple[int, float, str, str]]:
    """Row, x, colour and name of each series: as many in a row as there is room for."""
    row, x = 0, left
    for colour, name in zip(COLOURS, bars.series, strict=False):
        width = 17 + LETTER * len(name) + 16
        if x > left and x + width > WIDTH:
            row, x = row + 1, left
        yield row, x, colour, name
        x += width


def _rows_of(bars: Bars, left: float) -> int:
    return 1 + max(row for row, *_ in _places(bars, left))


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    known = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{known}>{escape(text)}</text>'


def _rect(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'
