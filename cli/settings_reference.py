"""The tables of all settings, from the classes that read them: `python -m cli.settings_reference docs/settings.md`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from api.settings import ApiSettings
from cli.generated_tables import between_marks, cell, values_of
from storage.settings import Settings
from worker.settings import WorkerSettings

KINDS: dict[Any, str] = {
    str: "text",
    SecretStr: "text (secret)",
    Path: "file",
    int: "whole number",
    float: "number",
    bool: "`true` or `false`",
}
# Who reads the settings of a class; the roles' own classes inherit the shared ones.
PARTS: dict[str, type[Settings]] = {
    "All parts: API, worker and courier": Settings,
    "The API": ApiSettings,
    "The worker": WorkerSettings,
}


def with_tables(page: str) -> str:
    """The page with fresh tables between its marks. Raises ValueError if it has no marks."""
    return between_marks(page, tables())


def tables() -> str:
    """Markdown: a heading and a table for each part."""
    return "\n".join(_section(heading, part) for heading, part in PARTS.items())


def _section(heading: str, part: type[Settings]) -> str:
    rows = [f"## {heading}", "", "| setting | value | default | meaning |", "|---|---|---|---|", *_rows(part)]
    return "".join(f"{row}\n" for row in rows)


def _rows(part: type[Settings]) -> Iterator[str]:
    for name, field in part.model_fields.items():
        if part is Settings or name not in Settings.model_fields:
            yield f"| `{name.upper()}` | {_values(field)} | {_default(field)} | {cell(field.description or '')} |"


def _values(field: FieldInfo) -> str:
    if get_origin(field.annotation) is tuple:
        return "numbers, comma-separated"
    patterns = [pattern for each in field.metadata if (pattern := getattr(each, "pattern", None))]
    if patterns:
        (choices,) = re.findall(r"^\^\(([\w|]+)\)\$$", patterns[0])
        return ", ".join(f"`{choice}`" for choice in choices.split("|"))
    return values_of(field, KINDS)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    written = _written(field.default)
    return f"`{written}`" if written else ""


def _written(value: object) -> str:
    """A value as one writes it in the environment."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    return f"{value:g}" if isinstance(value, float) and value < 1e6 else str(value)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
