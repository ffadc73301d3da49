"""The table of all keys of models.toml, from the classes that read it: `python -m cli.catalog_keys docs/models.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from cli.generated_tables import between_marks, cell, values_of
from storage.catalog import Model

KINDS: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def with_table(page: str) -> str:
    """The page with a fresh table between its marks. Raises ValueError if it has no marks."""
    return between_marks(page, table())


def table() -> str:
    """Markdown: one row for each key."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|", *_rows(Model)]
    return "".join(f"{row}\n" for row in rows)


def _rows(part: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in part.model_fields.items():
        if name == "name" and not prefix:
            continue
        named = _tables_by_name(field.annotation)
        inner = named or _table(field.annotation)
        default = "" if inner is not None or field.is_required() else f"`{_toml(field.default)}`"
        meaning = cell(field.description or "")
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "key" in extra:  # its name is the operator's: this is an example
            yield f"| `{prefix}{extra['key']}` | whole number |  | {meaning} |"
            continue
        yield f"| `{prefix}{name}` | {_kind(field) if inner is None else 'table'} | {default} | {meaning} |"
        if inner is not None:
            yield from _rows(inner, f'{prefix}{name}."<name>".' if named else f"{prefix}{name}.")


def _tables_by_name(annotation: Any) -> type[BaseModel] | None:
    """The class of the tables in a key that holds several, each under a name of its own."""
    return _table(get_args(annotation)[1]) if get_origin(annotation) is dict else None


def _table(annotation: Any) -> type[BaseModel] | None:
    """The class of a key that is a table of its own."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _kind(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{_toml(choice)}`" for choice in get_args(field.annotation))
    if get_origin(field.annotation) is tuple:
        return "list of texts"
    return values_of(field, KINDS)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
