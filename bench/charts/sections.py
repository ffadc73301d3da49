"""Which charts a section of docs/benchmarks.md has: those of a table that is easier seen than read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bench.charts.svg import Bars
from bench.charts.tables import Table, number, tables


def charts_of(section: str, text: str) -> dict[str, Bars]:
    """By the name of the file, without its ending; none if the section has no figures yet.

    Raises KeyError if a table has no such column.
    """
    found = list(tables(text))
    if not found or section not in CHARTS:
        return {}
    return {name: draw(found) for name, draw in CHARTS[section].items()}


def _columns(table: Table, title: str, unit: str, columns: Mapping[str, str], *, stacked: bool = False) -> Bars:
    """A bar for each row and column; `columns`: the name of the series by that of the column."""
    series = {name: [number(row[table.column(column)]) for row in table.rows] for column, name in columns.items()}
    return Bars(title, unit, [row[0] for row in table.rows], series, stacked)


def _sides(
    table: Table, title: str, unit: str, column: str, *, label: int, side: int, name_of: Callable[[str], str] = str
) -> Bars:
    """A group of bars for what the column `label` says, in it a bar for what the column `side` says."""
    at = table.column(column)
    rows = [row for row in table.rows if "÷" not in row[side]]
    labels = list(dict.fromkeys(row[label] for row in rows))
    values = {(row[label], row[side]): number(row[at]) for row in rows}
    series = {name: [values.get((each, name)) for each in labels] for name in dict.fromkeys(row[side] for row in rows)}
    return Bars(title, unit, [name_of(each) for each in labels], series)


def _counted(label: str, what: str) -> str:
    """`what` in the singular."""
    return f"{label} {what}{'' if label == '1' else 's'}"


def _submit(found: Sequence[Table], title: str, unit: str, column: str) -> Bars:
    return _sides(found[0], title, unit, column, label=0, side=1, name_of=lambda count: _counted(count, "connection"))


def _pickup(found: Sequence[Table]) -> Bars:
    title = "From a POST to its drawing: less is better"
    return _columns(found[0], title, "milliseconds", {"begins p50, ms": "median", "begins p99, ms": "99 % are below"})


def _model_servers(found: Sequence[Table], title: str, unit: str, column: str) -> Bars:
    return _sides(found[0], title, unit, column, label=0, side=1, name_of=lambda count: _counted(count, "client"))


def _overhead(found: Sequence[Table]) -> Bars:
    """The parts of the first row."""
    names = ("the drawing in a plain script", "the upload", "what Darkroom adds")
    parts = [number(row[1]) for row in found[0].rows[1:]]
    series = {name: [part] for name, part in zip(names, parts, strict=True)}
    return Bars("Where the time of a picture goes", "milliseconds", ["one picture"], series, stacked=True)


def _growth(found: Sequence[Table]) -> Bars:
    """The ratios, which stand behind the medians."""
    table = found[0]
    series = {state: [_ratio(row[place]) for row in table.rows] for place, state in enumerate(table.head) if place > 1}
    title = "As the database fills: times what an empty one takes (1 is the same)"
    return Bars(title, "median time, as a multiple", [row[0] for row in table.rows], series)


def _ratio(cell: str) -> float | None:
    return number(cell.partition("(")[2])


def _memory(found: Sequence[Table]) -> Bars:
    table = Table(found[0].head, found[0].rows[:-1])  # without the sum
    return _columns(table, "Memory at rest, by part", "MB (shared memory counted once)", {"PSS, MB": "PSS"})


def _input_images(found: Sequence[Table]) -> Bars:
    title = "What a picture of 12 million pixels costs at the POST: less is better"
    return _columns(found[0], title, "milliseconds, median", {"median ms": "median"})


def _engine(found: Sequence[Table], title: str, column: str) -> Bars:
    title = f"{title} from arrival to the picture, by how drawings share the device: less is better"
    return _sides(found[0], title, "seconds", column, label=0, side=1, name_of=lambda load: f"{load} x capacity")


def _cold_start(found: Sequence[Table]) -> Bars:
    title = "From zero to the first picture, by where the weights are: less is better"
    return _sides(found[0], title, "seconds, median", "p50, s", label=1, side=0)


def _cold_start_phases(found: Sequence[Table]) -> Bars:
    phases = {name: name.replace("_", " ") for name in found[1].head[1:]}
    title = "From zero to the first picture, by phase"
    return _columns(found[1], title, "milliseconds, medians, with the weights in memory", phases, stacked=True)


def _bursts(found: Sequence[Table]) -> Bars:
    states = ("drawing", "loading", "claims and uploads", "idle", "leaving")
    title = "How long the device is held for 70 pictures, and what for: less is better"
    return _columns(found[0], title, "seconds", {f"{state}, s": state for state in states}, stacked=True)


CHARTS: dict[str, dict[str, Callable[[Sequence[Table]], Bars]]] = {
    "submit": {
        "submit": lambda found: _submit(found, "Submits: more is better", "requests a second", "requests/s"),
        "submit_p99": lambda found: _submit(
            found, "The slowest 1 % of submits: less is better", "milliseconds, 99 % are below", "p99 ms"
        ),
    },
    "pickup": {"pickup": _pickup},
    "model_servers": {
        "model_servers": lambda found: _model_servers(
            found, "Pictures a second: more is better", "pictures a second", "pictures/s"
        ),
        "model_servers_p99": lambda found: _model_servers(
            found, "The longest waits for a picture: less is better", "seconds, 99 % are below", "p99, s"
        ),
    },
    "overhead": {"overhead": _overhead},
    "growth": {"growth": _growth},
    "memory": {"memory": _memory},
    "input_images": {"input_images": _input_images},
    "engine": {
        "engine": lambda found: _engine(found, "Mean time", "mean, s"),
        "engine_p95": lambda found: _engine(found, "Time of the slowest 5 %", "p95, s"),
    },
    "cold_start": {"cold_start": _cold_start, "cold_start_phases": _cold_start_phases},
    "bursts": {"bursts": _bursts},
}
