"""What the generated tables of the docs share: the marks around them, and how a field's values are described."""

from __future__ import annotations

from collections.abc import Mapping
from types import UnionType
from typing import Any, get_args

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

BEGIN = "<!-- The table is generated: run `make docs`. -->\n"
END = "<!-- End of the generated table. -->\n"


def between_marks(page: str, tables: str) -> str:
    """The page with these tables between its marks. Raises ValueError if it has no marks."""
    before, found, rest = page.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}{tables}{END}{after}"


def values_of(field: FieldInfo, kinds: Mapping[Any, str]) -> str:
    """The kind of its values, with their bounds: "whole number from 1 to 10"."""
    bounds = [_bound(each) for each in field.metadata if isinstance(each, Ge | Gt | Le)]
    return " ".join([kinds[_without_none(field.annotation)], *bounds])


def cell(text: str) -> str:
    """Text as it may stand in a cell of a Markdown table."""
    return text.replace("|", "\\|")


def _without_none(annotation: Any) -> Any:
    if isinstance(annotation, UnionType):
        (annotation,) = (each for each in get_args(annotation) if each is not type(None))
    return annotation


def _bound(bound: Ge | Gt | Le) -> str:
    if isinstance(bound, Ge):
        return f"from {_number(bound.ge)}"
    return f"above {_number(bound.gt)}" if isinstance(bound, Gt) else f"to {_number(bound.le)}"


def _number(value: Any) -> str:
    """Without the ".0" of a whole number."""
    return f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)
