"""The table of all keys of models.toml, from the classes that read it: `python -m cli.catalog_keys docs/models.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from storage.catalog import Model

BEGIN = "<!-- The table is generated: run `make docs`. -->\n"
END = "<!-- End of the generated table. -->\n"
KINDS: dict[Any, str] = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def with_table(page: str) -> str:
    """The page with a fresh table between its marks. Raises ValueError where it has none."""
    before, found, rest = page.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}{table()}{END}{after}"


def table() -> str:
    """Markdown: one row for each key."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|", *_rows(Model)]
    return "".join(f"{row}\n" for row in rows)


def _rows(part: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in part.model_fields.items():
        if name == "name" and not prefix:
            continue
        inner = _table(field.annotation)
        default = f"`{_toml(field.default)}`" if inner is None else ""
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{prefix}{name}` | {_kind(field) if inner is None else 'table'} | {default} | {meaning} |"
        if inner is not None:
            yield from _rows(inner, f"{prefix}{name}.")


def _table(annotation: Any) -> type[BaseModel] | None:
    """The class of a key that is a table of its own."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _kind(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{_toml(choice)}`" for choice in get_args(field.annotation))
    if get_origin(field.annotation) is tuple:
        return "list of texts"
    bounds = [_bound(each) for each in field.metadata if isinstance(each, Ge | Gt | Le)]
    return " ".join([KINDS[field.annotation], *bounds])


def _bound(bound: Ge | Gt | Le) -> str:
    if isinstance(bound, Ge):
        return f"from {bound.ge}"
    return f"above {bound.gt}" if isinstance(bound, Gt) else f"to {bound.le}"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_table(page.read_text(encoding="utf-8")), encoding="utf-8")
