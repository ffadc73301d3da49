"""Checking a body against its schema. An error names the field, its value and what was expected."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from api.errors import InvalidInput

SHOWN_CHARS = 60
NUMBER = re.compile(r"\s*-?[0-9]+(\.[0-9]*)?\s*")

Schema = TypeVar("Schema", bound=BaseModel)


def validated(schema: type[Schema], given: dict[str, Any], *, prefix: str | None = None) -> Schema:
    """The object, typed. Raises InvalidInput for its first problem; `prefix` is where in the body the object stands."""
    try:
        return schema.model_validate(given)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        path = ".".join([*([prefix] if prefix else []), *_path_in(given, problem)])
        if problem["type"] == "missing":
            raise InvalidInput(path, "is required") from None
        hint = "; write it without quotes" if _is_quoted_number(problem) else ""
        said = problem["msg"].removeprefix("Value error, ")  # pydantic's words before ours
        raise InvalidInput(path or "body", f"{said} (got {shown(problem['input'])}){hint}") from None


def shown(value: object) -> str:
    """The value as its sender knows it: null and true, not None and True."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def shown_name(name: str) -> str:
    """The name of an input as a client sent it, fit for `logs`: without what Postgres or a terminal chokes on."""
    text = name if name.isprintable() else repr(name)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"


def _path_in(given: object, problem: ErrorDetails) -> list[str]:
    """Where the problem is, in the client's words: pydantic puts what it tried for a value among the names."""
    path: list[str] = []
    here: object = given
    last = len(problem["loc"]) - 1
    for number, part in enumerate(problem["loc"]):
        if isinstance(part, int):
            here = here[part] if isinstance(here, (list, tuple)) and part < len(here) else None
        elif isinstance(here, dict) and (part in here or (problem["type"] == "missing" and number == last)):
            here = here.get(part)
        else:
            continue
        path.append(str(part))
    return path


def _is_quoted_number(problem: ErrorDetails) -> bool:
    """As forms and templates send numbers. Replicate refuses them too."""
    is_number = problem["type"] in ("int_type", "float_type")
    return is_number and isinstance(problem["input"], str) and NUMBER.fullmatch(problem["input"]) is not None
